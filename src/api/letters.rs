//! Letters as operators see them: which entities have some, by which id each is called, and what it says.

use crate::api::dto::{Instant, MoneyView};
use crate::api::problem::Problem;
use crate::api::router::Shared;
use crate::domain::gift::{DeadLetter, Letter};
use crate::domain::kinds;
use crate::domain::steps::StepLetter;
use crate::domain::wallet::WalletState;
use crate::types::ids::{EntityKey, Version};
use crate::types::money::Money;
use crate::types::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// A call that was given up, or that has been in doubt for too long.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetterView {
    /// The gift's or the order's id, with `.n<number>` behind it for a notice; or the reservation's, or the wallet's.
    #[schema(example = "g_5f1c0a9be1d24c7f8a3b6d5e4f3a2b1c")]
    pub id: String,
    /// `null` for any other's; so are the next three.
    pub gift_id: Option<String>,
    pub order_id: Option<String>,
    pub reservation_id: Option<String>,
    pub wallet_id: Option<String>,
    /// The status of the gift, order or reservation; `payment_pending` of a wallet's charge.
    pub status: &'static str,
    /// `send`, `refund` or `notice`; `notice` or the step of an order; the step of a reservation; `charge`.
    pub command: &'static str,
    /// The last refusal's code.
    pub cause: String,
    pub attempts: u16,
    pub money_held: MoneyView,
    pub since: Instant,
}

/// A gift, an order, a reservation or a wallet after an operator acted on its letter.
#[derive(Debug, Serialize, ToSchema)]
pub struct LetterOutcome {
    pub id: String,
    pub gift_id: Option<String>,
    pub order_id: Option<String>,
    pub reservation_id: Option<String>,
    pub wallet_id: Option<String>,
    pub status: &'static str,
    pub version: u64,
    /// Whether the letter is still there.
    pub is_dead_letter: bool,
}

/// A letter: whose, and which of its letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetterId {
    pub key: EntityKey,
    pub letter: Letter,
}

/// What a letter says, whatever it is of.
struct Said {
    command: &'static str,
    cause: String,
    attempts: u16,
    money_held: Money,
    since: Timestamp,
}

impl From<StepLetter> for Said {
    fn from(letter: StepLetter) -> Self {
        let StepLetter { command, cause, attempts, money_held, since } = letter;
        Self { command, cause, attempts, money_held, since }
    }
}

impl LetterId {
    /// `None`: no letter is called so.
    #[must_use]
    pub fn parse(app: &Shared, id: &str) -> Option<Self> {
        let (entity, letter) = parts(id)?;
        let key = app.door.kinds().parse(entity)?;
        let has_notices = key.kind == kinds::GIFT || key.kind == kinds::ORDER;
        let has_own = has_notices || key.kind == kinds::RESERVATION || key.kind == kinds::WALLET;
        let exists = if letter == Letter::Gift { has_own } else { has_notices };
        exists.then_some(Self { key, letter })
    }

    fn text(self) -> String {
        let entity = kinds::text_id(self.key);
        match self.letter {
            Letter::Gift => entity,
            Letter::Notice(number) => format!("{entity}.n{number}"),
        }
    }

    /// Whether it is a gift's own, which alone has a delivery to begin anew.
    #[must_use]
    pub fn is_a_gifts_own(self) -> bool {
        self.key.kind == kinds::GIFT && self.letter == Letter::Gift
    }

    /// An entity's own letter comes before those of its notices, which are in the order of their numbers.
    #[must_use]
    pub fn rank(letter: Letter) -> u32 {
        match letter {
            Letter::Gift => 0,
            Letter::Notice(number) => u32::from(number) + 1,
        }
    }

