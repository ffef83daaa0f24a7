//! What was acknowledged while nodes died, read back: those gifts are due long after the round, so that only the nodes can say whether
//! they are still there.

use crate::chaos::stand::Stand;
use crate::load::http::{Call, Connection, HttpError, Target, bearer};
use crate::load::ledger::Promise;
use crate::load::{CALL_DEADLINE, LoadError, api};
use http::HeaderValue;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

const WHAT: &str = "a gift that was acknowledged";
/// Connections that read.
const READERS: usize = 8;
/// Times that one is asked for, at one node after the other.
const TRIES: usize = 5;
/// A few of those that are lost are named.
const EXAMPLES_MAX: usize = 5;

/// What is left of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// Gifts that were acknowledged through the faults.
    pub acknowledged: u64,
    /// Of those, that the nodes still know, by their status.
    pub statuses: BTreeMap<String, u64>,
    /// A few of those that they do not know.
    pub examples: Vec<String>,
}

impl Kept {
    /// Acknowledged, and no node knows of them.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.acknowledged.saturating_sub(self.statuses.values().sum())
    }

    fn add(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.examples.extend(other.examples);
        self.examples.truncate(EXAMPLES_MAX);
    }
}

/// Asks for each of them as its sender, of whom there are `users`.
///
/// # Errors
/// [`LoadError`]: the nodes do not answer, so that nothing is known.
pub async fn read_back(stand: &Stand, users: u32, gifts: Vec<Promise>) -> Result<Kept, LoadError> {
    let failed = |source: HttpError| LoadError::Http { what: WHAT, source };
    let targets = stand.urls().iter().map(|url| Target::parse(url)).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let mut front = Connection::to_any(targets.clone(), 0, CALL_DEADLINE);
    let mut senders = Vec::new();
    for user in 0..users.max(1) {
        senders.push(bearer(&api::token(&mut front, "user", &format!("load-{user}")).await?).map_err(failed)?);
    }
    let (senders, gifts) = (Arc::new(senders), Arc::new(gifts));
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..READERS {
        let connection = Connection::to_any(targets.clone(), reader, CALL_DEADLINE);
        readers.spawn(read(connection, senders.clone(), gifts.clone(), reader));
    }
    let mut kept = Kept::default();
    while let Some(done) = readers.join_next().await {
        kept.add(done.map_err(|_| LoadError::Worker)??);
    }
    Ok(kept)
}

/// One reader's share.
async fn read(
    mut connection: Connection,
    senders: Arc<Vec<HeaderValue>>,
    gifts: Arc<Vec<Promise>>,
    reader: usize,
) -> Result<Kept, LoadError> {
    let mut kept = Kept::default();
    for gift in gifts.iter().skip(reader).step_by(READERS) {
        let sender = usize::try_from(gift.number % senders.len() as u64).unwrap_or(0);
        kept.acknowledged += 1;
        match status(&mut connection, &senders[sender], &gift.name()).await? {
            Some(status) => *kept.statuses.entry(status).or_default() += 1,
            None if kept.examples.len() < EXAMPLES_MAX => kept.examples.push(gift.name()),
            None => {}
        }
    }
    Ok(kept)
}

/// `None`: there is no such gift.
async fn status(connection: &mut Connection, sender: &HeaderValue, id: &str) -> Result<Option<String>, LoadError> {
    let path = format!("/v1/gifts/{id}");
    let mut tries = 0;
    loop {
        tries += 1;
        let failure = match connection.call(Call::get(&path).bearer(sender)).await {
            Ok(reply) if reply.status == 404 => return Ok(None),
            Ok(reply) => {
                let gift: Option<Value> = serde_json::from_slice(&reply.body).ok();
                let status = gift.as_ref().filter(|gift| reply.status == 200 && gift["id"] == id);
                match status.and_then(|gift| gift["status"].as_str()) {
                    Some(status) => return Ok(Some(status.to_owned())),
                    None => LoadError::Reply { what: WHAT, status: reply.status, body: reply.text() },
                }
            }
            Err(source) => LoadError::Http { what: WHAT, source },
        };
        if tries >= TRIES {
            return Err(failure);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_node_knows_is_lost_over_all_readers() {
        let read = |acknowledged, scheduled, lost: &str| Kept {
            acknowledged,
            statuses: [("scheduled".to_owned(), scheduled)].into(),
            examples: lost.split(' ').filter(|id| !id.is_empty()).map(str::to_owned).collect(),
        };
        let mut all = Kept::default();
        all.add(read(5, 5, ""));
        all.add(read(4, 2, "g_1 g_2"));
        assert_eq!((all.acknowledged, all.lost(), all.examples.len()), (9, 2, 2));
        assert_eq!(all.statuses["scheduled"], 7);
    }
}
