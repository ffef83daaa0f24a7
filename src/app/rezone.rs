//! After an update of the time-zone data: unsent gifts that were asked for in local time are resolved again.
//!
//! A marker in the data folder names the version that everything was resolved under. It is written only after a
//! whole pass, so a pass that was interrupted is made again; resolving twice changes nothing.

use crate::actors::door::{Ask, AskError, Door};
use crate::domain::calendar::tzdb_version;
use crate::domain::gift::{GiftCommand, GiftState};
use crate::domain::kinds::{GIFT, INDEX_MONEY_OPEN};
use crate::types::codec;
use crate::types::ids::EntityKey;
use std::path::Path;

/// Gifts read before the next page is asked for.
const PAGE: usize = 1_000;
const MARKER: &str = "tzdb";

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    pub looked_at: u64,
    pub resolved: u64,
}

/// Makes the pass if the data's version is not the folder's.
///
/// # Errors
/// The failure of a read or a command; the pass is made again at the next start.
pub async fn run(door: &dyn Door, data: &Path) -> Result<Option<Pass>, AskError> {
    let marker = data.join(MARKER);
    if std::fs::read_to_string(&marker).is_ok_and(|known| known == tzdb_version()) {
        return Ok(None);
    }
    let pass = resolve_all(door, tzdb_version()).await?;
    if let Err(cause) = std::fs::write(&marker, tzdb_version()) {
        tracing::warn!(marker = %marker.display(), %cause, "pass over the send instants not noted; it is made again");
    }
    tracing::info!(
        tzdb = tzdb_version(),
        looked_at = pass.looked_at,
        resolved = pass.resolved,
        "send instants resolved"
    );
    Ok(Some(pass))
}

async fn resolve_all(door: &dyn Door, tzdb: &str) -> Result<Pass, AskError> {
    let mut pass = Pass::default();
    let mut after = None;
    loop {
        let page = door.list(INDEX_MONEY_OPEN, Vec::new(), after, PAGE).await?;
        for (_, key) in &page.rows {
            pass.looked_at += 1;
            if key.kind == GIFT && resolve(door, *key, tzdb).await? {
                pass.resolved += 1;
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(pass),
        }
    }
}

async fn resolve(door: &dyn Door, key: EntityKey, tzdb: &str) -> Result<bool, AskError> {
    let Some(answer) = door.read(key).await? else { return Ok(false) };
    let Ok(gift) = codec::decode::<GiftState>(&answer.state) else { return Err(AskError::Malformed) };
    if !gift.wants_resolution(tzdb) {
        return Ok(false);
    }
    let Ok(resolved) = gift.requested_send_at().resolve() else { return Ok(false) };
    let command = codec::encode(&GiftCommand::ReResolve { resolved });
    let ask = Ask { key, command, idempotency: None, if_version: None, new_key: None };
    match door.ask(ask).await {
        Ok(_) => Ok(true),
        // Sent, cancelled or changed meanwhile: nothing to resolve any more.
        Err(AskError::Rejected { .. }) => Ok(false),
        Err(other) => Err(other),
    }
}
