//! Kafka's protocol: framing, headers, versioned messages, error codes.
//!
//! Everything here turns bytes into values and back; sockets live in `net`, record batches in `record`, and which APIs and
//! versions are served is the broker's table. No input makes a decoder panic or allocate beyond its budget.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod api_key;
mod body;
pub mod codec;
mod error_code;
pub mod fetch_response;
pub mod frame;
#[allow(missing_docs, reason = "the fields carry the names of Kafka's message schemas, which document them")]
pub mod messages;
pub mod produce;

pub use api_key::ApiKey;
pub use chronik_model::Uuid;
pub use codec::{DecodeError, DecodeErrorKind, EncodeError, Message, Reader, Request, Writer};
pub use error_code::ErrorCode;
pub use messages::{RequestBody, ResponseBody};
