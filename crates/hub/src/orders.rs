//! What an operator orders on the admin listener.

use std::sync::Arc;

use http::StatusCode;
use http::header::{HeaderMap, ORIGIN};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::admit::Rejection;
use crate::balance;
use crate::hub::Hub;
use crate::request::Route;

/// Carries an order out, or begins to; what is told about it.
///
/// # Errors
///
/// 403 for a web page, which reaches a listener on this machine as well; 400 for what is no order.
pub(crate) async fn obey(
    hub: &Arc<Hub>,
    order: Route<'_>,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<(StatusCode, Value), Rejection> {
    // Browsers send it with every POST of a page.
    if headers.contains_key(ORIGIN) {
        return Err(Rejection::forbidden("orders are not for web pages"));
    }
    Ok(match order {
        Route::Drain => (StatusCode::OK, balance::order(hub, body).await?),
        Route::DrainStatus => (StatusCode::OK, hub.balance.status()),
        Route::CancelDrain => (StatusCode::OK, hub.balance.cancel()),
        _ => match hub.upgrade().await {
            Ok(pid) => (StatusCode::OK, json!({ "pid": pid })),
            Err(reason) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                json!({ "reason": reason }),
            ),
        },
    })
}
