//! Lists with a limit, refused before they are kept.
//!
//! Used by the parts of messages that hold a list. A count that a peer claims reserves nothing beyond the
//! limit, and the first element too many ends the reading.

use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Reads a list of at most `MAX` elements.
pub(super) fn at_most<'de, D, T, const MAX: usize>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    from.deserialize_seq(AtMost::<T, MAX>(PhantomData))
}

struct AtMost<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for AtMost<T, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Vec<T>, A::Error> {
        if let Some(claimed) = from.size_hint().filter(|&claimed| claimed > MAX) {
            return Err(A::Error::invalid_length(claimed, &self));
        }
        let mut list = Vec::new();
        while let Some(element) = from.next_element()? {
            if list.len() == MAX {
                return Err(A::Error::invalid_length(MAX.saturating_add(1), &self));
            }
            list.push(element);
        }
        Ok(list)
    }
}
