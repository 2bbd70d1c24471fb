//! Kafka's protocol: framing, headers, versioned messages, error codes.
