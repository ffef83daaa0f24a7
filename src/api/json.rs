//! Reading a JSON body strictly, with all faults at once and a JSON pointer for each.
//!
//! serde's derive stops at the first fault and takes the last of two equal names; a caller wants every fault in one
//! reply and a duplicate name refused. [`parse`] makes a value and notes duplicates; [`Object`] hands out members by
//! type and, on [`Object::done`], names those that nobody asked for.

use crate::api::problem::{Code, Fault, Problem};
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

/// Faults of one request; stops counting at [`FAULTS_MAX`], so that a reply stays small.
#[derive(Debug, Default)]
pub struct Faults {
    found: RefCell<Vec<Fault>>,
}

/// Most faults that one reply names.
pub const FAULTS_MAX: usize = 50;

impl Faults {
    /// Notes a fault.
    pub fn add(&self, pointer: impl Into<String>, code: &'static str, detail: impl Into<Cow<'static, str>>) {
        let mut found = self.found.borrow_mut();
        if found.len() < FAULTS_MAX {
            found.push(Fault { pointer: pointer.into(), code, detail: detail.into() });
        }
    }

    /// Whether something was noted at `pointer` or below it.
    #[cfg(test)]
    pub fn any_at(&self, pointer: &str) -> bool {
        self.found.borrow().iter().any(|fault| fault.pointer.starts_with(pointer))
    }

    /// Notes a fault unless its member has one already.
    pub fn add_new(&self, pointer: impl Into<String>, code: &'static str, detail: impl Into<Cow<'static, str>>) {
        let pointer = pointer.into();
        if self.found.borrow().iter().all(|fault| fault.pointer != pointer) {
            self.add(pointer, code, detail);
        }
    }

    /// What was noted, for a judgement that goes on.
    #[must_use]
    pub fn into_found(self) -> Vec<Fault> {
        self.found.into_inner()
    }

    /// # Errors
    /// The validation problem, when anything was noted.
    pub fn check(self) -> Result<(), Problem> {
        let found = self.found.into_inner();
        if found.is_empty() { Ok(()) } else { Err(Problem::invalid(found)) }
    }
}

/// Parses a body. Duplicate names are faults; an empty body is an empty object.
///
/// # Errors
/// [`Code::MalformedJson`] for anything that is not one JSON value in UTF-8 of bounded depth.
pub fn parse(body: &[u8], faults: &Faults) -> Result<Value, Problem> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Object(Map::new()));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let seed = Strict { faults, pointer: String::new() };
    let value = seed.deserialize(&mut reader).map_err(|error| malformed(&error))?;
    reader.end().map_err(|error| malformed(&error))?;
    Ok(value)
}

fn malformed(error: &serde_json::Error) -> Problem {
    let (line, column) = (error.line(), error.column());
    Problem::because(Code::MalformedJson, format!("Not JSON in UTF-8: line {line}, column {column}."))
}

/// Builds a [`Value`] and notes duplicate names.
struct Strict<'a> {
    faults: &'a Faults,
    pointer: String,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let pointer = format!("{}/{}", self.pointer, items.len());
            match access.next_element_seed(Strict { faults: self.faults, pointer })? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            let pointer = below(&self.pointer, &name);
            let value = access.next_value_seed(Strict { faults: self.faults, pointer: pointer.clone() })?;
            if members.insert(name, value).is_some() {
                self.faults.add(pointer, "duplicate_field", "This member is given twice.");
            }
        }
        Ok(Value::Object(members))
    }
}

/// The pointer of a member, escaped as RFC 6901 wants and cut to a bounded length.
fn below(pointer: &str, name: &str) -> String {
    let escaped = name.replace('~', "~0").replace('/', "~1");
    let cut: String = escaped.chars().take(64).collect();
    format!("{pointer}/{cut}")
}

/// A JSON object being read. Every member that is asked for is taken out.
pub struct Object<'a> {
    members: Map<String, Value>,
    pointer: String,
    faults: &'a Faults,
}

impl<'a> Object<'a> {
    /// The root of a body; anything but an object is a fault.
    #[must_use]
    pub fn root(value: Value, faults: &'a Faults) -> Self {
        Self::at(value, String::new(), faults)
    }

