//! What can be wrong with bytes to decode or with a message to encode.

use thiserror::Error;

/// The bytes are not a message of the expected type and version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("field {field} at byte {position}: {kind}")]
pub struct DecodeError {
    /// Name of the field that was being read.
    pub field: &'static str,
    /// Position in the reader's bytes, inclusive, where the failing read began or failed.
    pub position: usize,
    /// What was wrong.
    pub kind: DecodeErrorKind,
}

/// What was wrong with the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeErrorKind {
    /// Fewer bytes are left than the field needs.
    #[error("needs {needed} bytes, {remaining} left")]
    Truncated {
        /// Bytes the field needs.
        needed: usize,
        /// Bytes left.
        remaining: usize,
    },
    /// An array or tag count that the bytes left cannot hold.
    #[error("count {count} exceeds the {remaining} bytes left")]
    CountTooLarge {
        /// Announced number of elements.
        count: u64,
        /// Bytes left.
        remaining: usize,
    },
    /// Decoded elements would take more memory than the reader allows.
    #[error("{count} elements exceed the decode budget, {budget} bytes left")]
    BudgetExceeded {
        /// Announced number of elements.
        count: usize,
        /// Bytes left in the budget.
        budget: usize,
    },
    /// A null where the version does not allow one.
    #[error("null is not allowed")]
    Null,
    /// A string longer than Kafka allows.
    #[error("string of {0} bytes is too long")]
    StringTooLong(usize),
    /// A variable-length integer that does not fit 32 bits.
    #[error("variable-length integer does not fit 32 bits")]
    VarintTooLong,
    /// A tagged field whose content does not end where its size says.
    #[error("tagged field {tag} does not fill its {size} bytes")]
    TaggedFieldSize {
        /// Tag of the field.
        tag: u32,
        /// Announced size in bytes.
        size: usize,
    },
    /// The schema does not know this version.
    #[error("version {0} is not supported")]
    UnsupportedVersion(i16),
}

/// The message cannot be written in the version asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The schema does not know this version.
    #[error("{message} has no version {version}")]
    UnsupportedVersion {
        /// Name of the message.
        message: &'static str,
        /// Version asked for.
        version: i16,
    },
    /// A field holds a value that the version cannot carry and that must not be dropped.
    #[error("field {field} cannot be sent in version {version}")]
    AbsentField {
        /// Name of the field.
        field: &'static str,
        /// Version asked for.
        version: i16,
    },
    /// A null where the version does not allow one.
    #[error("field {field} must not be null")]
    Null {
        /// Name of the field.
        field: &'static str,
    },
    /// A string, byte string, array or tagged field too long for its length prefix.
    #[error("field {field} is too long: {len}")]
    TooLong {
        /// Name of the field.
        field: &'static str,
        /// Its length in bytes or elements.
        len: usize,
    },
}

impl EncodeError {
    pub(crate) fn unsupported(message: &'static str, version: i16) -> Self {
        Self::UnsupportedVersion { message, version }
    }

    pub(crate) fn absent(field: &'static str, version: i16) -> Self {
        Self::AbsentField { field, version }
    }

    pub(crate) fn null(field: &'static str) -> Self {
        Self::Null { field }
    }
}
