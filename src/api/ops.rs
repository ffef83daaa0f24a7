//! Operator views that the runtime makes: cluster, gateways, runtime, forecast.

use crate::actors::door::OpsView;
use crate::api::cursor::Query;
use crate::api::dto::ProblemDocument;
use crate::api::extract::Operator;
use crate::api::json::Faults;
use crate::api::problem::Problem;
use crate::api::router::App;
use axum::Json;
use axum::extract::{RawQuery, State};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Hours that a forecast looks ahead unless asked otherwise, and at most.
const FORECAST_HOURS_DEFAULT: u16 = 48;
const FORECAST_HOURS_MAX: u16 = 24 * 31;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(cluster))
        .routes(routes!(gateways))
        .routes(routes!(runtime))
        .routes(routes!(forecast))
        .routes(routes!(alerts))
}

/// Nodes, shards, leaders and replication.
#[utoipa::path(get, path = "/v1/ops/cluster", tag = "operator", security(("bearer" = [])),
    responses((status = 200, body = Object), (status = 403, body = ProblemDocument)))]
async fn cluster(State(app): State<App>, Operator(_caller): Operator) -> Json<Value> {
    Json(app.door.ops(OpsView::Cluster).await)
}

/// What is wrong, on which node and since when: critical alerts first. `cluster-config/alerts.yml` has the same rules for
/// Prometheus.
#[utoipa::path(get, path = "/v1/ops/alerts", tag = "operator", security(("bearer" = [])),
    responses((status = 200, body = Object), (status = 403, body = ProblemDocument)))]
async fn alerts(State(app): State<App>, Operator(_caller): Operator) -> Json<Value> {
    Json(app.door.ops(OpsView::Alerts).await)
}

/// Each channel's rate, calls in flight, breaker and quota: on the node that answers, and on every node.
///
/// `lanes[]` are those of the node that answers, `answered_by`. `nodes[]` `{id, name, lanes}` are all members' own words, this
/// node's among them; `lanes` is null of one that does not answer within two seconds. `of=node` asks nobody else and leaves
/// `nodes` out.
#[utoipa::path(get, path = "/v1/ops/gateways", tag = "operator", security(("bearer" = [])),
    params(("of" = Option<String>, Query, description = "`cluster` (as it comes) or `node`", pattern = "^(cluster|node)$")),
    responses((status = 200, body = Object), (status = 403, body = ProblemDocument), (status = 422, body = ProblemDocument)))]
async fn gateways(
    State(app): State<App>,
    Operator(_caller): Operator,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    let own = read_of(query.as_deref())?;
    Ok(Json(app.door.ops(OpsView::Gateways { own }).await))
}

fn read_of(query: Option<&str>) -> Result<bool, Problem> {
    let faults = Faults::default();
    let mut query = Query::parse(query);
    let own = match query.take("of").as_deref() {
        None | Some("cluster") => false,
        Some("node") => true,
        Some(_) => {
            faults.add("/of", "unknown_value", "One of cluster, node.");
            false
        }
    };
    query.done(&faults);
    faults.check()?;
    Ok(own)
}

/// Live entities, timers and queues of this node.
#[utoipa::path(get, path = "/v1/ops/runtime", tag = "operator", security(("bearer" = [])),
    responses((status = 200, body = Object), (status = 403, body = ProblemDocument)))]
async fn runtime(State(app): State<App>, Operator(_caller): Operator) -> Json<Value> {
    Json(app.door.ops(OpsView::Runtime).await)
}

/// Due sends for each minute against each channel's quota, with the minutes that would be late; of the whole cluster.
///
/// `minutes[]` `{minute, due, late, channels: {sms: {sends, notices, quota, late}}}`, minutes in which nothing is due left
/// out: `due` counts everything that is, timers and payments too; `quota` is the channel's in a minute, null where it has no
/// provider; `late` counts the sends that would leave more than 60 s after their instant, were all of a minute due at its
/// beginning. `overdue` is one such row of all that was due before. `late_minutes` names the minutes that cannot hold what is
/// due in them, `late` sums them up. `quotas` `{sms: {per_minute, shared}}`: `shared` when all nodes draw on one, else the sum
/// of the nodes' own, of which each serves what it leads. `nodes` answered; `shards_missing` were counted by none of them,
/// `shards_twice` by two, while their leader changed. As of `from`: those who ask at about the same time share one look.
#[utoipa::path(get, path = "/v1/ops/forecast", tag = "operator", security(("bearer" = [])),
    params(("hours" = Option<u16>, Query, minimum = 1, maximum = 744)),
    responses((status = 200, body = Object), (status = 422, body = ProblemDocument)))]
async fn forecast(
    State(app): State<App>,
    Operator(_caller): Operator,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    let hours = read_hours(query.as_deref())?;
    Ok(Json(app.door.ops(OpsView::Forecast { hours }).await))
}

fn read_hours(query: Option<&str>) -> Result<u16, Problem> {
    let faults = Faults::default();
    let mut query = Query::parse(query);
    let hours = match query.take("hours") {
        None => FORECAST_HOURS_DEFAULT,
        Some(text) => text.parse().ok().filter(|hours| (1..=FORECAST_HOURS_MAX).contains(hours)).unwrap_or_else(|| {
            faults.add("/hours", "out_of_range", format!("1 to {FORECAST_HOURS_MAX}."));
            FORECAST_HOURS_DEFAULT
        }),
    };
    query.done(&faults);
    faults.check()?;
    Ok(hours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_the_clusters_unless_a_nodes_are_asked_for() {
        assert!(!read_of(None).unwrap());
        assert!(!read_of(Some("of=cluster")).unwrap());
        assert!(read_of(Some("of=node")).unwrap());
        for bad in ["of=", "of=all", "node=1"] {
            assert!(read_of(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_forecast_looks_one_hour_to_a_month_ahead() {
        assert_eq!(read_hours(None).unwrap(), 48);
        assert_eq!(read_hours(Some("hours=1")).unwrap(), 1);
        for bad in ["hours=0", "hours=745", "hours=x", "hours=", "other=1"] {
            assert!(read_hours(Some(bad)).is_err(), "{bad}");
        }
    }
}
