//! InitProducerId, versions 0 to 5 (KIP-98, KIP-360): identities for idempotent producers.

use std::sync::Arc;

use chronik_wire::ErrorCode;
use chronik_wire::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::Call;
use crate::forward::{self, FORWARDED};

pub(super) async fn handle(call: Arc<Call>, request: InitProducerIdRequest) -> InitProducerIdResponse {
    match producer_id(&call, &request).await {
        Ok(producer_id) => InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() },
        Err(code) => InitProducerIdResponse {
            error_code: code.code(),
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        },
    }
}

async fn producer_id(call: &Call, request: &InitProducerIdRequest) -> Result<i64, ErrorCode> {
    match &request.transactional_id {
        Some(id) if id.is_empty() => Err(ErrorCode::InvalidRequest),
        // Transactions are not served: final, where "not available" would be asked again for ever.
        Some(_) => Err(ErrorCode::UnsupportedVersion),
        None if !call.broker.leads() && call.client_id() == FORWARDED => Err(ErrorCode::CoordinatorLoadInProgress),
        None if !call.broker.leads() => forward::init_producer_id(&call.broker).await,
        // An idempotent producer without transactions gets a new identity whatever it had before.
        None => call.broker.producer_ids.next(call.broker.controller.as_ref()).await,
    }
}
