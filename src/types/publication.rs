//! Domain events as the event stream publishes them: which topic, and what is said there. Never personal data (INV-11):
//! consumers live outside the seal.

use crate::types::codec::CodecError;
use crate::types::ids::EntityKind;
use serde_json::{Map, Value};

/// A named stream of events of one sort with the version of its contents, as `reservation.created.v1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(pub &'static str);

/// One event for the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    pub topic: Topic,
    /// What happened, as the timeline names it.
    pub event_type: String,
    /// When, RFC 3339.
    pub at: String,
    pub details: Map<String, Value>,
}

impl Publication {
    /// Takes an event as its kind describes it (`{"type": ..., "at": ..., ...}`), without the fields named in `hidden`.
    ///
    /// # Errors
    /// [`CodecError`]: the description lacks its type or instant.
    pub fn new(topic: Topic, described: Value, hidden: &[&str]) -> Result<Self, CodecError> {
        let what = CodecError { what: "a described event" };
        let Value::Object(mut details) = described else { return Err(what) };
        let mut text = |field: &str| match details.remove(field) {
            Some(Value::String(text)) => Ok(text),
            Some(_) | None => Err(what),
        };
        let (event_type, at) = (text("type")?, text("at")?);
        for field in hidden {
            details.remove(*field);
        }
        Ok(Self { topic, event_type, at, details })
    }
}

/// The registry's answer to what the events of one record say to the outside, in their order.
///
/// # Errors
/// [`CodecError`]: the bytes are not events of that kind.
pub type Publish = fn(EntityKind, &[u8]) -> Result<Vec<Publication>, CodecError>;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_hidden_and_what_has_a_field_of_its_own_is_not_among_the_details() {
        let described = json!({ "type": "cancelled", "at": "1970-01-01T00:00:00.001Z", "actor": "op", "code": "c" });
        let publication = Publication::new(Topic("t.v1"), described, &["actor"]).unwrap();
        assert_eq!(
            (publication.event_type.as_str(), publication.at.as_str()),
            ("cancelled", "1970-01-01T00:00:00.001Z")
        );
        assert_eq!(Value::Object(publication.details), json!({ "code": "c" }));
    }
}
