//! A broker that answers from a script: every request of every connection goes through one function.

use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use chronik_wire::messages::api_versions_response::ApiVersion;
use chronik_wire::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use chronik_wire::messages::{ApiVersionsResponse, MetadataRequest};
use chronik_wire::{ApiKey, ErrorCode, Reader, RequestBody, ResponseBody, Uuid, frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What happens to one request.
pub(crate) enum Reply {
    Body(Box<ResponseBody>),
    /// These bytes, as they are.
    Raw(Vec<u8>),
    /// No answer; the connection stays.
    Nothing,
    /// The connection is closed.
    HangUp,
}

impl<T: Into<ResponseBody>> From<T> for Reply {
    fn from(body: T) -> Self {
        Self::Body(Box::new(body.into()))
    }
}

pub(crate) type Script = dyn FnMut(i16, RequestBody) -> Reply + Send;

pub(crate) const TOPIC_ID: Uuid = Uuid::from_bytes([7; 16]);

pub(crate) struct Fake {
    pub(crate) address: String,
    port: i32,
    accepting: tokio::task::JoinHandle<()>,
    script: Arc<Mutex<Option<Box<Script>>>>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = listener.local_addr().unwrap();
        let script: Arc<Mutex<Option<Box<Script>>>> = Arc::default();
        let shared = Arc::clone(&script);
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { address: local.to_string(), port: local.port().into(), accepting, script }
    }

    /// Answers with `script` from now on.
    pub(crate) fn on(&self, script: impl FnMut(i16, RequestBody) -> Reply + Send + 'static) {
        *self.script.lock().unwrap() = Some(Box::new(script));
    }

    /// Nobody listens any more when this returns.
    pub(crate) async fn stop(self) {
        self.accepting.abort();
        assert!(self.accepting.await.unwrap_err().is_cancelled());
    }

    pub(crate) fn port(&self) -> i32 {
        self.port
    }
}

/// Describes this broker, alone, as the leader of `partitions` partitions of the topic `t`.
pub(crate) fn metadata(port: i32, request: &MetadataRequest, partitions: i32) -> MetadataResponse {
    let broker = MetadataResponseBroker { node_id: 1, host: "127.0.0.1".to_owned(), port, rack: None };
    let partition = |partition_index| MetadataResponsePartition {
        partition_index,
        leader_id: 1,
        leader_epoch: 3,
        replica_nodes: vec![1],
        isr_nodes: vec![1],
        ..MetadataResponsePartition::default()
    };
    let names: Vec<String> = match &request.topics {
        Some(topics) => topics.iter().filter_map(|topic| topic.name.clone()).collect(),
        None => vec!["t".to_owned()],
    };
    let topics = names.into_iter().map(|name| {
        let known = name == "t";
        MetadataResponseTopic {
            error_code: if known { 0 } else { ErrorCode::UnknownTopicOrPartition as i16 },
            name: Some(name),
            topic_id: if known { TOPIC_ID } else { Uuid::ZERO },
            partitions: if known { (0..partitions).map(partition).collect() } else { Vec::new() },
            ..MetadataResponseTopic::default()
        }
    });
    MetadataResponse {
        brokers: vec![broker],
        controller_id: 1,
        topics: topics.collect(),
        ..MetadataResponse::default()
    }
}

/// The answer of a broker that serves every API up to `max`, by API.
pub(crate) fn api_versions(max: impl Fn(ApiKey) -> i16) -> ApiVersionsResponse {
    let api_keys = ApiKey::ALL.iter().map(|&key| ApiVersion {
        api_key: key.as_i16(),
        min_version: *key.valid_versions().start(),
        max_version: max(key),
    });
    ApiVersionsResponse { api_keys: api_keys.collect(), ..ApiVersionsResponse::default() }
}

async fn serve(mut stream: TcpStream, script: Arc<Mutex<Option<Box<Script>>>>) {
    let mut buf = BytesMut::new();
    loop {
        while let Some(bytes) = frame::split(&mut buf, 1 << 20).unwrap() {
            let peek = frame::peek(&bytes).unwrap();
            let key = ApiKey::from_i16(peek.api_key).unwrap();
            let mut reader = Reader::new(bytes);
            frame::request_header(key, peek.api_version, &mut reader).unwrap();
            let request = RequestBody::decode(key, &mut reader, peek.api_version).unwrap();
            assert_eq!(reader.remaining(), 0, "{key:?} has bytes after its end");
            let reply = match script.lock().unwrap().as_mut() {
                Some(script) => script(peek.api_version, request),
                None => api_versions(|key| *key.valid_versions().end()).into(),
            };
            let bytes = match reply {
                Reply::Body(body) => {
                    frame::response_body(peek.api_version, peek.correlation_id, &body).unwrap().to_vec()
                }
                Reply::Raw(bytes) => bytes,
                Reply::Nothing => continue,
                Reply::HangUp => return,
            };
            if stream.write_all(&bytes).await.is_err() {
                return;
            }
        }
        if !matches!(stream.read_buf(&mut buf).await, Ok(1..)) {
            return;
        }
    }
}
