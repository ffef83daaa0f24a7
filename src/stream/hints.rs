//! The hint `<prefix>:coupon:available:<campaign>` in Redis: how many coupons are left, as some node saw it last. Written and
//! read some times a second by one task a node, for the campaigns that are asked about; nobody waits for it.

use super::client::{RedisAddress, StreamError};
use crate::types::hint::AvailabilityHints;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often what was told is written, and what is asked about is read.
const EVERY: Duration = Duration::from_millis(100);
/// Pause after Redis did not answer, and the longest wait for it.
const PAUSE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_millis(500);
/// Rounds without a question after which a campaign is not read any more: ten seconds.
const ROUNDS_MAX: u32 = 100;
/// Campaigns that are told or read at one time; further ones have no hint.
const CAMPAIGNS_MAX: usize = 1_024;
/// Seconds after which a hint is gone: a campaign is over by then, or told of anew.
const LIFE_S: u64 = 7 * 24 * 3_600;

/// The hints of the fleet in Redis.
pub struct RedisHints {
    board: Arc<Board>,
    task: tokio::task::JoinHandle<()>,
}

struct Board {
    address: RedisAddress,
    prefix: String,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    /// To be written.
    told: BTreeMap<String, u32>,
    watched: BTreeMap<String, Watched>,
}

#[derive(Clone, Copy, Default)]
struct Watched {
    sold_out: bool,
    /// Rounds since it was asked about.
    rounds: u32,
}

impl RedisHints {
    /// Call it within a tokio runtime. Redis need not be there.
    #[must_use]
    pub fn start(address: RedisAddress, prefix: &str) -> Self {
        let board = Arc::new(Board { address, prefix: prefix.to_owned(), notes: Mutex::default() });
        Self { task: tokio::spawn(serve(board.clone())), board }
    }
}

impl Drop for RedisHints {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl AvailabilityHints for RedisHints {
    fn tell(&self, campaign: &str, left: u32) {
        let mut notes = self.board.notes.lock();
        if notes.told.len() < CAMPAIGNS_MAX || notes.told.contains_key(campaign) {
            notes.told.insert(campaign.to_owned(), left);
        }
    }

    fn is_sold_out(&self, campaign: &str) -> bool {
        let mut notes = self.board.notes.lock();
        if let Some(watched) = notes.watched.get_mut(campaign) {
            watched.rounds = 0;
            return watched.sold_out;
        }
        if notes.watched.len() < CAMPAIGNS_MAX {
            notes.watched.insert(campaign.to_owned(), Watched::default());
        }
        false
    }
}

/// Until it is aborted.
async fn serve(board: Arc<Board>) {
    let mut link = None;
    loop {
        tokio::time::sleep(EVERY).await;
        if board.round(&mut link).await.is_err() {
            link = None;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Board {
    fn key(&self, campaign: &str) -> String {
        format!("{}:coupon:available:{campaign}", self.prefix)
    }

    async fn round(&self, link: &mut Option<MultiplexedConnection>) -> Result<(), StreamError> {
        let (told, watched) = self.notes.lock().turn();
        if told.is_empty() && watched.is_empty() {
            return Ok(());
        }
        let answer = self.exchange(link, &told, &watched).await;
        let mut notes = self.notes.lock();
        match answer {
            Ok(texts) => notes.hear(watched.into_iter().zip(texts)),
            Err(error) => {
                // What was not written is written later, unless it is known better by then.
                for (campaign, left) in told {
                    notes.told.entry(campaign).or_insert(left);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    async fn exchange(
        &self,
        link: &mut Option<MultiplexedConnection>,
        told: &BTreeMap<String, u32>,
        watched: &[String],
    ) -> Result<Vec<Option<String>>, StreamError> {
        let open = match link {
            Some(open) => open,
            None => link.insert(self.address.connect(PATIENCE).await?),
        };
        let mut pipe = redis::pipe();
        for (campaign, left) in told {
            pipe.cmd("SET").arg(self.key(campaign)).arg(*left).arg("EX").arg(LIFE_S).ignore();
        }
        for campaign in watched {
            pipe.cmd("GET").arg(self.key(campaign));
        }
        Ok(pipe.query_async(open).await?)
    }
}

impl Notes {
    /// What is to be written and read now.
    fn turn(&mut self) -> (BTreeMap<String, u32>, Vec<String>) {
        self.watched.retain(|_, watched| {
            watched.rounds += 1;
            watched.rounds <= ROUNDS_MAX
        });
        (std::mem::take(&mut self.told), self.watched.keys().cloned().collect())
    }

    fn hear(&mut self, heard: impl Iterator<Item = (String, Option<String>)>) {
        for (campaign, left) in heard {
            if let Some(watched) = self.watched.get_mut(&campaign) {
                watched.sold_out = left.as_deref() == Some("0");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_nought_is_sold_out_and_what_nobody_asks_about_is_forgotten() {
        let mut notes = Notes::default();
        notes.watched.insert("a".to_owned(), Watched::default());
        let mut heard = |text: Option<&str>| {
            notes.hear([("a".to_owned(), text.map(str::to_owned)), ("b".to_owned(), None)].into_iter());
            notes.watched["a"].sold_out
        };
        assert!(!heard(None) && !heard(Some("7")) && !heard(Some("none")) && heard(Some("0")));
        notes.told.insert("a".to_owned(), 3);
        assert_eq!(notes.turn(), (BTreeMap::from([("a".to_owned(), 3)]), vec!["a".to_owned()]));
        for _ in 1..ROUNDS_MAX {
            assert_eq!(notes.turn().1.len(), 1);
        }
        assert!(notes.turn().1.is_empty());
    }
}
