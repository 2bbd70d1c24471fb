//! Listeners, framing and back-pressure: the only door to sockets.
