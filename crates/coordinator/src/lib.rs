//! Group coordinator: classic groups and offsets as shards without IO.
