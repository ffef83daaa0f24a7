//! Redaction: personal data cannot be printed by accident. Parsing of phones and addresses follows below it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Wraps personal data; `Debug` prints a placeholder, there is no `Display`.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Private<T>(pub T);

impl<T> fmt::Debug for Private<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<private>")
    }
}
