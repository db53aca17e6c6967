//! Where a browser comes back to after a person has agreed: a port of this machine, for this one answer (RFC 8252, 7.3).

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use axum::Router;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::connector::body::form;

/// A port that waits for one answer.
#[derive(Debug)]
pub struct Loopback {
    listener: TcpListener,
    path: String,
}

impl Loopback {
    /// Listens on this machine, on any port where none is named.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn bind(host: &str, port: Option<u16>, path: &str) -> std::io::Result<Self> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let listener = TcpListener::bind((host, port.unwrap_or(0))).await?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Returns the port.
    ///
    /// # Errors
    /// The system does not say.
    pub fn port(&self) -> std::io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Returns the query with which the browser came back; one with another `state` is turned away.
    ///
    /// # Errors
    /// The port cannot be served.
    pub async fn answer(self, state: &str) -> std::io::Result<String> {
        let (sender, receiver) = oneshot::channel();
        let sender = Arc::new(Mutex::new(Some(sender)));
        let state = state.to_owned();
        let page = move |RawQuery(query): RawQuery| {
            let query = query.unwrap_or_default();
            let pairs = form::parse(&query).unwrap_or_default();
            let get = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
            let (status, text) = if get("state") != Some(&state) {
                (StatusCode::BAD_REQUEST, "This answer is not to the question that was asked. Log in again.")
            } else {
                let agreed = get("code").is_some();
                if let Some(sender) = sender.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    let _ = sender.send(query);
                }
                let text = if agreed { "Done. You can close this window." } else { "The provider has said no." };
                (StatusCode::OK, text)
            };
            // Nothing of the request is written into the page.
            let html = format!(
                "<!doctype html><meta charset=utf-8><title>Pipewright</title><body style=\"font:1.1rem system-ui;\
                 margin:4rem auto;max-width:32rem\"><h1>Pipewright</h1><p>{text}"
            );
            let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
            std::future::ready((status, headers, html).into_response())
        };
        let router = Router::new().route(&self.path, get(page));
        let (done, ended) = oneshot::channel::<()>();
        let server = axum::serve(self.listener, router).with_graceful_shutdown(async {
            let _ = ended.await;
        });
        let serving = tokio::spawn(server.into_future());
        let query = receiver.await;
        // The page reaches the browser before the port closes; a browser that holds on to its connection does not hinder.
        let _ = done.send(());
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), serving).await;
        query.map_err(std::io::Error::other)
    }
}
