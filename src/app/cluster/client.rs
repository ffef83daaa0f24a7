//! The operator's calls to any live node of a cluster.

use crate::api::auth::Role;
use crate::app::{AppError, fresh_key, keys, token_key};
use crate::cli::ClusterApi;
use serde_json::Value;
use std::time::Duration;

/// Life of the token that one command mints for itself.
const TOKEN_SECONDS: u64 = 300;
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
const CALL_PATIENCE: Duration = Duration::from_secs(30);

const KEY: &str = "idempotency-key";

/// Calls the first node that answers.
pub struct Client {
    http: reqwest::Client,
    nodes: Vec<String>,
    token: String,
}

impl Client {
    /// # Errors
    /// [`AppError`]: the key cannot be read.
    pub fn new(args: &ClusterApi) -> Result<Self, AppError> {
        let token = match &args.token {
            Some(token) => token.clone(),
            None => {
                let key = token_key(&keys::read(&args.key_file)?);
                key.mint("bojagi-cluster", Role::Operator, TOKEN_SECONDS)
                    .map_err(|error| AppError::Usage(error.to_string()))?
            }
        };
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_PATIENCE)
            .timeout(CALL_PATIENCE)
            .build()
            .map_err(|error| AppError::Cluster(error.to_string()))?;
        let nodes = args.api.iter().map(|api| api.trim_end_matches('/').to_owned()).collect();
        Ok(Self { http, nodes, token })
    }

    /// # Errors
    /// [`AppError::Cluster`]: no node answers, or the one that does refuses.
    pub async fn get(&self, path: &str) -> Result<Value, AppError> {
        self.call(|node| self.http.get(format!("{node}{path}"))).await
    }

    /// # Errors
    /// As [`Client::get`]. A call that left and was not answered is not repeated at another node.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, AppError> {
        let key = fresh_key();
        self.call(|node| self.http.post(format!("{node}{path}")).header(KEY, &key).json(body)).await
    }

    /// The nodes that calls go to, in the order in which they are tried.
    #[must_use]
    pub fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// The body of one node's answer; `None` when it does not answer, or not now.
    ///
    /// # Errors
    /// [`AppError::Cluster`]: it refuses.
    pub async fn bytes(&self, node: &str, path: &str) -> Result<Option<Vec<u8>>, AppError> {
        let Ok(response) = self.http.get(format!("{node}{path}")).bearer_auth(&self.token).send().await else {
            return Ok(None);
        };
        let status = response.status();
        if status.is_success() {
            // One that was cut off is as good as none.
            return Ok(response.bytes().await.ok().map(|bytes| bytes.to_vec()));
        }
        // An older build does not know the path.
        let not_now = [reqwest::StatusCode::TOO_MANY_REQUESTS, reqwest::StatusCode::NOT_FOUND];
        if status.is_server_error() || not_now.contains(&status) {
            return Ok(None);
        }
        read(response).await.map(|_| None)
    }

    async fn call(&self, request: impl Fn(&str) -> reqwest::RequestBuilder) -> Result<Value, AppError> {
        let mut last = "no --api given".to_owned();
        for node in &self.nodes {
            match request(node).bearer_auth(&self.token).send().await {
                Ok(response) => return read(response).await,
                Err(error) if error.is_connect() => last = format!("{node} does not answer"),
                Err(error) => {
                    return Err(AppError::Cluster(format!("{node}: {error}; whether it was done is not known")));
                }
            }
        }
        Err(AppError::Cluster(last))
    }
}

async fn read(response: reqwest::Response) -> Result<Value, AppError> {
    let status = response.status();
    let body: Value = response.json().await.unwrap_or(Value::Null);
    if status.is_success() {
        return Ok(body);
    }
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    let why = text("detail").or_else(|| text("title")).unwrap_or_else(|| status.to_string());
    Err(AppError::Cluster(format!("refused ({}): {why}", text("code").unwrap_or_else(|| status.to_string()))))
}
