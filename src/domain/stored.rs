//! The state of a kind that grew after it had shipped. The encoding names no fields (ADR-2), so what is new cannot be
//! added to a struct; it is kept beside, and its presence is a new tag. A state without it has the bytes that it always had.

use serde::{Deserialize, Serialize};

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
}
