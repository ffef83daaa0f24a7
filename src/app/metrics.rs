//! The process's metrics, rendered for Prometheus.

use crate::app::AppError;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Installs the recorder of this process.
///
/// # Errors
/// [`AppError::Metrics`] when one is installed already.
pub fn install() -> Result<PrometheusHandle, AppError> {
    PrometheusBuilder::new().install_recorder().map_err(|error| AppError::Metrics(error.to_string()))
}
