//! A small Kafka client for the command line, tests and broker-to-broker calls.
