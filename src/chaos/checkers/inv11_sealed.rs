//! INV-11: no personal data outside its seal.

use super::history::History;

/// Every name, message and address of a run with personal data contains this.
pub const CANARY: &[u8] = b"\x7ecanary";

/// The first place where personal data was found in the clear.
#[must_use]
pub fn check(history: &History) -> Option<String> {
    history.leaks.first().map(|leak| format!("personal data of {:?} in {}", leak.gift, leak.place))
}

/// Whether bytes hold personal data of a run.
#[must_use]
pub fn holds_canary(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == CANARY[0]) {
        rest = &rest[at..];
        if rest.starts_with(CANARY) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}
