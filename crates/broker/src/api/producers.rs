//! DescribeProducers (KIP-664): the producers whose sequences a partition remembers.

use chronik_wire::ErrorCode;
use chronik_wire::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use chronik_wire::messages::{DescribeProducersRequest, DescribeProducersResponse};

use super::Call;

pub(super) fn describe(call: &Call, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let topics = request
        .topics
        .into_iter()
        .map(|topic| {
            let partitions = topic
                .partition_indexes
                .iter()
                .map(|index| {
                    let (code, active_producers) = match call.broker.replicas.by_name(&topic.name, *index) {
                        Ok(partition) => {
                            let producers = partition.with_log(|log| log.producers());
                            (ErrorCode::None, producers.into_iter().map(row).collect())
                        }
                        Err(code) => (code, Vec::new()),
                    };
                    let error_message = (code != ErrorCode::None).then(|| code.message().to_owned());
                    PartitionResponse {
                        partition_index: *index,
                        error_code: code.code(),
                        error_message,
                        active_producers,
                    }
                })
                .collect();
            TopicResponse { name: topic.name, partitions }
        })
        .collect();
    DescribeProducersResponse { topics, ..Default::default() }
}

fn row(entry: chronik_log::ProducerEntry) -> ProducerState {
    ProducerState {
        producer_id: entry.producer_id.get(),
        producer_epoch: i32::from(entry.producer_epoch.get()),
        last_sequence: entry.last_sequence.get(),
        last_timestamp: entry.last_timestamp.millis(),
        coordinator_epoch: entry.coordinator_epoch,
        current_txn_start_offset: entry.current_txn_start.map_or(-1, |offset| offset.get()),
    }
}
