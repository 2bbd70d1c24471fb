//! The nouns of Chronik: identifiers, offsets, epochs, time. No behaviour of their own.