    fn at(value: Value, pointer: String, faults: &'a Faults) -> Self {
        let members = match value {
            Value::Object(members) => members,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                faults.add(pointer.clone(), "wrong_type", "An object is expected here.");
                Map::new()
            }
        };
        Self { members, pointer, faults }
    }

    /// The pointer of a member.
    #[must_use]
    pub fn pointer(&self, name: &str) -> String {
        below(&self.pointer, name)
    }

    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// Whether the member is there and not `null`.
    #[must_use]
    pub fn given(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|value| !value.is_null())
    }

    /// Notes a fault of a member.
    pub fn fault(&self, name: &str, code: &'static str, detail: impl Into<Cow<'static, str>>) {
        self.faults.add(self.pointer(name), code, detail);
    }

    /// Notes a fault of something below a member, `channels/0`.
    pub fn fault_below(&self, path: &str, code: &'static str, detail: impl Into<Cow<'static, str>>) {
        self.faults.add(format!("{}/{path}", self.pointer), code, detail);
    }

    /// Notes a fault of the object itself.
    pub fn fault_here(&self, code: &'static str, detail: impl Into<Cow<'static, str>>) {
        self.faults.add(self.pointer.clone(), code, detail);
    }

    /// Notes a fault when the member is `null`, where absent is fine.
    pub fn refuse_null(&mut self, name: &str) {
        if self.members.get(name).is_some_and(Value::is_null) {
            self.fault(name, "required", "This cannot be removed.");
            self.members.remove(name);
        }
    }

    /// The member as it is; absent and `null` are both `None`.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name).filter(|value| !value.is_null())
    }

    /// An optional string.
    pub fn text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                self.wrong_type(name, "A string is expected here.")
            }
        }
    }

    /// A string that must be there.
    pub fn required_text(&mut self, name: &str) -> Option<String> {
        self.require(name)?;
        self.text(name)
    }

    /// An optional whole number.
    pub fn integer(&mut self, name: &str) -> Option<i64> {
        let value = self.take(name)?;
        match value.as_i64() {
            Some(number) => Some(number),
            None if value.is_u64() => {
                self.fault(name, "out_of_range", "This number is too large.");
                None
            }
            None => self.wrong_type(name, "A whole number is expected here."),
        }
    }

    /// A whole number that must be there.
    pub fn required_integer(&mut self, name: &str) -> Option<i64> {
        self.require(name)?;
        self.integer(name)
    }

    /// An optional truth value.
    pub fn flag(&mut self, name: &str) -> Option<bool> {
        match self.take(name)? {
            Value::Bool(flag) => Some(flag),
            Value::Null | Value::String(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                self.wrong_type(name, "true or false is expected here.")
            }
        }
    }

    /// An optional object; `None` when absent or not an object.
    pub fn object(&mut self, name: &str) -> Option<Object<'a>> {
        let value = self.take(name)?;
        if !value.is_object() {
            return self.wrong_type(name, "An object is expected here.");
        }
        Some(Object::at(value, self.pointer(name), self.faults))
    }

    /// An object that must be there.
    pub fn required_object(&mut self, name: &str) -> Option<Object<'a>> {
        self.require(name)?;
        self.object(name)
    }

    /// An optional list of strings, at most `items_max`. What is no string is a fault, and `None` in its place.
    pub fn texts(&mut self, name: &str, items_max: usize) -> Option<Vec<Option<String>>> {
        let Value::Array(items) = self.take(name)? else {
            return self.wrong_type(name, "A list is expected here.");
        };
        if items.len() > items_max {
            self.fault(name, "too_many", format!("At most {items_max} items."));
            return None;
        }
        let pointer = self.pointer(name);
        let mut texts = Vec::with_capacity(items.len());
        for (position, item) in items.into_iter().enumerate() {
            match item {
                Value::String(text) => texts.push(Some(text)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                    self.faults.add(format!("{pointer}/{position}"), "wrong_type", "A string is expected here.");
                    texts.push(None);
                }
            }
        }
        Some(texts)
    }

    /// A list of objects that must be there, 1 to `items_max`.
    pub fn required_objects(&mut self, name: &str, items_max: usize) -> Option<Vec<Object<'a>>> {
        self.require(name)?;
        let Value::Array(items) = self.take(name)? else {
            return self.wrong_type(name, "A list is expected here.");
        };
        if items.is_empty() || items.len() > items_max {
            self.fault(name, "out_of_range", format!("1 to {items_max} items."));
            return None;
        }
        let pointer = self.pointer(name);
        let object = |(position, item)| Object::at(item, format!("{pointer}/{position}"), self.faults);
        Some(items.into_iter().enumerate().map(object).collect())
    }

    /// Names every member that nobody took.
    pub fn done(self) {
        for name in self.members.keys() {
            self.faults.add(below(&self.pointer, name), "unknown_field", "There is no such member.");
        }
    }

    fn require(&self, name: &str) -> Option<()> {
        if self.members.get(name).is_none_or(Value::is_null) {
            // An explicit null is taken out later by `take`, so that it is not also called unknown.
            self.fault(name, "required", "This member must be given.");
        }
        self.members.contains_key(name).then_some(())
    }

    fn wrong_type<T>(&self, name: &str, detail: &'static str) -> Option<T> {
        self.fault(name, "wrong_type", detail);
        None
    }
}

