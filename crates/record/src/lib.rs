//! The v2 record batch: header view, validation, patches, iterator, builder, compression.
//!
//! A batch has the same bytes on the wire, on disk and between replicas. This room reads its 61-byte header without
//! touching the payload, checks what a producer sent, and knows how to look inside the records where that cannot be
//! avoided. Producer state, offsets assignment and files live in the log.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod attributes;
mod builder;
mod caps;
pub mod compression;
pub mod control;
mod crc;
mod header;
mod lookup;
mod record;
mod records;
mod validate;
mod varint;

pub use attributes::{Attributes, TimestampType};
pub use builder::{BatchBuilder, BuildError};
pub use caps::Caps;
pub use compression::Compression;
pub use crc::crc_is_valid;
pub use header::{BatchHeader, HEADER_BYTES, HeaderError, MAGIC, PREFIX_BYTES, prefix};
pub use lookup::{RecordPosition, first_at_or_after, max_timestamp};
pub use record::{Field, Header, Headers, HeadersIter, Record};
pub use records::{Records, RecordsError, records};
pub use validate::{
    CompressionPolicy, InvalidBatch, InvalidKind, ProducePolicy, ProducedBatch, RECORDS_PER_BYTE_MAX, validate_produced,
};
