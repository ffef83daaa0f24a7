//! Tests of the gift.
