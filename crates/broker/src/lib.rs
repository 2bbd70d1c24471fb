//! The Kafka server: connections, one file per API, replica host, coordinator host.
