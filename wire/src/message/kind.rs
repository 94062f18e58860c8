//! The macro that makes kinds, frames and messages from the one table in [`crate::message`].
//!
//! Used there and nowhere else. Reading goes by direction: a kind of the other direction is refused by name.

use crate::error::Malformed;

macro_rules! messages {
    ($($direction:ident { $($kind:ident = $byte:literal, $name:literal, $max:expr, $body:tt;)* })*) => {
        /// What a frame carries. The high digit tells who sends it: 0 and 1 the manager, 2 the agent.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Kind { $($(#[doc = $name] $kind,)*)* }

        impl Kind {
            /// Every kind, in the order of the paper's table.
            pub const ALL: &'static [Kind] = &[$($(Kind::$kind,)*)*];

            /// The first byte of a frame of this kind.
            #[must_use]
            pub const fn byte(self) -> u8 {
                match self { $($(Kind::$kind => $byte,)*)* }
            }
            /// The kind's name on paper and in errors.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($(Kind::$kind => $name,)*)* }
            }
            /// Payload bytes of the largest frame of this kind.
            #[must_use]
            pub const fn payload_len_max(self) -> usize {
                match self { $($(Kind::$kind => $max,)*)* }
            }
            /// The kind with this byte.
            #[must_use]
            pub const fn from_byte(byte: u8) -> Option<Self> {
                match byte { $($($byte => Some(Kind::$kind),)*)* _ => None }
            }
        }

        $(messages!(@direction $direction { $($kind, $name, $body;)* });)*
    };
    (@direction $direction:ident { $($kind:ident, $name:literal, $body:tt;)* }) => {
        impl $direction {
            /// The kind of frame that carries this message.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self { $(messages!(@pattern $direction, $kind, $body) => Kind::$kind,)* }
            }

            /// The frame of this message.
            ///
            /// # Errors
            /// [`Malformed::TooLong`] when the body is over its kind's limit.
            pub fn to_frame(&self) -> Result<Frame, Malformed> {
                let payload = match self { $(messages!(@bind $direction, $kind, $body, body) =>
                    messages!(@encode $name, $body, body),)* };
                Frame::new(self.kind(), payload)
            }

            /// Reads a frame that the peer of this direction sent.
            ///
            /// # Errors
            /// [`Malformed`] when the body is not one of its kind, or the kind belongs to the other direction.
            #[allow(clippy::wildcard_enum_match_arm, reason = "all other kinds belong to the other direction")]
            pub fn from_frame(frame: &Frame) -> Result<Self, Malformed> {
                match frame.kind {
                    $(Kind::$kind => messages!(@decode $direction, $kind, $name, $body, &frame.payload),)*
                    other => Err(Malformed::WrongDirection { what: other.name() }),
                }
            }
        }
    };
    (@pattern $direction:ident, $kind:ident, ()) => { $direction::$kind };
    (@pattern $direction:ident, $kind:ident, ($body:ident)) => { $direction::$kind(_) };
    (@bind $direction:ident, $kind:ident, (), $body:ident) => { $direction::$kind };
    (@bind $direction:ident, $kind:ident, ($form:ident), $body:ident) => { $direction::$kind($body) };
    (@encode $name:literal, (), $body:ident) => { Vec::new() };
    (@encode $name:literal, (body), $body:ident) => { encode($name, $body)? };
    (@encode $name:literal, (offer), $body:ident) => { encode_offer($name, $body)? };
    (@encode $name:literal, (push), $body:ident) => { encode_push($name, $body)? };
    (@encode $name:literal, (hello), $body:ident) => { encode_hello($name, $body)? };
    (@encode $name:literal, (welcome), $body:ident) => { encode_welcome($name, $body)? };
    (@decode $direction:ident, $kind:ident, $name:literal, (), $bytes:expr) => {
        empty($name, $bytes).map(|()| $direction::$kind)
    };
    (@decode $direction:ident, $kind:ident, $name:literal, (body), $bytes:expr) => {
        decode($name, $bytes).map($direction::$kind)
    };
    (@decode $direction:ident, $kind:ident, $name:literal, (offer), $bytes:expr) => {
        decode_offer($name, $bytes).map($direction::$kind)
    };
    (@decode $direction:ident, $kind:ident, $name:literal, (push), $bytes:expr) => {
        decode_push($name, $bytes).map($direction::$kind)
    };
    (@decode $direction:ident, $kind:ident, $name:literal, (hello), $bytes:expr) => {
        decode_hello($name, $bytes).map($direction::$kind)
    };
    (@decode $direction:ident, $kind:ident, $name:literal, (welcome), $bytes:expr) => {
        decode_welcome($name, $bytes).map($direction::$kind)
    };
}
pub(super) use messages;

/// Refuses a payload where a kind has none.
pub(super) fn empty(what: &'static str, bytes: &[u8]) -> Result<(), Malformed> {
    match bytes.len() {
        0 => Ok(()),
        count => Err(Malformed::Leftover { what, count }),
    }
}
