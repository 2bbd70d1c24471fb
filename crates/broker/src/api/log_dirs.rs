//! DescribeLogDirs, versions 1 to 5 (KIP-113, KIP-827): one log directory with the sizes in it.

use std::sync::Arc;

use chronik_wire::ErrorCode;
use chronik_wire::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use chronik_wire::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use super::Call;
use crate::replica::Partition;

/// A size that is not known.
const UNKNOWN: i64 = -1;

pub(super) async fn handle(call: Arc<Call>, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let replicas = &call.broker.replicas;
    let partitions: Vec<Arc<Partition>> = match &request.topics {
        None => replicas.all(),
        Some(topics) => topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|index| (topic.topic.as_str(), *index)))
            .filter_map(|(topic, index)| replicas.by_name(topic, index).ok())
            .collect(),
    };
    let mut topics: Vec<DescribeLogDirsTopic> = Vec::new();
    for partition in partitions {
        let name = &partition.name().topic;
        if topics.last().is_none_or(|topic| topic.name != **name) {
            topics.push(DescribeLogDirsTopic { name: name.to_string(), partitions: Vec::new() });
        }
        let size = partition.with_log(|log| log.size_bytes());
        if let Some(topic) = topics.last_mut() {
            topic.partitions.push(DescribeLogDirsPartition {
                partition_index: partition.index().get(),
                partition_size: i64::try_from(size).unwrap_or(i64::MAX),
                offset_lag: 0,
                is_future_key: false,
            });
        }
    }
    let root = replicas.root().to_path_buf();
    let space = rustix::fs::statvfs(&root).ok();
    let bytes = |blocks: u64, fragment: u64| i64::try_from(blocks.saturating_mul(fragment)).unwrap_or(i64::MAX);
    let result = DescribeLogDirsResult {
        error_code: ErrorCode::None.code(),
        log_dir: root.display().to_string(),
        topics,
        total_bytes: space.as_ref().map_or(UNKNOWN, |s| bytes(s.f_blocks, s.f_frsize)),
        usable_bytes: space.as_ref().map_or(UNKNOWN, |s| bytes(s.f_bavail, s.f_frsize)),
        ..Default::default()
    };
    DescribeLogDirsResponse { results: vec![result], ..Default::default() }
}
