//! The HTTP front of both daemons: the accept loop with its limits, and the one layer every request
//! passes (correlation id, guards, authentication, error bodies).
//!
//! May touch sockets, timers and signals. Knows nothing of tasks, pools or engines.

mod advice;
mod body;
mod budgets;
mod error;
mod extract;
mod front;
mod serve;
pub mod shutdown;
mod throttle;

pub use advice::RetryAdvice;
pub use body::BodyPaused;
pub use budgets::budget_headers;
pub use error::ApiError;
pub use extract::{ApiJson, ApiPath, ApiQuery, BodyLimit};
pub use front::{Front, PUBLIC_ROUTES, RequestContext};
pub use serve::{BindError, Limits, Listener, Mark, Peer, Sent, Served, serve};