/// Bytes that are equal for equal JSON, whatever its spacing and member order: what the fingerprint is taken of.
#[must_use]
pub fn canonical(value: &Value) -> Vec<u8> {
    // serde_json keeps objects as ordered maps, so the text is already canonical.
    serde_json::to_vec(value).expect("a parsed value serialises")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers(faults: Faults) -> Vec<(String, &'static str)> {
        faults.found.into_inner().into_iter().map(|fault| (fault.pointer, fault.code)).collect()
    }

    #[test]
    fn duplicates_unknowns_and_wrong_types_are_all_named_at_once() {
        let faults = Faults::default();
        let body = br#"{"a": 1, "a": 2, "b": "x", "c": {"d": true, "e/f": 1}, "g": 1e3}"#;
        let mut root = Object::root(parse(body, &faults).unwrap(), &faults);
        assert_eq!(root.text("a"), None);
        assert_eq!(root.text("b"), Some("x".to_owned()));
        assert_eq!(root.integer("g"), None);
        assert_eq!(root.required_text("missing"), None);
        let mut inner = root.object("c").unwrap();
        assert_eq!(inner.flag("d"), Some(true));
        inner.done();
        root.done();
        let expected = [
            ("/a", "duplicate_field"),
            ("/a", "wrong_type"),
            ("/g", "wrong_type"),
            ("/missing", "required"),
            ("/c/e~1f", "unknown_field"),
        ];
        assert_eq!(pointers(faults), expected.map(|(pointer, code)| (pointer.to_owned(), code)));
    }

    #[test]
    fn broken_bodies_are_malformed_and_deep_ones_do_not_overflow() {
        let deep = "[".repeat(100_000);
        let bodies: [&[u8]; 6] = [b"{", b"{} {}", b"\xff\xfe", br#""\ud800""#, deep.as_bytes(), b"nul"];
        for body in bodies {
            let problem = parse(body, &Faults::default()).unwrap_err();
            assert_eq!(problem.code, Code::MalformedJson);
        }
    }

    #[test]
    fn canonical_bytes_ignore_spacing_and_order() {
        let faults = Faults::default();
        let one = parse(br#"{"b": [1, 2], "a": null}"#, &faults).unwrap();
        let two = parse(b"{\"a\":null,\n\"b\":[1,2]}", &faults).unwrap();
        assert_eq!(canonical(&one), canonical(&two));
        let other = parse(br#"{"a": null, "b": [2, 1]}"#, &faults).unwrap();
        assert_ne!(canonical(&one), canonical(&other));
    }

    #[test]
    fn required_null_is_one_fault() {
        let faults = Faults::default();
        let mut root = Object::root(parse(br#"{"a": null}"#, &faults).unwrap(), &faults);
        assert_eq!(root.required_text("a"), None);
        root.done();
        assert_eq!(pointers(faults), [("/a".to_owned(), "required")]);
    }
}
