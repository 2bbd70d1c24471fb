# Build: the toolchain image's version follows rust-toolchain.toml.
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --locked --release -p chronik && strip target/release/chronik
RUN mkdir /empty

# Run: the binary, its C library, and nothing else.
FROM gcr.io/distroless/cc-debian12
COPY --from=build /src/target/release/chronik /usr/bin/chronik
COPY --from=build --chown=65532:65532 /empty /data
USER 65532:65532
VOLUME /data
EXPOSE 9092 6092
# A container's address is not one that clients know: name it with CHRONIK_ADVERTISE=host:port.
ENV CHRONIK_DATA_DIR=/data CHRONIK_LISTEN=0.0.0.0:9092 CHRONIK_HTTP=0.0.0.0:6092
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/chronik"]
CMD ["serve"]
