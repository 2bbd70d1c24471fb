//! DeleteRecords, versions 0 to 2 (KIP-107): raises the log start offset, for good once it is answered.

use std::sync::Arc;

use chronik_model::Offset;
use chronik_wire::ErrorCode;
use chronik_wire::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use chronik_wire::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::Call;
use crate::error_code;

/// Everything up to the high watermark.
const UP_TO_HIGH_WATERMARK: i64 = -1;

pub(super) async fn delete_records(call: Arc<Call>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let again = request.clone();
    let work = move || {
        let mut any = false;
        let mut response = answer(&request, |topic, index, offset| {
            let start = delete(&call, topic, index, offset);
            any |= start.is_ok();
            start
        });
        // The new starts count only when a restart would find them.
        if any && let Err(error) = call.broker.replicas.write_checkpoints() {
            tracing::error!(%error, "log start offsets cannot be made durable");
            response = answer(&request, |_, _, _| Err(ErrorCode::KafkaStorageError));
        }
        response
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(response) => response,
        Err(panic) => {
            tracing::error!(%panic, "deletion of records failed");
            answer(&again, |_, _, _| Err(ErrorCode::UnknownServerError))
        }
    }
}

fn answer(
    request: &DeleteRecordsRequest,
    mut each: impl FnMut(&str, i32, i64) -> Result<Offset, ErrorCode>,
) -> DeleteRecordsResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| DeleteRecordsTopicResult {
            name: topic.name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|asked| {
                    let (code, low_watermark) = match each(&topic.name, asked.partition_index, asked.offset) {
                        Ok(start) => (ErrorCode::None, start.get()),
                        Err(code) => (code, -1),
                    };
                    DeleteRecordsPartitionResult {
                        partition_index: asked.partition_index,
                        low_watermark,
                        error_code: code.code(),
                    }
                })
                .collect(),
        })
        .collect();
    DeleteRecordsResponse { topics, ..Default::default() }
}

fn delete(call: &Call, topic: &str, index: i32, offset: i64) -> Result<Offset, ErrorCode> {
    if chronik_metadata::is_internal_topic(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let partition = call.broker.replicas.by_name(topic, index)?;
    if !partition.standing().leads {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    let settings = partition.settings();
    if !settings.log.delete_on_retention {
        return Err(ErrorCode::PolicyViolation);
    }
    let view = partition.reader().bounds();
    let target = if offset == UP_TO_HIGH_WATERMARK { view.high_watermark } else { Offset::new(offset) };
    if target < Offset::ZERO || target > view.high_watermark {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    partition.with_log(|log| log.delete_records_before(target)).map_err(|error| {
        tracing::error!(partition = %partition.name(), %error, "deletion of records failed");
        error_code::log(&error)
    })
}
