//! Produce requests in a form made for appending: records stay slices of the frame, partitions lie in one flat list.
//!
//! The generated `ProduceRequest` holds the same content as nested lists; a test keeps the two equal.

use bytes::Bytes;
use chronik_model::Uuid;

use crate::ApiKey;
use crate::codec::{DecodeError, Reader};

/// A produce request of version 3 to 13.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceRequestView {
    /// Transactional id of the producer, null if it has none.
    pub transactional_id: Option<String>,
    /// 0, 1 or -1 if valid; any value the client sent.
    pub acks: i16,
    /// Milliseconds the client lets the broker wait for replicas.
    pub timeout_ms: i32,
    /// Topics in the order of the request.
    pub topics: Vec<Topic>,
    /// Partitions of all topics in the order of the request.
    pub partitions: Vec<Partition>,
}

/// A topic of a produce request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Name up to version 12, empty from version 13 on.
    pub name: String,
    /// Id from version 13 on, zero before.
    pub topic_id: Uuid,
}

/// One partition's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Index into [`ProduceRequestView::topics`].
    pub topic: usize,
    /// Partition index as the client sent it.
    pub index: i32,
    /// The batches, a slice of the frame; null as the client sent it.
    pub records: Option<Bytes>,
}

impl ProduceRequestView {
    /// Reads the body of a produce request.
    pub fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        if !ApiKey::Produce.valid_versions().contains(&version) {
            return Err(r.unsupported("ProduceRequest", version));
        }
        let flexible = ApiKey::Produce.is_flexible(version);
        let by_id = version >= 13;
        let transactional_id = r.nullable_string(flexible, "transactional_id")?;
        let acks = r.i16("acks")?;
        let timeout_ms = r.i32("timeout_ms")?;
        let topic_count = r.count::<Topic>(flexible, "topic_data")?;
        let mut topics = Vec::with_capacity(topic_count);
        let mut partitions = Vec::new();
        for topic in 0..topic_count {
            topics.push(if by_id {
                Topic { name: String::new(), topic_id: r.uuid("topic_id")? }
            } else {
                Topic { name: r.string(flexible, "name")?, topic_id: Uuid::ZERO }
            });
            let partition_count = r.count::<Partition>(flexible, "partition_data")?;
            partitions.reserve(partition_count);
            for _ in 0..partition_count {
                let index = r.i32("index")?;
                let records = r.nullable_bytes(flexible, "records")?;
                partitions.push(Partition { topic, index, records });
                if flexible {
                    r.skip_tags()?;
                }
            }
            if flexible {
                r.skip_tags()?;
            }
        }
        if flexible {
            r.skip_tags()?;
        }
        Ok(Self { transactional_id, acks, timeout_ms, topics, partitions })
    }

    /// The topic of one of this request's partitions.
    pub fn topic(&self, partition: &Partition) -> Option<&Topic> {
        self.topics.get(partition.topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Message as _, Writer};
    use crate::messages::ProduceRequest;
    use crate::messages::produce_request::{PartitionProduceData, TopicProduceData};

    fn request(version: i16) -> ProduceRequest {
        let partition = |index, records: Option<&'static [u8]>| PartitionProduceData {
            index,
            records: records.map(Bytes::from_static),
        };
        let topic = |name: &str, id: u8, partition_data| TopicProduceData {
            name: if version <= 12 { name.to_owned() } else { String::new() },
            topic_id: if version <= 12 { Uuid::ZERO } else { Uuid::from_bytes([id; 16]) },
            partition_data,
        };
        ProduceRequest {
            transactional_id: Some("tx".to_owned()),
            acks: -1,
            timeout_ms: 1500,
            topic_data: vec![
                topic("a", 1, vec![partition(0, Some(b"first")), partition(7, None)]),
                topic("b", 2, vec![]),
                topic("c", 3, vec![partition(1, Some(b""))]),
            ],
        }
    }

    fn encode(request: &ProduceRequest, version: i16) -> Bytes {
        let mut w = Writer::new();
        request.encode(&mut w, version).unwrap();
        w.into_bytes()
    }

    /// The nested form of a view.
    fn nest(view: &ProduceRequestView) -> ProduceRequest {
        let mut topic_data: Vec<_> = view
            .topics
            .iter()
            .map(|topic| TopicProduceData {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partition_data: vec![],
            })
            .collect();
        for Partition { topic, index, records } in &view.partitions {
            let partition = PartitionProduceData { index: *index, records: records.clone() };
            topic_data[*topic].partition_data.push(partition);
        }
        ProduceRequest {
            transactional_id: view.transactional_id.clone(),
            acks: view.acks,
            timeout_ms: view.timeout_ms,
            topic_data,
        }
    }

    #[test]
    fn view_holds_what_the_generated_decoder_reads() {
        for version in ApiKey::Produce.valid_versions() {
            let request = request(version);
            let mut r = Reader::new(encode(&request, version));
            let view = ProduceRequestView::decode(&mut r, version).unwrap();
            assert_eq!(r.remaining(), 0);
            assert_eq!(nest(&view), request, "version {version}");
            assert_eq!(view.topic(&view.partitions[2]), Some(&view.topics[2]));
        }
    }

    #[test]
    fn records_are_slices_of_the_frame() {
        let frame = encode(&request(13), 13);
        let view = ProduceRequestView::decode(&mut Reader::new(frame.clone()), 13).unwrap();
        let records = view.partitions[0].records.clone().unwrap();
        assert_eq!(&records[..], b"first");
        assert!(frame.as_ptr_range().contains(&records.as_ptr()));
    }

    #[test]
    fn cut_requests_are_errors() {
        for version in ApiKey::Produce.valid_versions() {
            let frame = encode(&request(version), version);
            for len in 0..frame.len() {
                let mut r = Reader::new(frame.slice(..len));
                assert!(ProduceRequestView::decode(&mut r, version).is_err(), "version {version}, {len} bytes");
            }
        }
    }

    #[test]
    fn versions_without_schema_are_errors() {
        for version in [-1, 0, 2, 14] {
            assert!(ProduceRequestView::decode(&mut Reader::new(encode(&request(13), 13)), version).is_err());
        }
    }

    #[test]
    fn partitions_are_charged_to_the_budget() {
        let frame = encode(&request(13), 13);
        let mut r = Reader::with_budget(frame, 2 * size_of::<Topic>());
        assert!(ProduceRequestView::decode(&mut r, 13).is_err());
    }
}
