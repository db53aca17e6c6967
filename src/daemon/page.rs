//! What a daemon serves over HTTP: `/healthz`, `/readyz`, `/metrics`, and the webhooks below `/hooks/`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::Request;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::any;
use axum::routing::get;
use tokio::net::TcpListener;

use super::metrics::Metrics;
use super::told;
use super::webhook::Hooks;
use crate::store::Store;

/// What the pages show.
#[derive(Clone, Debug)]
pub struct Page {
    pub store: Store,
    pub metrics: Arc<Metrics>,
    /// Whether runs are taken: not before it has begun, and not while it drains.
    pub ready: Arc<AtomicBool>,
    pub hooks: Arc<Hooks>,
}

/// Serves the pages until the runtime ends.
///
/// # Errors
/// The address cannot be listened at.
pub async fn serve(page: Page, address: SocketAddr) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let app = axum::Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/hooks/{*path}", any(hook))
        .with_state(page);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(bound)
}

async fn ready(State(page): State<Page>) -> Response {
    if !page.ready.load(Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "not taking runs\n").into_response();
    }
    match page.store.answers().await {
        Ok(()) => "ready\n".into_response(),
        // The store's own words may name paths and hosts; they are in the log.
        Err(error) => {
            tracing::error!(error = told(&error), "the store does not answer");
            (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n").into_response()
        }
    }
}

async fn hook(State(page): State<Page>, request: Request) -> Response {
    page.hooks.answer(request).await
}

async fn metrics(State(page): State<Page>) -> Response {
    let states = page.store.run_counts().await.unwrap_or_default();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], page.metrics.text(&states)).into_response()
}
