//! One partition's write-ahead log: segments, indexes, recovery, retention, and the Fs seam.
