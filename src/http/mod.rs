//! Outbound HTTP: the only room that knows reqwest.

mod heard;
mod network;
mod origin;
mod stand_ins;
mod streamed;

use async_trait::async_trait;

pub use self::heard::Heard;
pub use self::network::ReqwestTransport;
pub use self::network::form;
pub use self::network::resolve_here;
pub use self::network::with_query;
pub use self::origin::Origin;
pub use self::origin::is_private;
pub use self::stand_ins::Fault;
pub use self::stand_ins::FaultyTransport;
pub use self::stand_ins::RecordedTransport;
pub use self::streamed::Streamed;

use crate::model::Duration;
use crate::model::ErrorClass;

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Upper case, e.g. `GET`.
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// A body that is handed over while it is sent, in place of `body`: a file that is too large for memory.
    pub streamed: Option<Streamed>,
    /// How long the whole exchange may take.
    pub timeout: Duration,
    /// The largest answer that is read, in bytes.
    pub max_body: u64,
    /// How many redirects to the same origin are followed.
    pub redirects: u32,
    /// Whether addresses that are not public may be reached: this machine, private networks.
    pub private: bool,
    /// Whether whoever sends it has said that it changes nothing outside: a plan lets no other through.
    pub reads: bool,
    /// The connection that it is sent for, if it is for one: a sandbox has it answered by that one's stand-in.
    pub connection: Option<std::sync::Arc<str>>,
    /// Who hears the answer's body while it comes.
    pub heard: Option<Heard>,
}

/// The answer, read whole.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case; a repeated one stands repeatedly.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Nothing was sent: the URL is unusable, or no connection came about.
    #[error("cannot connect to `{host}`: {reason}")]
    NotSent { host: String, reason: String },
    /// Nothing was sent, nor will be: whoever asks may not reach this address.
    #[error("cannot connect to `{host}`: {reason}")]
    NotAllowed { host: String, reason: String },
    /// The time ran out after sending had begun.
    #[error("no answer from `{host}` within {after}")]
    Timeout { host: String, after: Duration },
    /// The connection broke after sending had begun.
    #[error("the connection to `{host}` broke: {reason}")]
    Broken { host: String, reason: String },
    /// The answer is larger than allowed.
    #[error("the answer of `{host}` is larger than {limit} bytes")]
    TooLarge { host: String, limit: u64 },
}

/// Sends requests: over the network, or from a recording.
#[async_trait]
pub trait Transport: Send + Sync + std::fmt::Debug {
    async fn send(&self, request: Request) -> Result<Response, TransportError>;
}

impl Request {
    /// Makes a request without headers and body: 30 seconds, 16 MiB, no redirects.
    #[must_use]
    pub fn new(method: &str, url: &str) -> Self {
        Self {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            streamed: None,
            timeout: Duration::from_secs(30),
            max_body: 16 * 1024 * 1024,
            redirects: 0,
            private: true,
            reads: false,
            connection: None,
            heard: None,
        }
    }
}

impl Response {
    /// Returns the first header with this name, which is given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

impl TransportError {
    /// Returns the class of error that it is for a step.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotSent { .. } | Self::Broken { .. } => ErrorClass::Unavailable,
            Self::Timeout { .. } => ErrorClass::Timeout,
            Self::TooLarge { .. } | Self::NotAllowed { .. } => ErrorClass::Invalid,
        }
    }

    /// Tells whether it is proven that nothing was sent.
    #[must_use]
    pub fn nothing_was_sent(&self) -> bool {
        matches!(self, Self::NotSent { .. } | Self::NotAllowed { .. })
    }
}
