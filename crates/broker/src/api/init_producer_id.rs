//! InitProducerId, versions 0 to 5 (KIP-98, KIP-360): identities for idempotent producers.

use chronik_wire::messages::{InitProducerIdRequest, InitProducerIdResponse};
use chronik_wire::{DecodeError, ErrorCode};

use super::{Answer, Call, Started};
use crate::forward::{self, FORWARDED, ForwardError};

pub(super) fn start(mut call: Call) -> Result<Started, DecodeError> {
    let request = call.decode::<InitProducerIdRequest>()?;
    call.release_memory();
    Ok(Started::Running(Box::pin(async move {
        let response = match producer_id(&call, &request).await {
            Ok(producer_id) => InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() },
            Err(ForwardError::Refused(code)) => InitProducerIdResponse {
                error_code: code.code(),
                producer_id: -1,
                producer_epoch: -1,
                ..Default::default()
            },
            // After an error a client may ask the same broker again, for as long as it is connected to it and to no other.
            Err(ForwardError::NoLeader) => return Answer::Close,
        };
        call.answer::<InitProducerIdRequest>(&response)
    })))
}

async fn producer_id(call: &Call, request: &InitProducerIdRequest) -> Result<i64, ForwardError> {
    let refused = |code| Err(ForwardError::Refused(code));
    match &request.transactional_id {
        Some(id) if id.is_empty() => refused(ErrorCode::InvalidRequest),
        // Transactions are not served: final, where "not available" would be asked again for ever.
        Some(_) => refused(ErrorCode::UnsupportedVersion),
        None if !call.broker.leads() && call.client_id() == FORWARDED => refused(ErrorCode::CoordinatorLoadInProgress),
        None if !call.broker.leads() => forward::init_producer_id(&call.broker).await,
        // An idempotent producer without transactions gets a new identity whatever it had before.
        None => call.broker.producer_ids.next(call.broker.controller.as_ref()).await.map_err(ForwardError::Refused),
    }
}
