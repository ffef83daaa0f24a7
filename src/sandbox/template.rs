//! Templates as the provider knows them. The sandbox does not review templates: every code is approved, unless it
//! begins with `none_` (does not exist) or `unapproved_`.
//!
//! The text a person reads is the template's title and then each parameter on a line of its own, so that whatever the
//! sender filled in, a link above all, is on the ledger and on the console.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// Logical templates of the product, with the title that the recipient sees.
const TITLES: [(&str, &str); 8] = [
    ("gift_arrived", "🎁 선물이 도착했어요"),
    ("expires_in_days", "⏰ 선물 사용 기한이 다가와요"),
    ("sender_reserved", "📝 선물이 예약되었어요"),
    ("sender_sent", "📨 선물을 보냈어요"),
    ("sender_accepted", "🎉 선물을 받았어요"),
    ("sender_failed", "⚠️ 선물을 보내지 못했어요"),
    ("sender_refunded", "💳 환불되었어요"),
    ("sender_moved", "🕛 보내는 시각이 바뀌었어요"),
];

/// `templateParameter` (NHN) or `variables` (Solapi), in the order in which they came.
#[derive(Default)]
pub(crate) struct Parameters<'a>(pub Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl Parameters<'_> {
    pub(crate) fn characters(&self) -> usize {
        self.0.iter().map(|(_, value)| value.chars().count()).sum()
    }
}

/// A text that borrows from the body when it holds no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Parameters<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Parameters::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::with_capacity(map.size_hint().unwrap_or(8));
        while let Some((Text(name), Text(value))) = map.next_entry::<Text<'de>, Text<'de>>()? {
            pairs.push((name, value));
        }
        Ok(Parameters(pairs))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Parameters<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Pairs)
    }
}

/// What the recipient reads.
pub(crate) fn render(template: &str, parameters: &Parameters<'_>) -> String {
    let title = TITLES.iter().find(|(code, _)| *code == template).map_or(template, |(_, title)| *title);
    let mut text = String::with_capacity(title.len() + 32 * parameters.0.len() + 64);
    text.push_str(title);
    for (name, value) in &parameters.0 {
        let inner = name.strip_prefix("#{").and_then(|name| name.strip_suffix('}'));
        let name = inner.unwrap_or(name);
        text.push('\n');
        if !is_link(value) {
            text.push_str(name);
            text.push_str(": ");
        }
        text.push_str(value);
    }
    text
}

pub(crate) fn is_link(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_keep_their_order_and_borrow() {
        let json = r##"{"#{product}":"커피","link":"http://x/g/1","b":"a\"b"}"##;
        let parameters: Parameters<'_> = serde_json::from_str(json).unwrap();
        assert!(matches!(parameters.0[0].1, Cow::Borrowed("커피")));
        assert_eq!(parameters.characters(), 2 + 12 + 3);
        assert_eq!(render("gift_arrived", &parameters), "🎁 선물이 도착했어요\nproduct: 커피\nhttp://x/g/1\nb: a\"b");
        assert_eq!(render("other", &Parameters::default()), "other");
        assert!(serde_json::from_str::<Parameters<'_>>("null").unwrap().0.is_empty());
        assert!(serde_json::from_str::<Parameters<'_>>(r#"{"a":1}"#).is_err());
    }
}
