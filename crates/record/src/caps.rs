//! Limits on what a look inside a batch may cost.

/// Limits on decompression and on the record bytes held at once. Hitting one ends the iteration with an error, except for
/// `record_bytes_max`, past which fields of a record are passed over and only their length is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Bytes a compressed batch may produce in all.
    pub bytes_max: u64,
    /// Produced bytes for one compressed byte; enforced once `ratio_free_bytes` have been produced.
    pub ratio_max: u64,
    /// Produced bytes that are free of the ratio.
    pub ratio_free_bytes: u64,
    /// Bytes of one record of a compressed batch that are held in memory. Records of an uncompressed batch are borrowed.
    pub record_bytes_max: usize,
    /// Bytes of one decompressed snappy block, the one codec whose unit cannot be streamed.
    pub block_bytes_max: usize,
    /// The largest zstd window as a power of two; 27 is what the highest level of Kafka's producers uses.
    pub zstd_window_log_max: u32,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            bytes_max: 1 << 30,
            ratio_max: 2048,
            ratio_free_bytes: 64 << 20,
            record_bytes_max: 4 << 20,
            block_bytes_max: 32 << 20,
            zstd_window_log_max: 27,
        }
    }
}

impl Caps {
    /// How many bytes `compressed_bytes` may become.
    pub(crate) fn produced_bytes_max(&self, compressed_bytes: usize) -> u64 {
        let compressed = u64::try_from(compressed_bytes).unwrap_or(u64::MAX);
        compressed.saturating_mul(self.ratio_max).max(self.ratio_free_bytes).min(self.bytes_max)
    }
}
