//! The HTTP surface of a node (`API.md`): jobs, workloads, hosts, account, keys, probes, metrics.
//!
//! `serve.rs` answers connections with [`router`]. Handlers translate between HTTP and the node's
//! parts and decide nothing about jobs or money. What a client sends is bounded, checked, and
//! answered with an error that names the field and the limit. Jobs' inputs and outputs are never
//! logged.

mod account;
mod auth;
mod body;
mod error;
mod islands;
mod jobs;
mod keys;
mod limiter;
mod operator;
mod plain;
mod probes;
mod stream;
mod workloads;

pub use keys::OpenError;

use crate::{
    disk::Disk,
    jobs::{Accounts, JobBook, NodeSubmitter, OpenError as JobsError},
    metrics::{Component, Metrics, Observed},
    node::Node,
    wallet::Wallet,
};
use archipelag_protocol::id::AccountId;
use archipelag_runtimes::workers::Workers;
use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, header},
    middleware::{self, Next},
    response::Response,
    routing::{delete, get, post},
};
use error::Error;
use keys::Keys;
use limiter::Limiter;
use std::{num::NonZero, ops::Deref, sync::Arc, time::Duration};

/// How long an answer may take to begin: a job may wait for a block and for a slow mesh.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(60);

/// How the surface behaves.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Requests that one key may make in a minute.
    pub requests_per_minute: NonZero<u32>,
    /// Whether other machines can reach it: then metrics need a key too.
    pub remote: bool,
}

/// What handlers share; cheap to clone.
#[derive(Clone, Debug)]
pub struct Gateway(Arc<Inner>);

#[derive(Debug)]
pub struct Inner {
    config: Config,
    node: Arc<Node>,
    jobs: JobBook,
    keys: Keys,
    limiter: Limiter,
    metrics: Metrics,
    observed: Observed,
}

impl Deref for Gateway {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// All API keys of a node spend from its home's consumer account.
#[derive(Debug)]
struct OnePayer(Wallet);

impl Accounts for OnePayer {
    fn wallet(&self, account: AccountId) -> Option<Wallet> {
        (account == self.0.account()).then(|| self.0.clone())
    }
}

impl Gateway {
    /// Opens the job book and the keys; `own` is the key in the node's home.
    ///
    /// # Errors
    /// When a database can't be opened.
    pub async fn open(
        config: Config,
        node: Arc<Node>,
        own: &str,
        disk: Arc<dyn Disk>,
        workers: Arc<dyn Workers>,
    ) -> anyhow::Result<Self> {
        let submitter = NodeSubmitter {
            consumer: node.consumer.clone(),
            catalog: node.catalog.clone(),
            accounts: Arc::new(OnePayer(node.payer.clone())),
        };
        let jobs: Result<JobBook, JobsError> = JobBook::open(
            disk.clone(),
            workers.clone(),
            node.tasks.clone(),
            Arc::new(submitter),
            crate::jobs::Config::default(),
        )
        .await;
        let jobs = jobs?;
        let keys = Keys::open(disk, workers, own).await?;
        let observed = Observed::default();
        let mut parts: Vec<(&str, &dyn Component)> = vec![
            ("node", &observed),
            ("mesh", node.mesh.metrics()),
            ("consumer", node.consumer.metrics()),
            ("jobs", jobs.metrics()),
        ];
        if let Some(island) = &node.island {
            parts.push(("island", island.metrics()));
        }
        if let Some(coordinator) = &node.coordinator {
            parts.push(("coordinator", coordinator.metrics()));
        }
        let metrics = Metrics::new(&parts);
        let limiter = Limiter::new(config.requests_per_minute);
        Ok(Self(Arc::new(Inner { config, node, jobs, keys, limiter, metrics, observed })))
    }
}

/// All routes.
pub fn router(gateway: Gateway) -> Router {
    let api = Router::new()
        .route("/health", get(probes::health))
        .route("/account", get(account::show))
        .route("/jobs", get(jobs::list).post(jobs::submit))
        .route("/jobs/{id}", get(jobs::show).delete(jobs::cancel))
        .route("/jobs/{id}/output", get(jobs::output))
        .route("/jobs/{id}/stream", get(stream::stream))
        .route("/workloads", get(workloads::list))
        .route("/workloads/{slug}", get(workloads::show))
        .route("/hosts", get(islands::list))
        .route("/hosts/{id}", get(islands::show))
        .route("/hosts/{id}/karma", get(islands::karma))
        .route("/api-keys", get(account::list_keys).post(account::create_key))
        .route("/api-keys/{id}", delete(account::revoke_key))
        .route("/node", get(operator::status))
        .route("/node/cargos", post(operator::publish));
    Router::new()
        .nest("/api/v1", api)
        .route("/metrics", get(probes::metrics))
        .route("/livez", get(probes::live))
        .route("/readyz", get(probes::ready))
        .route("/healthz", get(probes::verbose))
        .fallback(async || Error::not_found("there is nothing here; the API is under /api/v1"))
        .method_not_allowed_fallback(async || Error::method_not_allowed())
        .layer(middleware::from_fn(bounded))
        .with_state(gateway)
}

/// Ends what takes too long, and says what holds for every answer.
async fn bounded(request: Request, next: Next) -> Result<Response, Error> {
    let answered = tokio::time::timeout(HANDLER_TIMEOUT, next.run(request)).await;
    let mut response = answered.map_err(|_| {
        let seconds = HANDLER_TIMEOUT.as_secs();
        Error::unavailable(format!("this took longer than {seconds} s; try again"))
    })?;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    Ok(response)
}
