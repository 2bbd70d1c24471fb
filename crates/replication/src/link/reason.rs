//! Why a link ends. Every reason has a number on the wire and a name in metrics and log lines.

use crate::frame;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal $text:literal,)*) => {
        /// Why an end of a link refuses to go on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// All of them, for metrics that show zeros.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its number on the wire.
            pub const fn code(self) -> u16 {
                match self { $(Self::$name => $code,)* }
            }

            /// The reason with a number; one that this version does not know is [`Reason::Other`].
            pub const fn from_code(code: u16) -> Self {
                match code { $($code => Self::$name,)* _ => Self::Other }
            }

            /// Its name in metrics and log lines.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// One that this version does not know.
    Other = 0 "other",
    /// The bytes are no frame.
    WrongMagic = 1 "wrong_magic",
    /// No common protocol version, or a frame in another one than agreed.
    UnsupportedVersion = 2 "unsupported_version",
    /// A kind or flag that does not exist.
    UnknownKind = 3 "unknown_kind",
    /// A frame longer than its kind may be.
    TooLong = 4 "too_long",
    /// A frame whose checksum does not fit.
    Checksum = 5 "checksum",
    /// A frame whose content makes no sense.
    Malformed = 6 "malformed",
    /// A frame that has no place here.
    Unexpected = 7 "unexpected",
    /// The stream ended inside a frame.
    Truncated = 8 "truncated",
    /// Another cluster.
    WrongCluster = 10 "wrong_cluster",
    /// A shared secret is missing on one side, or is another one.
    NotAuthenticated = 11 "not_authenticated",
    /// The receiver leads itself.
    IsLeader = 12 "is_leader",
    /// Two leaders of one generation.
    OtherLeader = 13 "other_leader",
    /// The dialled node is the dialling one.
    SameNode = 14 "same_node",
    /// The generation is old; see [`crate::message::Fenced`].
    Fenced = 15 "fenced",
    /// A partition that the metadata does not know.
    UnknownPartition = 20 "unknown_partition",
    /// A partition that was not attached, or is about to be attached anew.
    NotAttached = 21 "not_attached",
    /// A leader epoch older than the replica's.
    StaleLeaderEpoch = 22 "stale_leader_epoch",
    /// Batches that begin behind the log end.
    Gap = 23 "gap",
    /// Batches that begin before the log end.
    Overlap = 24 "overlap",
    /// A batch that is not whole, or whose checksum does not fit.
    CorruptBatch = 25 "corrupt_batch",
    /// A batch whose leader epoch does not fit.
    BatchLeaderEpoch = 26 "batch_leader_epoch",
    /// Batches in a segment that the log cannot continue.
    WrongSegment = 27 "wrong_segment",
    /// A cut below what the same leader said was committed.
    BelowHighWatermark = 28 "below_high_watermark",
    /// An offset outside of what it can be.
    BadOffset = 29 "bad_offset",
    /// Logs that cannot be brought to agree.
    Diverged = 30 "diverged",
    /// A journal that the leader's does not continue, or metadata that cannot be applied.
    Metadata = 31 "metadata",
    /// The disk failed or is full.
    Storage = 40 "storage",
    /// Nothing came for too long.
    Silence = 41 "silence",
    /// The handshake took too long.
    HandshakeTimeout = 42 "handshake_timeout",
    /// The node stops, or was promoted.
    Closing = 43 "closing",
    /// A newer connection of the same leader took over.
    Replaced = 44 "replaced",
}

impl From<&frame::Error> for Reason {
    fn from(error: &frame::Error) -> Self {
        match error {
            frame::Error::Magic { .. } => Self::WrongMagic,
            frame::Error::Version { .. } => Self::UnsupportedVersion,
            frame::Error::Kind { .. } | frame::Error::Flags { .. } => Self::UnknownKind,
            frame::Error::TooLong { .. } => Self::TooLong,
            frame::Error::Checksum { .. } => Self::Checksum,
            frame::Error::Malformed { .. } => Self::Malformed,
            frame::Error::Truncated { .. } => Self::Truncated,
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_unique_and_codes_round_trip() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), *reason);
        }
        assert_eq!(Reason::from_code(9999), Reason::Other);
    }
}
