//! The paths and their answers.

use std::future::ready;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use prometheus_client::registry::Registry;
use tracing::error;

use crate::admin::{self, Promote, Replication};
use crate::json::{error_body, json, quoted};

/// What can be asked, as an OpenAPI document.
pub const OPENAPI: &str = include_str!("openapi.json");

/// Whether the node serves clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// It does not, for this reason: lower case, no final stop.
    NotReady(String),
}

/// What the console asks when it is asked.
#[derive(Clone)]
pub struct State {
    /// Called for every request to `/health/ready`; must not block.
    pub readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
    /// Encoded for every request to `/metrics`.
    pub metrics: Arc<Registry>,
    /// Called for every request to `/api/v1/replication`; must not block.
    pub replication: Arc<Replication>,
    /// Called for every post to `/api/v1/promote` that is well-formed, also while an earlier one is not answered. What it
    /// returns runs to its end, whether or not whoever asked waits for it.
    pub promote: Arc<Promote>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

/// One thing that can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Live,
    Ready,
    Metrics,
    OpenApi,
    Replication,
    Promote,
}

/// Every path. `openapi.json` describes the same.
const ROUTES: &[(Method, &str, Route)] = &[
    (Method::GET, "/health/live", Route::Live),
    (Method::GET, "/health/ready", Route::Ready),
    (Method::GET, "/metrics", Route::Metrics),
    (Method::GET, "/api/v1/openapi.json", Route::OpenApi),
    (Method::GET, "/api/v1/replication", Route::Replication),
    (Method::POST, "/api/v1/promote", Route::Promote),
];

impl Route {
    fn answered(self, state: &State) -> MethodRouter {
        let State { readiness, metrics, replication, promote } = state.clone();
        match self {
            Self::Live => get(async || json(StatusCode::OK, r#"{"status":"live"}"#)),
            Self::Ready => get(move || ready(readiness_answer(&readiness()))),
            Self::Metrics => get(move || ready(text(&metrics))),
            Self::OpenApi => get(async || json(StatusCode::OK, OPENAPI)),
            Self::Replication => get(move || ready(admin::replication(&*replication))),
            Self::Promote => post(async move |request: Request| admin::promote(&promote, request).await),
        }
    }
}

pub(crate) fn router(state: State) -> Router {
    let routed = |router: Router, (_, path, route): &(Method, &str, Route)| router.route(path, route.answered(&state));
    ROUTES
        .iter()
        .fold(Router::new(), routed)
        .fallback(async || json(StatusCode::NOT_FOUND, error_body("no such path")))
        .method_not_allowed_fallback(async |method: Method| {
            json(StatusCode::METHOD_NOT_ALLOWED, error_body(&format!("no {method} here")))
        })
}

fn readiness_answer(readiness: &Readiness) -> Response {
    match readiness {
        Readiness::Ready => json(StatusCode::OK, r#"{"status":"ready"}"#),
        Readiness::NotReady(reason) => {
            let body = format!(r#"{{"status":"not ready","reason":{}}}"#, quoted(reason));
            json(StatusCode::SERVICE_UNAVAILABLE, body)
        }
    }
}

fn text(metrics: &Registry) -> Response {
    let mut body = String::new();
    if let Err(error) = prometheus_client::encoding::text::encode(&mut body, metrics) {
        error!(%error, "metrics cannot be encoded");
        return json(StatusCode::INTERNAL_SERVER_ERROR, error_body("metrics cannot be encoded"));
    }
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_description_has_exactly_the_paths_there_are() {
        let described: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let described: BTreeSet<(String, String)> = described["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| {
                methods.as_object().unwrap().keys().map(move |method| (method.clone(), path.clone()))
            })
            .collect();
        let there: BTreeSet<(String, String)> =
            ROUTES.iter().map(|(method, path, _)| (method.to_string().to_lowercase(), (*path).to_owned())).collect();
        assert_eq!(described, there);
    }

    #[test]
    fn the_description_refers_to_what_it_holds() {
        let described: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let mut references = 0;
        let mut left = vec![&described];
        while let Some(value) = left.pop() {
            match value {
                serde_json::Value::Object(fields) => {
                    if let Some(reference) = fields.get("$ref").and_then(|reference| reference.as_str()) {
                        let pointer = reference.strip_prefix('#').unwrap();
                        assert!(described.pointer(pointer).is_some(), "{reference}");
                        references += 1;
                    }
                    left.extend(fields.values());
                }
                serde_json::Value::Array(items) => left.extend(items),
                _ => {}
            }
        }
        assert!(references > 0);
    }
}
