//! The state of a kind that grew after it had shipped. The encoding names no fields (ADR-2), so what is new cannot be
//! added to a struct; it is kept beside, and its presence is a new tag ([`Stored`]), or behind the whole ([`Grown`]). A state
//! without it has the bytes that it always had.

use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;

/// A state as it is written. Tags 0 and 1 are those of an `Option`. `M` is what came later still.
#[derive(Serialize)]
pub enum StoredRef<'a, T, B, M = ()> {
    Nothing,
    Plain(&'a T),
    With(&'a T, &'a B),
    More(&'a T, Option<&'a B>, &'a M),
}

/// A state as it is read.
#[derive(Deserialize)]
pub enum Stored<T, B, M = ()> {
    Nothing,
    Plain(Box<T>),
    With(Box<T>, B),
    More(Box<T>, Option<B>, M),
}

impl<'a, T, B> StoredRef<'a, T, B> {
    /// `beside` is written when there is any.
    #[must_use]
    pub fn of(state: Option<(&'a T, Option<&'a B>)>) -> Self {
        match state {
            None => Self::Nothing,
            Some((state, None)) => Self::Plain(state),
            Some((state, Some(beside))) => Self::With(state, beside),
        }
    }

    /// The same with `more`, which is written when there is any.
    #[must_use]
    pub fn with_more<M>(self, more: Option<&'a M>) -> StoredRef<'a, T, B, M> {
        match (self, more) {
            (Self::Nothing, _) => StoredRef::Nothing,
            (Self::Plain(state) | Self::More(state, None, ()), None) => StoredRef::Plain(state),
            (Self::With(state, beside) | Self::More(state, Some(beside), ()), None) => StoredRef::With(state, beside),
            (Self::Plain(state) | Self::More(state, None, ()), Some(more)) => StoredRef::More(state, None, more),
            (Self::With(state, beside) | Self::More(state, Some(beside), ()), Some(more)) => {
                StoredRef::More(state, Some(beside), more)
            }
        }
    }
}

impl<T, B, M> Stored<T, B, M> {
    /// What there is, and what is beside it.
    #[must_use]
    pub fn into_parts(self) -> Option<(Box<T>, Option<B>)> {
        self.into_all_parts().map(|(state, beside, _)| (state, beside))
    }

    /// The same, and what came later.
    #[must_use]
    pub fn into_all_parts(self) -> Option<(Box<T>, Option<B>, Option<M>)> {
        match self {
            Self::Nothing => None,
            Self::Plain(state) => Some((state, None, None)),
            Self::With(state, beside) => Some((state, Some(beside), None)),
            Self::More(state, beside, more) => Some((state, beside, Some(more))),
        }
    }
}

/// A state as it is written, with what it has grown behind it; for a whole value only, nothing may follow it.
pub struct GrownRef<'a, T, B>(&'a T, Option<&'a B>);

impl<'a, T, B> GrownRef<'a, T, B> {
    /// `behind` is written when there is any.
    #[must_use]
    pub fn of(state: &'a T, behind: Option<&'a B>) -> Self {
        Self(state, behind)
    }
}

/// A state as it is read: one that ends where it always did has nothing behind it.
pub struct Grown<T, B>(pub T, pub Option<B>);

/// Stands before what is behind a state.
const GROWN: u8 = 1;

impl<T: Serialize, B: Serialize> Serialize for GrownRef<'_, T, B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(state, behind) = self;
        let mut parts = serializer.serialize_tuple(if behind.is_some() { 3 } else { 1 })?;
        parts.serialize_element(state)?;
        if let Some(behind) = behind {
            parts.serialize_element(&GROWN)?;
            parts.serialize_element(behind)?;
        }
        parts.end()
    }
}

impl<'de, T: Deserialize<'de>, B: Deserialize<'de>> Deserialize<'de> for Grown<T, B> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(3, GrownVisitor(PhantomData))
    }
}

struct GrownVisitor<T, B>(PhantomData<fn() -> (T, B)>);

impl<'de, T: Deserialize<'de>, B: Deserialize<'de>> Visitor<'de> for GrownVisitor<T, B> {
    type Value = Grown<T, B>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a state, and what is behind it")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
        let missing = |what| A::Error::custom(format_args!("no {what}"));
        let state = parts.next_element()?.ok_or_else(|| missing("state"))?;
        // Any byte is a mark, so that only the end of the bytes can be in the way of reading one.
        match parts.next_element::<u8>() {
            Ok(None) | Err(_) => Ok(Grown(state, None)),
            Ok(Some(GROWN)) => Ok(Grown(state, Some(parts.next_element()?.ok_or_else(|| missing("part behind it"))?))),
            Ok(Some(_unknown)) => Err(A::Error::custom("an unknown mark behind a state")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::codec;

    #[test]
    fn without_anything_beside_it_the_bytes_are_those_of_an_option() {
        let state = (7u32, "a".to_owned());
        type Written<'a> = StoredRef<'a, (u32, String), u8>;
        assert_eq!(codec::encode(&Written::of(None)), codec::encode(&None::<(u32, String)>));
        assert_eq!(codec::encode(&Written::of(Some((&state, None)))), codec::encode(&Some(state.clone())));
        let with = codec::encode(&Written::of(Some((&state, Some(&9)))));
        assert_eq!(hex::encode(&with), "0207016109");
        let read: Stored<(u32, String), u8> = codec::decode(&with).unwrap();
        let (known, beside) = read.into_parts().unwrap();
        assert_eq!((*known, beside), (state.clone(), Some(9)));
        let more = |beside| codec::encode(&StoredRef::of(Some((&state, beside))).with_more(Some(&vec![5u8])));
        assert_eq!([more(None), more(Some(&9u8))].map(hex::encode), ["03070161000105", "0307016101090105"]);
        let read: Stored<(u32, String), u8, Vec<u8>> = codec::decode(&more(Some(&9))).unwrap();
        assert_eq!(read.into_all_parts(), Some((Box::new(state.clone()), Some(9), Some(vec![5]))));
        let old: Stored<(u32, String), u8> = codec::decode(&codec::encode(&Some(state))).unwrap();
        assert!(matches!(old, Stored::Plain(_)));
    }

    #[test]
    fn what_is_behind_a_state_is_found_and_a_state_of_before_ends_where_it_did() {
        let state = ("a".to_owned(), 7i64);
        type Written<'a> = GrownRef<'a, (String, i64), Vec<u16>>;
        type Read = Grown<(String, i64), Vec<u16>>;
        assert_eq!(codec::encode(&Written::of(&state, None)), codec::encode(&state));
        let Grown(known, behind): Read = codec::decode(&codec::encode(&state)).unwrap();
        assert_eq!((known, behind), (state.clone(), None));
        let with = codec::encode(&Written::of(&state, Some(&vec![9, 300])));
        assert_eq!(hex::encode(&with), "01610e010209fb2c01");
        let Grown(known, behind): Read = codec::decode(&with).unwrap();
        assert_eq!((known, behind), (state, Some(vec![9, 300])));
        // Cut short, or marked with what nobody knows, it is refused.
        for end in 4..with.len() {
            assert!(codec::decode::<Read>(&with[..end]).is_err(), "{end}");
        }
        let strange = [&with[..3], &[2], &with[4..]].concat();
        assert!(codec::decode::<Read>(&strange).is_err());
    }
}
