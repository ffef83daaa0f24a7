//! `bojagi cluster`: membership from the terminal, through the front door of any live node; and what a node needs
//! before it serves.

mod backup;
mod client;
mod founding;
mod restore;
mod table;

use crate::app::AppError;
use crate::cli::{ClusterApi, ClusterCommand, Confirm};
use client::Client;
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

const VIEW: &str = "/v1/ops/cluster";
/// Pause between two looks of `watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Does one command.
///
/// # Errors
/// [`AppError`]: no node answers, or the cluster refuses; nothing was changed then unless it says otherwise.
pub async fn run(command: ClusterCommand) -> Result<(), AppError> {
    match command {
        ClusterCommand::Certs(args) => founding::certificates(&args),
        ClusterCommand::Init(args) => founding::init(&args),
        ClusterCommand::Join(args) => founding::join(&args).await,
        ClusterCommand::Status { api, json } => show(&api, json, table::status).await,
        ClusterCommand::Shards { api, json } => show(&api, json, table::shards).await,
        ClusterCommand::Watch { api } => watch(&api).await,
        ClusterCommand::Token { api, seconds } => {
            let made = Client::new(&api)?.post("/v1/ops/cluster/tokens", &json!({ "seconds": seconds })).await?;
            println!("{}", made["token"].as_str().unwrap_or_default());
            Ok(())
        }
        ClusterCommand::Drain { api, node, undo, confirm } => {
            if !undo {
                ask(&confirm, &format!("Move all leaders and replicas off node {node}?"))?;
            }
            change(&api, "drain", json!({ "node": node, "undo": undo })).await
        }
        ClusterCommand::Remove { api, node, force, confirm } => {
            ask(
                &confirm,
                &format!("Take node {node} out for good? Its number and its data folder are of no use after."),
            )?;
            change(&api, "remove", json!({ "node": node, "force": force })).await
        }
        ClusterCommand::Transfer { api, shard, to } => {
            change(&api, "transfer", json!({ "shard": shard, "to": to })).await
        }
        ClusterCommand::Rebalance { api } => change(&api, "rebalance", json!({})).await,
        ClusterCommand::Backup(args) => backup::run(&args).await,
        ClusterCommand::Restore(args) => restore::run(&args),
        ClusterCommand::FinalizeUpgrade { api, confirm } => {
            ask(&confirm, "Raise the feature level? Nodes of the older build are refused from then on.")?;
            change(&api, "finalize-upgrade", json!({})).await
        }
    }
}

async fn show(api: &ClusterApi, as_json: bool, render: fn(&Value) -> String) -> Result<(), AppError> {
    let view = Client::new(api)?.get(VIEW).await?;
    if as_json {
        println!("{view}");
    } else {
        print!("{}", render(&view));
    }
    Ok(())
}

async fn change(api: &ClusterApi, what: &str, body: Value) -> Result<(), AppError> {
    let done = Client::new(api)?.post(&format!("{VIEW}/{what}"), &body).await?;
    println!("{}", done["done"].as_str().map_or_else(|| done.to_string(), str::to_owned));
    Ok(())
}

/// Draws the cluster anew every second until interrupted; a node that fails is passed over for the next.
async fn watch(api: &ClusterApi) -> Result<(), AppError> {
    let client = Client::new(api)?;
    loop {
        let text = match client.get(VIEW).await {
            Ok(view) => format!("{}\n{}", table::status(&view), table::shards(&view)),
            Err(error) => format!("{error}\n"),
        };
        // Home, then what is new, then clear what is left of the old.
        print!("\x1b[H\x1b[J{text}");
        std::io::stdout().flush().map_err(AppError::io("terminal"))?;
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

/// Asks before harm is done; without a terminal only `--yes` will do.
fn ask(confirm: &Confirm, question: &str) -> Result<(), AppError> {
    if confirm.yes {
        return Ok(());
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(AppError::Usage(format!("{question} Say --yes.")));
    }
    print!("{question} [y/N] ");
    std::io::stdout().flush().map_err(AppError::io("terminal"))?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).map_err(AppError::io("terminal"))?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(AppError::Usage("nothing was done".to_owned()))
    }
}
