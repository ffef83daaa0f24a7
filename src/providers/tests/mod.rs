//! Each wire client against the documented bytes.
