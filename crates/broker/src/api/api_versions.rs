//! ApiVersions, versions 0 to 4 (KIP-35, KIP-482, KIP-511, KIP-584).

use chronik_wire::frame;
use chronik_wire::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use chronik_wire::messages::{ApiVersionsRequest, ApiVersionsResponse};
use chronik_wire::{ApiKey, ErrorCode};

use super::{Answer, Call, SERVED, ServedApi};
use crate::server::Broker;

/// Features with the lowest and the highest level supported; the highest is in force. Clients switch their protocols on these, so
/// nothing stands here that is not served.
const FEATURES: &[(&str, i16, i16)] = &[("metadata.version", 7, 30)];

pub(super) fn handle(call: &Call, request: ApiVersionsRequest) -> ApiVersionsResponse {
    if call.version() >= 3 {
        let valid = |text: &str| {
            let mut bytes = text.bytes();
            bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
                && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
                && text.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric())
        };
        if !valid(&request.client_software_name) || !valid(&request.client_software_version) {
            return ApiVersionsResponse { error_code: ErrorCode::InvalidRequest.code(), ..Default::default() };
        }
        *call.peer.software.lock() = Some((request.client_software_name, request.client_software_version));
    }
    table(&call.broker)
}

/// The answer to a version nobody knows: in the form of version 0, which every client reads, naming the versions of
/// ApiVersions itself, so that the client can ask again.
pub(super) fn unsupported_version(correlation_id: i32) -> Answer {
    let own = SERVED.iter().filter(|api| api.key == ApiKey::ApiVersions).map(advertised).collect();
    let error_code = ErrorCode::UnsupportedVersion.code();
    let response = ApiVersionsResponse { error_code, api_keys: own, ..Default::default() };
    match frame::response::<ApiVersionsRequest>(0, correlation_id, &response) {
        Ok(bytes) => Answer::Bytes(bytes),
        Err(_) => Answer::Close,
    }
}

fn advertised(api: &ServedApi) -> ApiVersion {
    ApiVersion { api_key: api.key.as_i16(), min_version: api.min, max_version: api.max }
}

fn table(broker: &Broker) -> ApiVersionsResponse {
    let api_keys = SERVED.iter().map(advertised).collect();
    let supported_features = FEATURES
        .iter()
        .map(|(name, min, max)| SupportedFeatureKey { name: (*name).to_owned(), min_version: *min, max_version: *max })
        .collect();
    let finalized_features = FEATURES
        .iter()
        .map(|(name, _, max)| FinalizedFeatureKey {
            name: (*name).to_owned(),
            max_version_level: *max,
            min_version_level: *max,
        })
        .collect();
    ApiVersionsResponse {
        api_keys,
        supported_features,
        finalized_features_epoch: broker.image().offset().get(),
        finalized_features,
        ..Default::default()
    }
}
