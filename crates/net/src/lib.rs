//! Listeners, framing and back-pressure: the only door to sockets.
//!
//! A connection is read as length-prefixed frames and written as parts, bytes or file slices. What the frames mean is
//! not known here. Every buffer is bounded: by the bytes a peer really sent, by the frame limit, and by one
//! [`MemoryBudget`] for all connections.

#![deny(unsafe_code)]
#![warn(missing_docs)]

mod address;
mod alarm;
mod budget;
mod dial;
mod frame_reader;
mod listener;
mod part_writer;
mod socket;
mod stream;
mod tls;
mod tls_socket;

pub use address::{host_and_port, split_host_and_port};
pub use alarm::Alarm;
pub use budget::{MemoryBudget, MemoryPermit};
pub use dial::dial;
pub use frame_reader::{Frame, FrameLimits, FrameReader, ReadFrameError};
pub use listener::{Accepted, ConnectionLimits, ConnectionPermit, Listener, SocketOptions};
pub use part_writer::{FileSlice, Part, SendFile, WriteError, write_parts};
pub use socket::Socket;
pub use stream::{Stream, StreamReader, StreamWriter};
pub use tls::{ServerTls, TlsError, TlsFiles};
pub use tls_socket::TlsSocket;
pub use tokio::net::TcpStream;
