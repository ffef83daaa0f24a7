//! The state of a kind that grew after it had shipped. The encoding names no fields (ADR-2), so what is new cannot be
//! added to a struct; it is kept beside, and its presence is a new tag. A state without it has the bytes that it always had.

use serde::{Deserialize, Serialize};

/// A state as it is written. Tags 0 and 1 are those of an `Option`.
#[derive(Serialize)]
pub enum StoredRef<'a, T, B> {
    Nothing,
    Plain(&'a T),
    With(&'a T, &'a B),
}

/// A state as it is read.
#[derive(Deserialize)]
pub enum Stored<T, B> {
    Nothing,
    Plain(Box<T>),
    With(Box<T>, B),
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
}

impl<T, B> Stored<T, B> {
    /// What there is, and what is beside it.
    #[must_use]
    pub fn into_parts(self) -> Option<(Box<T>, Option<B>)> {
        match self {
            Self::Nothing => None,
            Self::Plain(state) => Some((state, None)),
            Self::With(state, beside) => Some((state, Some(beside))),
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
        let old: Stored<(u32, String), u8> = codec::decode(&codec::encode(&Some(state))).unwrap();
        assert!(matches!(old, Stored::Plain(_)));
    }
}
