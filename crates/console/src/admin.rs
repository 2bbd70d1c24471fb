//! What may be asked of a node over HTTP beyond its health, and who may ask.
//!
//! Whoever reaches the port may ask. A web page in somebody's browser reaches it too, and a form on it can post to any
//! address: so a request that changes something has to carry `content-type: application/json`, which no form can send
//! and no script of another site without asking first, and no `Origin`, which browsers add to every post. The second
//! stops the page whose name was made to resolve to this node. Parameters stand in the address and nowhere else: a body is
//! refused, so that none is overlooked.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use tracing::error;

use crate::json::{error_body, json};

/// What a promotion was asked to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Promotion {
    /// Refuse where it is not known that this node has everything its leader had.
    pub require_caught_up: bool,
    /// Tell what would happen, and change nothing.
    pub dry_run: bool,
    /// Lead also where records of this node are known to be damaged.
    pub accept_damage: bool,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// JSON.
    pub body: Vec<u8>,
}

impl Reply {
    /// Success with this JSON.
    pub fn ok(body: Vec<u8>) -> Self {
        Self { status: 200, body }
    }

    /// A failure: `{"error": what}`. Lower case, no final stop.
    pub fn error(status: u16, what: &str) -> Self {
        Self { status, body: error_body(what).into_bytes() }
    }

    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        json(status, self.body)
    }
}

/// Tells of replication; must not block.
pub type Replication = dyn Fn() -> Reply + Send + Sync;

/// Promotes the node.
pub type Promote = dyn Fn(Promotion) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync;

pub(crate) fn replication(replication: &Replication) -> Response {
    replication().into_response()
}

/// A promotion that has begun goes on when whoever asked hangs up.
pub(crate) async fn promote(promote: &Arc<Promote>, request: Request) -> Response {
    let promotion = match checked(request).await {
        Ok(promotion) => promotion,
        Err(refusal) => return refusal.into_response(),
    };
    match tokio::spawn(promote(promotion)).await {
        Ok(reply) => reply.into_response(),
        Err(error) => {
            error!(%error, "promotion's task failed");
            Reply::error(500, "the promotion failed; the node's log says more").into_response()
        }
    }
}

async fn checked(request: Request) -> Result<Promotion, Reply> {
    from_no_browser(request.headers())?;
    let promotion = parameters(request.uri().query().unwrap_or_default())?;
    match axum::body::to_bytes(request.into_body(), 0).await {
        Ok(_) => Ok(promotion),
        Err(_) => {
            Err(Reply::error(400, "the body must be empty: parameters belong behind the path, as in ?dry_run=true"))
        }
    }
}

fn from_no_browser(headers: &HeaderMap) -> Result<(), Reply> {
    if headers.contains_key(ORIGIN) {
        return Err(Reply::error(403, "web pages may not promote a node"));
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(Reply::error(415, "the header content-type: application/json is missing"))
    }
}

/// Reads `name=true&name=false`.
fn parameters(query: &str) -> Result<Promotion, Reply> {
    let refused = |what: String| Reply::error(400, &what);
    let mut promotion = Promotion::default();
    let mut given = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let place = match name {
            "require_caught_up" => &mut promotion.require_caught_up,
            "dry_run" => &mut promotion.dry_run,
            "accept_damage" => &mut promotion.accept_damage,
            _ => {
                return Err(refused(format!(
                    "no parameter {name}; there are require_caught_up, dry_run and accept_damage"
                )));
            }
        };
        *place = match value {
            "true" => true,
            "false" => false,
            _ => return Err(refused(format!("{name} is \"{value}\"; write true or false"))),
        };
        if given.contains(&name) {
            return Err(refused(format!("{name} is given twice")));
        }
        given.push(name);
    }
    Ok(promotion)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(query: &str) -> String {
        let reply = parameters(query).unwrap_err();
        assert_eq!(reply.status, 400, "{query}");
        String::from_utf8(reply.body).unwrap()
    }

    #[test]
    fn parameters_are_booleans_that_are_false_where_they_are_not_given() {
        assert_eq!(parameters(""), Ok(Promotion::default()));
        let all = Promotion { require_caught_up: true, dry_run: true, accept_damage: true };
        assert_eq!(parameters("dry_run=true&accept_damage=true&require_caught_up=true"), Ok(all));
        assert_eq!(
            parameters("dry_run=true&&require_caught_up=false&"),
            Ok(Promotion { dry_run: true, ..Promotion::default() })
        );
    }

    #[test]
    fn parameters_that_cannot_be_read_are_refused_by_name() {
        assert!(refusal("dryrun=true").contains("no parameter dryrun; there are require_caught_up, dry_run"));
        assert!(refusal("dry_run").contains(r#"dry_run is \"\"; write true or false"#));
        assert!(refusal("dry_run=1").contains(r#"dry_run is \"1\""#));
        assert!(refusal("dry_run=True").contains("write true or false"));
        assert!(refusal("dry%5Frun=true").contains("no parameter dry%5Frun"));
        assert!(refusal("dry_run=true&dry_run=false").contains("dry_run is given twice"));
    }
}
