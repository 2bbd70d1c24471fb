//! The paths and their answers.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tracing::error;

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
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

pub(crate) fn router(state: State) -> Router {
    let State { readiness, metrics } = state;
    Router::new()
        .route("/health/live", get(async || json(StatusCode::OK, r#"{"status":"live"}"#.to_owned())))
        .route("/health/ready", get(move || std::future::ready(ready(&readiness()))))
        .route("/metrics", get(move || std::future::ready(text(&metrics))))
        .fallback(async || json(StatusCode::NOT_FOUND, r#"{"error":"no such path"}"#.to_owned()))
        .method_not_allowed_fallback(async |method: Method| {
            json(StatusCode::METHOD_NOT_ALLOWED, format!(r#"{{"error":{}}}"#, quoted(&format!("no {method} here"))))
        })
}

fn ready(readiness: &Readiness) -> Response {
    match readiness {
        Readiness::Ready => json(StatusCode::OK, r#"{"status":"ready"}"#.to_owned()),
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
        return json(StatusCode::INTERNAL_SERVER_ERROR, r#"{"error":"metrics cannot be encoded"}"#.to_owned());
    }
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

fn json(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body + "\n").into_response()
}

/// The text as a JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_strings_are_escaped() {
        assert_eq!(quoted("a\"b\\c\nd\u{e9}"), "\"a\\\"b\\\\c\\u000ad\u{e9}\"");
    }
}
