//! Golden bytes: what is on disk stays readable. A change here breaks every journal; append instead.
