//! The client: its connections by address, and the cluster as its brokers describe it.
//!
//! Operations live in files of their own; here a request finds its broker. A connection is taken out while a request is
//! on it and put back after a good answer, so a cancelled or failed request never leaves a half-read one behind.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chronik_model::NodeId;
use chronik_wire::Request;

use crate::connection::Connection;
use crate::error::ClientError;
use crate::metadata::Metadata;
use crate::options::Options;

/// Connections kept open; a cluster with more brokers costs reconnecting.
const CONNECTIONS_MAX: usize = 64;

/// Which broker a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The one the client was started with.
    Bootstrap,
    /// The controller, or a broker that forwards to it.
    Controller,
    /// This one.
    Node(NodeId),
}

/// A client of one cluster.
#[derive(Debug)]
pub struct Client {
    bootstrap: String,
    pub(crate) options: Options,
    connections: HashMap<String, Connection>,
    /// Addresses that have answered some time; bounded like the connections.
    answered: HashSet<String>,
    pub(crate) metadata: Metadata,
}

impl Client {
    /// Connects to the broker at `bootstrap` (`HOST:PORT`) with the default bounds.
    pub async fn connect(bootstrap: &str) -> Result<Self, ClientError> {
        Self::connect_with(bootstrap, Options::default()).await
    }

    /// Connects to the broker at `bootstrap` (`HOST:PORT`).
    pub async fn connect_with(bootstrap: &str, options: Options) -> Result<Self, ClientError> {
        let connection = Connection::open(bootstrap, false, &options).await?;
        Ok(Self {
            bootstrap: bootstrap.to_owned(),
            options,
            connections: HashMap::from([(bootstrap.to_owned(), connection)]),
            answered: HashSet::from([bootstrap.to_owned()]),
            metadata: Metadata::default(),
        })
    }

    /// Sends one request, once, in the highest version both sides know.
    pub async fn send<R: Request>(&mut self, to: Target, request: R) -> Result<R::Response, ClientError> {
        self.send_as(to, |_| request).await
    }

    /// Sends one request, once; `request` makes it for the version both sides know.
    pub async fn send_as<R: Request>(
        &mut self,
        to: Target,
        request: impl FnOnce(i16) -> R,
    ) -> Result<R::Response, ClientError> {
        self.send_within(to, self.options.request_max, request).await
    }

    /// Like [`send_as`](Self::send_as), waiting for the answer at most for `wait_max`.
    pub(crate) async fn send_within<R: Request>(
        &mut self,
        to: Target,
        wait_max: Duration,
        request: impl FnOnce(i16) -> R,
    ) -> Result<R::Response, ClientError> {
        let mut connection = self.take(to).await?;
        let version = match connection.version::<R>() {
            Ok(version) => version,
            Err(error) => {
                self.put_back(connection);
                return Err(error);
            }
        };
        let answer = connection.send(version, &request(version), wait_max).await?;
        self.put_back(connection);
        Ok(answer)
    }

    /// Sends one request that gets no answer.
    pub(crate) async fn send_unanswered<R: Request>(
        &mut self,
        to: Target,
        request: impl FnOnce(i16) -> R,
    ) -> Result<(), ClientError> {
        let mut connection = self.take(to).await?;
        let version = match connection.version::<R>() {
            Ok(version) => version,
            Err(error) => {
                self.put_back(connection);
                return Err(error);
            }
        };
        connection.send_unanswered(version, &request(version), self.options.request_max).await?;
        self.put_back(connection);
        Ok(())
    }

    /// The address requests to `to` go to.
    pub(crate) fn address(&self, to: Target) -> Result<String, ClientError> {
        match to {
            Target::Bootstrap => Ok(self.bootstrap.clone()),
            // Before the first look at the metadata, any broker will do: it forwards, or says that it is not the one.
            Target::Controller => {
                let controller = self.metadata.controller.and_then(|id| self.metadata.addresses.get(&id));
                Ok(controller.unwrap_or(&self.bootstrap).clone())
            }
            Target::Node(id) => self.metadata.addresses.get(&id).cloned().ok_or(ClientError::NoSuchNode(id.get())),
        }
    }

    async fn take(&mut self, to: Target) -> Result<Connection, ClientError> {
        let address = self.address(to)?;
        match self.connections.remove(&address) {
            Some(connection) => Ok(connection),
            None => {
                let answered_before = self.answered.contains(&address);
                let connection = Connection::open(&address, answered_before, &self.options).await?;
                if self.answered.len() >= CONNECTIONS_MAX {
                    self.answered.clear();
                }
                self.answered.insert(address);
                Ok(connection)
            }
        }
    }

    fn put_back(&mut self, connection: Connection) {
        if self.connections.len() >= CONNECTIONS_MAX {
            self.connections.clear();
        }
        self.connections.insert(connection.address().to_owned(), connection);
    }
}