    fn view(self, status: &'static str, said: impl Into<Said>) -> (Letter, DeadLetterView) {
        let Said { command, cause, attempts, money_held, since } = said.into();
        let [gift_id, order_id, reservation_id, wallet_id] = self.of_whom();
        let (id, money_held, since) = (self.text(), money_held.into(), since.into());
        let view = DeadLetterView {
            id,
            gift_id,
            order_id,
            reservation_id,
            wallet_id,
            status,
            command,
            cause,
            attempts,
            money_held,
            since,
        };
        (self.letter, view)
    }

    /// How its entity stands after an operator acted on it.
    #[must_use]
    pub fn outcome(self, status: &'static str, version: Version, is_dead_letter: bool) -> LetterOutcome {
        let [gift_id, order_id, reservation_id, wallet_id] = self.of_whom();
        let (id, version) = (self.text(), version.0);
        LetterOutcome { id, gift_id, order_id, reservation_id, wallet_id, status, version, is_dead_letter }
    }

    /// The entity's id in its own place: gift, order, reservation, wallet.
    fn of_whom(self) -> [Option<String>; 4] {
        [kinds::GIFT, kinds::ORDER, kinds::RESERVATION, kinds::WALLET]
            .map(|kind| (kind == self.key.kind).then(|| kinds::text_id(self.key)))
    }
}

/// An entity's id, and which of its letters.
fn parts(id: &str) -> Option<(&str, Letter)> {
    let Some((entity, number)) = id.split_once(".n") else { return Some((id, Letter::Gift)) };
    let canonical = number.bytes().all(|b| b.is_ascii_digit()) && (number == "0" || !number.starts_with('0'));
    canonical.then(|| number.parse().ok()).flatten().map(|number| (entity, Letter::Notice(number)))
}

/// How the charge of a wallet stands that is a letter, or was until an operator gave it up.
#[must_use]
pub fn charge_status(state: &WalletState) -> &'static str {
    if state.letter().is_some() { "payment_pending" } else { "payment_failed" }
}

/// The letters of an entity, by rank.
///
/// # Errors
/// What the runtime says.
pub async fn letters_of(app: &Shared, key: EntityKey) -> Result<Vec<(Letter, DeadLetterView)>, Problem> {
    let named = |letter| LetterId { key, letter };
    let own = |status, letter: Option<StepLetter>| letter.map(|said| named(Letter::Gift).view(status, said));
    match key.kind {
        kinds::ORDER => {
            let Some((_, state)) = app.peek_order(key).await? else { return Ok(Vec::new()) };
            let status = state.status().name();
            let notices = state.notice_letters().into_iter();
            let notices = notices.map(|(number, said)| named(Letter::Notice(number)).view(status, said));
            Ok(own(status, state.letter()).into_iter().chain(notices).collect())
        }
        kinds::RESERVATION => {
            let found = app.peek_reservation(key).await?;
            Ok(found.and_then(|(_, state)| own(state.status().name(), state.letter())).into_iter().collect())
        }
        kinds::WALLET => {
            let found = app.look::<WalletState>(key).await?;
            let letter = found.and_then(|told| own(charge_status(&told.state), told.state.letter()));
            Ok(letter.into_iter().collect())
        }
        _ => {
            let Some((_, state)) = app.peek_gift(key).await? else { return Ok(Vec::new()) };
            let status = state.status();
            let view = |dead: DeadLetter| {
                let DeadLetter { letter, command, cause, attempts, money_held, since } = dead;
                named(letter).view(status, Said { command, cause, attempts, money_held, since })
            };
            Ok(state.dead_letters().into_iter().map(view).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letter_ids_name_the_entity_or_one_of_its_notices() {
        let key = EntityKey { kind: kinds::GIFT, id: [0x5f; 16] };
        let entity = kinds::text_id(key);
        for letter in [Letter::Gift, Letter::Notice(0), Letter::Notice(12)] {
            assert_eq!(parts(&LetterId { key, letter }.text()), Some((entity.as_str(), letter)));
        }
        for bad in ["g_1.n", "g_1.n01", "g_1.nx", "g_1.n70000", "g_1.n-1"] {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }
}
