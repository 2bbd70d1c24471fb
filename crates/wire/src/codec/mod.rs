//! The primitive types of Kafka's protocol: bounded reading, writing, and the traits every message has.
//!
//! Reading trusts nothing: lengths and counts are checked against the bytes present, and the memory taken by decoded
//! elements is charged against a budget before it is allocated. No message schema is recursive, so nesting is bounded by
//! the message types themselves (the schema generator refuses a recursive one).
//! Messages live in `messages`, record batches in the `record` crate.

mod error;
mod reader;
mod writer;

pub use error::{DecodeError, DecodeErrorKind, EncodeError};
pub use reader::{DECODE_BUDGET_DEFAULT, Reader};
pub use writer::{Writer, uvarint_len};

use crate::ApiKey;

/// Longest string in bytes that Kafka puts on the wire, also where the length prefix could hold more.
pub const STRING_BYTES_MAX: usize = 0x7fff;

/// A structure of the protocol whose fields depend on the API version.
pub trait Message: Sized + Default + std::fmt::Debug + Clone + PartialEq {
    /// Reads one structure in the given version; a field the version does not have gets its schema default.
    ///
    /// Bytes after the structure are left in the reader. Unknown tagged fields are skipped.
    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError>;

    /// Writes the structure in the given version.
    ///
    /// A field that the version does not have is dropped if the schema calls it ignorable; else it must hold its default.
    /// After an error the writer holds a part of the structure and must be thrown away.
    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError>;
}

/// The body of a request.
pub trait Request: Message {
    /// The API this request belongs to.
    const KEY: ApiKey;
    /// Lowest version the schema knows, inclusive.
    const MIN_VERSION: i16;
    /// Highest version the schema knows, inclusive.
    const MAX_VERSION: i16;
    /// The body that answers it, in the same version.
    type Response: Message;
}

#[cfg(test)]
mod tests;
