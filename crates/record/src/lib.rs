//! The v2 record batch: header view, validation, patches, iterator, builder, compression.
