//! The admin endpoints: health, readiness, metrics, and what runs. Read only.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use runtime_core::contract::Fault;
use runtime_core::engine::Board;
use runtime_core::listener::{self, Limits};
use serde_json::json;

use crate::descriptors;

/// From a call that does nothing to one that takes a minute; Python functions lie between 10 µs and 1 s.
const BUCKETS: &[f64] =
    &[0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0];

#[derive(Clone)]
struct Admin {
    board: Board,
    metrics: PrometheusHandle,
}

/// Installs the metrics recorder and answers on this address from now on.
///
/// # Errors
/// The address cannot be listened on.
pub(crate) async fn serve(address: SocketAddr, board: Board) -> Result<(), Fault> {
    let metrics = PrometheusBuilder::new()
        .set_buckets(BUCKETS)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| Fault::internal("metrics cannot be recorded").caused_by(error))?;
    describe();
    let listener = listen(address).await.map_err(|error| {
        Fault::config(format!("admin.listen: '{address}' cannot be listened on; free it or name another"))
            .caused_by(error)
    })?;
    tracing::info!("admin endpoints on http://{}", listener.local_addr().unwrap_or(address));
    let upkeep = metrics.clone();
    tokio::spawn(async move {
        // without it the samples of histograms pile up between scrapes: megabytes in seconds, at the rate of a busy queue
        let mut ticks = tokio::time::interval(Duration::from_millis(250));
        loop {
            ticks.tick().await;
            upkeep.run_upkeep();
        }
    });
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .route("/api/functions", get(functions))
        .with_state(Admin { board, metrics });
    let service = TowerToHyperService::new(router);
    let usual = Limits::default();
    let limits = Limits { connections: usual.connections.min(descriptors::share()), ..usual };
    tokio::spawn(async move { listener::serve("admin", listener, service, limits).await });
    Ok(())
}

/// The address of a predecessor that was killed may be taken for a moment: a child of its own that was just being
/// started has all that it had.
async fn listen(address: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    const PATIENCE: Duration = Duration::from_secs(1);
    let begin = tokio::time::Instant::now();
    loop {
        match tokio::net::TcpListener::bind(address).await {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && begin.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            bound => return bound,
        }
    }
}

async fn healthz(State(admin): State<Admin>) -> Response {
    if admin.board.is_alive() {
        (StatusCode::OK, "alive\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the supervisor gives no sign of life\n").into_response()
    }
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let reasons = admin.board.reasons();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": reasons.is_empty(), "reasons": reasons }))).into_response()
}

async fn render(State(admin): State<Admin>) -> Response {
    for (name, status) in admin.board.functions() {
        if let Some(received) = status.last_input {
            metrics::gauge!("gaugefn_input_age_seconds", "function" => name).set(received.elapsed().as_secs_f64());
        }
    }
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], admin.metrics.render()).into_response()
}

async fn functions(State(admin): State<Admin>) -> Response {
    Json(admin.board.functions()).into_response()
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("gaugefn_invocations_total", "Calls of the function by outcome: ok, empty, failed, bad_input.");
    describe_histogram!("gaugefn_invocation_duration_seconds", "Duration of a call; of a batch, its mean.");
    describe_gauge!("gaugefn_in_flight", "Events between the source and the end of their commit.");
    describe_gauge!("gaugefn_input_age_seconds", "Time since the newest event was read.");
    describe_counter!("gaugefn_skipped_updates_total", "Values that a newer one replaced before they were read.");
    describe_counter!("gaugefn_retries_total", "Further attempts of failed events.");
    describe_counter!("gaugefn_write_failures_total", "Results that a sink could never store.");
    describe_counter!("gaugefn_dead_letters_total", "Events that failed for good and are kept as dead letters.");
    describe_counter!("gaugefn_fenced_total", "Events whose results came too late: others had them by then.");
    describe_gauge!("gaugefn_state_bytes", "Size of the durable states at hand, as text.");
    describe_gauge!("gaugefn_state_unsaved_keys", "Keys of context.env that cannot be encoded and are not saved.");
    describe_counter!("gaugefn_worker_kills_total", "Workers that were killed at a limit, by reason: timeout, memory.");
    describe_counter!("gaugefn_worker_restarts_total", "Workers that were replaced.");
    describe_gauge!("gaugefn_worker_resident_bytes", "Resident memory of the worker, with what it has started.");
    describe_counter!("gaugefn_log_lines_dropped_total", "Lines that came faster than they could be written.");
    describe_counter!("gaugefn_reloads_total", "New code by outcome: ok took over, failed was refused.");
    describe_gauge!("gaugefn_function_info", "The content hash of the function's code.");
    describe_gauge!("gaugefn_redis_up", "1 while every Redis server in use answers.");
    describe_counter!("gaugefn_redis_reconnects_total", "Broken connections to Redis that were replaced.");
    describe_gauge!("gaugefn_stream_lag", "Entries of the stream that the group has not got yet.");
    describe_gauge!("gaugefn_stream_pending", "Entries that were given to any consumer and are not done.");
    describe_counter!("gaugefn_stream_claimed_total", "Entries taken over from consumers that are gone.");
    describe_counter!("gaugefn_stream_trimmed_total", "Entries deleted from the stream before they were done.");
    describe_gauge!("gaugefn_watch_mode", "1 for the way in which changes of the key are noticed.");
    describe_gauge!("gaugefn_build_info", "The version.");
    metrics::gauge!("gaugefn_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}
