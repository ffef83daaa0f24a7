//! The process's metrics, rendered for Prometheus.

use crate::app::AppError;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::time::Duration;

/// Upper bounds of the histograms' buckets in seconds.
const BUCKETS_SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0];
/// Samples are folded into their buckets this often, so that they do not pile up between two scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Counters of what hardly ever happens. They are there from the start, so that the first time is seen as a step from 0.
const RARE: [&str; 4] = [
    "bojagi_http_connections_refused_total",
    "bojagi_http_shed_total",
    "bojagi_requests_relayed_total",
    "bojagi_wrong_codes_total",
];

/// Installs the recorder of this process. Call it within the runtime, and before anything else that looks a metric up: a
/// handle that was made before counts for nobody.
///
/// # Errors
/// [`AppError::Metrics`] when one is installed already.
pub fn install() -> Result<PrometheusHandle, AppError> {
    let failed = |error: metrics_exporter_prometheus::BuildError| AppError::Metrics(error.to_string());
    let builder = PrometheusBuilder::new().set_buckets(&BUCKETS_SECONDS).map_err(failed)?;
    let handle = builder.install_recorder().map_err(failed)?;
    for name in RARE {
        metrics::counter!(name).absolute(0);
    }
    metrics::counter!("bojagi_coupon_claims_total", "result" => "issued").absolute(0);
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}
