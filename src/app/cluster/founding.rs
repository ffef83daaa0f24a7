//! `bojagi cluster init`, `join` and `certs`: what is done on a node's own machine, before it serves.

use crate::actors::link::Label;
use crate::app::certs::{self, CertError};
use crate::app::clock::SystemClock;
use crate::app::links::{self, Member};
use crate::app::{AppError, read_master_key};
use crate::cli::{CertsArgs, InitArgs, JoinArgs};
use crate::config::Config;
use crate::persistence::folder::{Folder, OpenOptions};
use crate::types::time::Clock;
use std::io::Read;

/// Whether a folder is to be made, and what with.
fn options(config: &Config, create: bool) -> Result<OpenOptions, AppError> {
    Ok(OpenOptions {
        shards: config.node.shards,
        create,
        ballast_bytes: config.node.ballast_bytes,
        master_key: Some(read_master_key(config)?),
        ..OpenOptions::default()
    })
}

fn member(config: &Config) -> Result<Member, AppError> {
    let missing = || AppError::Usage("the configuration has no [cluster] section".to_owned());
    let cluster = config.cluster.as_ref().ok_or_else(missing)?;
    Member::new(cluster, config.node.listen)
}

/// Makes the data folder of a cluster's first node, with the cluster's secrets.
///
/// # Errors
/// [`AppError`]: there is a folder already; nothing was changed.
pub fn init(args: &InitArgs) -> Result<(), AppError> {
    let config = Config::load(&args.config)?;
    let member = member(&config)?;
    let data = &config.node.data;
    if data.exists() {
        return Err(AppError::Usage(format!("{} exists already: nothing was founded", data.display())));
    }
    drop(Folder::open(data, options(&config, true)?)?);
    println!(
        "{}: the folder of node 1 of cluster {} ({} shards, up to {} replicas each).\n\
         Start it: bojagi serve --config {}\n\
         Then a token for each further node: bojagi cluster token --api URL --key-file FILE",
        data.display(),
        member.plan.cluster,
        config.node.shards,
        member.introduction.replication,
        args.config.display(),
    );
    Ok(())
}

/// Asks a member to take this node in, and makes its data folder.
///
/// # Errors
/// [`AppError`]: the member refuses or does not answer, or there is a folder already.
pub async fn join(args: &JoinArgs) -> Result<(), AppError> {
    let config = Config::load(&args.config)?;
    let member = member(&config)?;
    let data = &config.node.data;
    if data.exists() {
        let what = format!("{} exists already: a node joins with a new folder, under a new number", data.display());
        return Err(AppError::Usage(what));
    }
    let token = match &args.token {
        Some(token) => token.clone(),
        None => from_stdin()?,
    };
    let facts = member.introduction.facts();
    let node = links::join(&member.plan, &args.via, &token, facts, data, options(&config, false)?).await?;
    println!(
        "{}: the folder of node {node} of cluster {}.\nStart it: bojagi serve --config {}",
        data.display(),
        member.plan.cluster,
        args.config.display(),
    );
    Ok(())
}

/// A token on a command line can be read by every user of the machine.
fn from_stdin() -> Result<String, AppError> {
    let mut text = String::new();
    std::io::stdin().lock().take(4_096).read_to_string(&mut text).map_err(AppError::io("standard input"))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(AppError::Usage("no token on standard input".to_owned()));
    }
    Ok(token.to_owned())
}

/// Makes the cluster's CA where there is none, and a certificate for each node named.
///
/// # Errors
/// [`AppError`]: a node has a certificate already; those made before it stay.
pub fn certificates(args: &CertsArgs) -> Result<(), AppError> {
    let made = |error: CertError| AppError::Usage(error.to_string());
    let label = |text: &str| Label::new(text).map_err(|error| AppError::Usage(format!("{text}: {error}")));
    let now = SystemClock::new().now();
    let names = args.nodes.iter().map(|name| label(name)).collect::<Result<Vec<Label>, AppError>>()?;
    if args.dir.join("ca.crt").exists() {
        let there = certs::cluster_of(&args.dir).map_err(made)?;
        if let Some(asked) = args.cluster.as_deref().filter(|asked| *asked != there.as_str()) {
            return Err(AppError::Usage(format!("{} holds the CA of {there}, not of {asked}", args.dir.display())));
        }
    } else {
        let needed = || AppError::Usage("there is no CA yet: name the cluster with --cluster NAME".to_owned());
        let cluster = label(args.cluster.as_deref().ok_or_else(needed)?)?;
        certs::make_ca(&args.dir, &cluster, now).map_err(made)?;
        println!("{}: CA of {cluster}. Keep ca.key off the nodes.", args.dir.display());
    }
    for name in names {
        let files = certs::make_node(&args.dir, &name, &args.hosts, now).map_err(made)?;
        println!("{name}: {}, {} and {}", files.cert.display(), files.key.display(), files.ca.display());
    }
    Ok(())
}
