//! `bojagi demo`: the life of a gift against a node of its own, in a folder that is removed afterwards.

use crate::api::auth::Role;
use crate::app::address::bind;
use crate::app::{AppError, dev, log};
use crate::cli::DevArgs;
use crate::load::{DemoTarget, demo};

/// Starts a node on free ports and tells the story.
///
/// # Errors
/// [`AppError::Demo`] names the step that did not hold.
pub async fn run() -> Result<(), AppError> {
    log::init(log::Format::Text, log::QUIET);
    let folder = std::env::temp_dir().join(format!("bojagi-demo-{}", std::process::id()));
    let result = tell(&folder).await;
    if let Err(cause) = std::fs::remove_dir_all(&folder) {
        tracing::warn!(folder = %folder.display(), %cause, "demo folder not removed");
    }
    result
}

async fn tell(folder: &std::path::Path) -> Result<(), AppError> {
    let sandbox_port = free_port_pair().await?;
    let args = DevArgs {
        clock_skew_ms: 0,
        data: folder.to_owned(),
        port: 0,
        sandbox_port,
        no_sandbox: false,
        shards: 64,
        nodes: 1,
        cluster_port: 0,
        member: None,
        kakao_batch: None,
        feature_levels: None,
        subnet: None,
        cache_mib: 64,
        redis: None,
        links_via: None,
    };
    let dev = dev::start(&args).await?;
    let target = DemoTarget {
        api: format!("http://{}", dev.api),
        sandbox: format!("http://{}", dev.sandbox),
        user_token: dev.token(Role::User, "u-1"),
        merchant_token: dev.token(Role::Merchant, "m-1"),
        operator_token: dev.token(Role::Operator, "op-1"),
    };
    let told = demo(target).await.map_err(|error| AppError::Demo(error.to_string()));
    dev.stop().await;
    told
}

/// A port whose successor is free too: the sandbox speaks HTTP on the first and SMTP on the second.
async fn free_port_pair() -> Result<u16, AppError> {
    for _ in 0..50 {
        let probe = bind("probe address", ([127, 0, 0, 1], 0).into(), "another port")?;
        let port = probe.local_addr().map_err(AppError::io("probe address"))?.port();
        if port < u16::MAX && bind("probe address", ([127, 0, 0, 1], port + 1).into(), "another port").is_ok() {
            return Ok(port);
        }
    }
    Err(AppError::Demo("no two free ports in a row".to_owned()))
}
