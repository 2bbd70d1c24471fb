//! What can go wrong between a client and a broker.

use std::io;
use std::time::Duration;

use chronik_net::TlsError;
use chronik_wire::{ApiKey, DecodeError, EncodeError, ErrorCode};
use thiserror::Error;

/// Why an operation did not succeed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No connection could be made.
    #[error("cannot connect to {address}: {source}")]
    Unreachable {
        /// `HOST:PORT` that was tried.
        address: String,
        /// Whether this client was connected to it earlier: then it is probably restarting.
        answered_before: bool,
        /// What the system said.
        source: io::Error,
    },
    /// There is no TLS with whoever answers there.
    #[error("no TLS with {address}: {source}")]
    NotEncrypted {
        /// `HOST:PORT` that was tried.
        address: String,
        /// What is wrong with the files, or with the peer.
        source: TlsError,
    },
    /// The connection broke before the answer was there; the request may have been carried out.
    #[error("connection to {address} broke: {source}")]
    Disconnected {
        /// `HOST:PORT` of the broker.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// No answer came in time; the request may have been carried out.
    #[error("{address} did not answer {api} within {after:?}")]
    TimedOut {
        /// `HOST:PORT` of the broker.
        address: String,
        /// Kafka's name of the request.
        api: &'static str,
        /// How long the client waited.
        after: Duration,
    },
    /// The peer does not speak Kafka's protocol, or breaks it.
    #[error("{address} sent no valid answer to {api}: {reason}")]
    Garbled {
        /// `HOST:PORT` of the peer.
        address: String,
        /// Kafka's name of the request.
        api: &'static str,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The broker serves no version of the API that this client speaks.
    #[error("{address} does not serve {api} in a version this client speaks")]
    UnsupportedApi {
        /// `HOST:PORT` of the broker.
        address: String,
        /// Kafka's name of the request.
        api: &'static str,
    },
    /// The request cannot be written in the version agreed on.
    #[error("request cannot be sent: {0}")]
    Unsendable(#[from] EncodeError),
    /// The broker refused.
    #[error("{subject}: {} ({})", message.as_deref().unwrap_or(code.message()), code.name())]
    Refused {
        /// What was refused: a topic, a partition, or the request.
        subject: String,
        /// Kafka's error.
        code: ErrorCode,
        /// The broker's own words, if it had any.
        message: Option<String>,
    },
    /// The cluster has no topic of this name.
    #[error("there is no topic {0}")]
    NoSuchTopic(String),
    /// The cluster has no broker by this id, or none is controller at the moment.
    #[error("the cluster has no broker {0} at the moment")]
    NoSuchNode(i32),
}

impl ClientError {
    /// Whether the same request may succeed a little later, after looking at the metadata again. Where it may also have
    /// been carried out, [`outcome_unknown`](Self::outcome_unknown) says so.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unreachable { answered_before, .. } => *answered_before,
            Self::Disconnected { .. } | Self::NoSuchNode(_) => true,
            Self::Refused { code, .. } => code.retriable(),
            // A broker that is started again may have accepted and not come to the handshake.
            Self::NotEncrypted { source, .. } => matches!(source, TlsError::Handshake(error) if is_broken(error)),
            Self::TimedOut { .. }
            | Self::Garbled { .. }
            | Self::UnsupportedApi { .. }
            | Self::Unsendable(_)
            | Self::NoSuchTopic(_) => false,
        }
    }

    /// Whether the broker may have carried out the request all the same.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::Disconnected { .. } | Self::TimedOut { .. } | Self::Garbled { .. } => true,
            Self::Refused { code, .. } => {
                matches!(code, ErrorCode::RequestTimedOut | ErrorCode::NotEnoughReplicasAfterAppend)
            }
            Self::Unreachable { .. }
            | Self::NotEncrypted { .. }
            | Self::UnsupportedApi { .. }
            | Self::Unsendable(_)
            | Self::NoSuchTopic(_)
            | Self::NoSuchNode(_) => false,
        }
    }

    /// The error code of an answer as a result.
    pub(crate) fn check(code: i16, message: Option<&str>, subject: impl FnOnce() -> String) -> Result<(), Self> {
        match ErrorCode::from_code(code) {
            Some(ErrorCode::None) => Ok(()),
            known => Err(Self::Refused {
                subject: subject(),
                code: known.unwrap_or(ErrorCode::UnknownServerError),
                message: match known {
                    Some(_) => message.map(str::to_owned),
                    None => Some(format!("error code {code}, which this client does not know")),
                },
            }),
        }
    }

    /// An answer that decodes, but lacks what was asked for.
    pub(crate) fn incomplete(address: &str, api: ApiKey, reason: &str) -> Self {
        Self::Garbled { address: address.to_owned(), api: api.name(), reason: reason.to_owned() }
    }

    pub(crate) fn undecodable(address: &str, api: ApiKey, error: &DecodeError) -> Self {
        Self::incomplete(address, api, &error.to_string())
    }
}

/// Whether a handshake ended because the connection did.
fn is_broken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}
