//! What the demo tells, step by step.

use crate::load::demo::DemoError;
use crate::load::demo::client::{Caller, Client};
use crate::load::demo::stage::Stage;
use crate::load::ledger::LedgerItem;
use crate::types::time::{Millis, Timestamp};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

pub(crate) const STEPS: u64 = 12;

const PRODUCT: &str = "americano";
const PRICE_WON: i64 = 4_500;
const ZONE: &str = "Asia/Seoul";
/// The reservation rules want 10 minutes; the story wants time to cancel.
const LEAD_MIN: Millis = Millis::from_hours(1);
/// Lateness that is still on time.
const LATE_MAX: Millis = Millis::from_secs(60);

pub(crate) struct Story {
    client: Client,
    pub(crate) stage: Stage,
    /// Part of every idempotency key, so that each demo is its own.
    run: String,
}

/// A reserved gift.
struct Reserved {
    id: String,
    due: Timestamp,
}

fn wrong(step: &'static str, expected: &'static str, found: impl std::fmt::Display) -> DemoError {
    DemoError::Wrong { step, expected, found: found.to_string() }
}

/// A text member that must be there.
fn text<'a>(step: &'static str, json: &'a Value, pointer: &'static str) -> Result<&'a str, DemoError> {
    json.pointer(pointer).and_then(Value::as_str).ok_or_else(|| wrong(step, pointer, json))
}

fn instant(step: &'static str, json: &Value, pointer: &'static str) -> Result<Timestamp, DemoError> {
    let found = text(step, json, pointer)?;
    Timestamp::parse_rfc3339(found).ok_or_else(|| wrong(step, "an RFC 3339 instant", found))
}

/// Won of a money object.
fn won(step: &'static str, json: &Value, pointer: &'static str) -> Result<i64, DemoError> {
    let money = json.pointer(pointer).and_then(|money| money["value"].as_i64());
    money.ok_or_else(|| wrong(step, pointer, json))
}

impl Story {
    pub(crate) fn new(client: Client, stage: Stage) -> Result<Self, DemoError> {
        let mut bytes = [0u8; 6];
        getrandom::fill(&mut bytes).map_err(|_| DemoError::Random)?;
        Ok(Self { client, stage, run: hex::encode(bytes) })
    }

    pub(crate) async fn play(&mut self) -> Result<(), DemoError> {
        self.put_product().await?;
        let midnight = self.next_midnight().await?;
        let jimin = self.reserve(1, "지민", &midnight).await?;
        let seojun = self.reserve(2, "서준", &midnight).await?;
        let hayun = self.reserve(3, "하윤", &midnight).await?;
        self.pay([&jimin, &seojun, &hayun]).await?;
        self.cancel(&hayun).await?;
        self.send([&jimin, &seojun]).await?;
        let token = self.open_link(&jimin).await?;
        let code = self.accept(&jimin, &token).await?;
        self.redeem(&jimin, &code).await?;
        self.expire(&seojun).await?;
        self.nothing_for_the_cancelled(&hayun).await?;
        self.reconcile().await
    }

    async fn put_product(&mut self) -> Result<(), DemoError> {
        const STEP: &str = "A product in the catalogue";
        self.stage.begin(STEP);
        let product = json!({
            "name": "아메리카노", "price": { "value": PRICE_WON, "currency": "KRW" }, "validity_days": 30,
        });
        let path = format!("/v1/ops/products/{PRODUCT}");
        let answer = self.client.put(STEP, Caller::Operator, &path, &product).await?;
        let status = if answer.status == 201 { 201 } else { 200 };
        answer.expect(STEP, "the product", status)?;
        self.stage.done("americano, 4500 won, valid for 30 days");
        Ok(())
    }

    /// The first midnight in Seoul that leaves time for the story, as local date and time.
    async fn next_midnight(&mut self) -> Result<String, DemoError> {
        const STEP: &str = "Three gifts reserved for midnight";
        self.stage.begin(STEP);
        let after = self.client.now(STEP).await? + LEAD_MIN;
        let broken = |error: jiff::Error| wrong(STEP, "a midnight in Seoul", error);
        let zone = TimeZone::get(ZONE).map_err(broken)?;
        let local = jiff::Timestamp::from_millisecond(after.0).map_err(broken)?.to_zoned(zone).datetime();
        let midnight = local.date().tomorrow().map_err(broken)?.to_datetime(Time::midnight());
        Ok(midnight.strftime("%Y-%m-%dT%H:%M").to_string())
    }

    async fn reserve(&mut self, number: u8, name: &str, midnight: &str) -> Result<Reserved, DemoError> {
        const STEP: &str = "Three gifts reserved for midnight";
        let body = json!({
            "product_id": PRODUCT,
            "recipient": { "name": name, "phone": format!("010-1234-567{number}") },
            "message": format!("{name}, 생일 축하해!"),
            "send_at": { "local": midnight, "zone": ZONE },
            "channels": ["kakao", "sms"],
            "payment": { "method": "card", "payment_key": format!("tok_demo_{}_{number}", self.run) },
        });
        let key = format!("demo-{}-{number}", self.run);
        let first = self.client.post(STEP, Caller::User, ("/v1/gifts", Some(&key)), &body).await?;
        let first = first.expect(STEP, "201 and the gift", 201)?;
        let again = self.client.post(STEP, Caller::User, ("/v1/gifts", Some(&key)), &body).await?;
        let again = again.expect(STEP, "the same reply for the same key", 201)?;
        if first != again {
            return Err(wrong(STEP, "the same reply for the same key", again));
        }
        let reserved =
            Reserved { id: text(STEP, &first, "/id")?.to_owned(), due: instant(STEP, &first, "/send_at/instant")? };
        Ok(reserved)
    }

    async fn pay(&mut self, gifts: [&Reserved; 3]) -> Result<(), DemoError> {
        let ids = gifts.map(|gift| gift.id.as_str()).join(" ");
        self.stage.done(&format!("due {}: {ids}", gifts[0].due));
        const STEP: &str = "Payments captured behind the reply";
        self.stage.begin(STEP);
        for gift in gifts {
            self.client.gift_in(STEP, &gift.id, "scheduled").await?;
            self.money_moved(STEP, "payment", gift).await?;
        }
        self.stage.done("3 x 4500 won in the provider's ledger, all scheduled");
        Ok(())
    }

    /// The ledger shows the price once, and only once.
    async fn money_moved(&mut self, step: &'static str, kind: &str, gift: &Reserved) -> Result<(), DemoError> {
        let rows = self.client.ledger(step, kind, &gift.id).await?;
        let effective: Vec<&LedgerItem> = rows.iter().filter(|row| row.effective > 0).collect();
        let moved: i64 = effective.iter().filter_map(|row| row.amount).map(|amount| amount.value).sum();
        if effective.len() == 1 && moved == PRICE_WON {
            return Ok(());
        }
        Err(wrong(step, "one movement of 4500 won", format!("{rows:?}")))
    }

    async fn cancel(&mut self, gift: &Reserved) -> Result<(), DemoError> {
        const STEP: &str = "The third is cancelled";
        self.stage.begin(STEP);
        let (path, key) = (format!("/v1/gifts/{}/cancel", gift.id), format!("demo-{}-cancel", self.run));
        let answer = self.client.post(STEP, Caller::User, (&path, Some(&key)), &json!({})).await?;
        answer.expect(STEP, "200 and the gift", 200)?;
        let refunded = self.client.gift_in(STEP, &gift.id, "refunded").await?;
        self.money_moved(STEP, "refund", gift).await?;
        self.stage.done(&format!("refunded {} won, no fee", won(STEP, &refunded, "/refunded")?));
        Ok(())
    }

    async fn send(&mut self, gifts: [&Reserved; 2]) -> Result<(), DemoError> {
        const STEP: &str = "The clock moves to midnight";
        self.stage.begin(STEP);
        self.client.move_clock_to(STEP, gifts[0].due).await?;
        let mut lateness_ms = Vec::new();
        for gift in gifts {
            self.client.gift_in(STEP, &gift.id, "sent").await?;
            lateness_ms.push(self.arrived_once(STEP, gift).await?.0);
        }
        let [first, second] = lateness_ms[..] else { return Err(wrong(STEP, "two arrivals", lateness_ms.len())) };
        self.stage.done(&format!("both sent once, {first} and {second} ms after the instant"));
        Ok(())
    }

    /// How late the one effective message was.
    async fn arrived_once(&mut self, step: &'static str, gift: &Reserved) -> Result<Millis, DemoError> {
        let rows = self.gift_messages(step, gift).await?;
        let [only] = &rows[..] else { return Err(wrong(step, "one effective message", format!("{rows:?}"))) };
        let at = Timestamp::parse_rfc3339(&only.first_at);
        let late = at.ok_or_else(|| wrong(step, "an RFC 3339 instant", &only.first_at))? - gift.due;
        if only.effective != 1 || late.0 < 0 || late > LATE_MAX {
            return Err(wrong(step, "one message within a minute", format!("{only:?}, {} ms late", late.0)));
        }
        Ok(late)
    }

    async fn gift_messages(&mut self, step: &'static str, gift: &Reserved) -> Result<Vec<LedgerItem>, DemoError> {
        let mut rows = self.client.ledger(step, "message", &gift.id).await?;
        rows.retain(|row| row.purpose.as_deref() == Some("gift") && row.effective > 0);
        Ok(rows)
    }

    async fn open_link(&mut self, gift: &Reserved) -> Result<String, DemoError> {
        const STEP: &str = "The recipient opens the link";
        self.stage.begin(STEP);
        let path = format!("/v1/dev/links/{}", gift.id);
        let link = self.client.get(STEP, Caller::Nobody, &path).await?.expect(STEP, "the link", 200)?;
        let token = text(STEP, &link, "/token")?.to_owned();
        let page = format!("/g/{token}");
        self.client.get(STEP, Caller::Nobody, &page).await?.expect(STEP, "the gift page", 200)?;
        let view = format!("/v1/links/{token}");
        self.client.get(STEP, Caller::Nobody, &view).await?.expect(STEP, "the gift as its recipient sees it", 200)?;
        self.stage.done("the gift page is there, no login");
        Ok(token)
    }

    async fn accept(&mut self, gift: &Reserved, token: &str) -> Result<String, DemoError> {
        const STEP: &str = "The recipient accepts";
        self.stage.begin(STEP);
        let (path, key) = (format!("/v1/links/{token}/accept"), format!("demo-{}-accept", self.run));
        let accepted = self.client.post(STEP, Caller::Nobody, (&path, Some(&key)), &json!({})).await?;
        let accepted = accepted.expect(STEP, "200 and the gift", 200)?;
        self.client.gift_in(STEP, &gift.id, "accepted").await?;
        let code = text(STEP, &accepted, "/voucher/code")?.to_owned();
        if code.len() != 16 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong(STEP, "a voucher code of 16 digits", code.len()));
        }
        self.stage.done("and has a voucher code of 16 digits");
        Ok(code)
    }

    async fn redeem(&mut self, gift: &Reserved, code: &str) -> Result<(), DemoError> {
        const STEP: &str = "A shop redeems the voucher";
        self.stage.begin(STEP);
        const PATH: &str = "/v1/vouchers/redeem";
        let transaction = |number: u8| {
            json!({ "code": code, "store_id": "gangnam-1", "terminal_id": "pos-1",
                    "transaction_id": format!("{}-{number}", self.run) })
        };
        let (first, other) = (transaction(1), transaction(2));
        self.client.post(STEP, Caller::Merchant, (PATH, None), &first).await?.expect(STEP, "200", 200)?;
        self.client.post(STEP, Caller::Merchant, (PATH, None), &first).await?.expect(STEP, "200 again", 200)?;
        let refused = self.client.post(STEP, Caller::Merchant, (PATH, None), &other).await?;
        let refused = refused.expect(STEP, "409 for another transaction", 409)?;
        if refused["code"] != "already_used" {
            return Err(wrong(STEP, "already_used", refused));
        }
        self.client.gift_in(STEP, &gift.id, "used").await?;
        self.stage.done("once; the same transaction repeats its answer, another gets 409");
        Ok(())
    }

    async fn expire(&mut self, gift: &Reserved) -> Result<(), DemoError> {
        const STEP: &str = "The second expires";
        self.stage.begin(STEP);
        let sent = self.client.gift_in(STEP, &gift.id, "sent").await?;
        let expires_at = instant(STEP, &sent, "/expires_at")?;
        self.client.move_clock_to(STEP, expires_at + Millis::from_secs(1)).await?;
        self.stage.done(&format!("at {expires_at}, unopened"));
        const REFUND: &str = "It refunds itself";
        self.stage.begin(REFUND);
        let refunded = self.client.gift_in(REFUND, &gift.id, "refunded").await?;
        self.money_moved(REFUND, "refund", gift).await?;
        self.stage.done(&format!("{} won, in the provider's ledger once", won(REFUND, &refunded, "/refunded")?));
        Ok(())
    }

    async fn nothing_for_the_cancelled(&mut self, gift: &Reserved) -> Result<(), DemoError> {
        const STEP: &str = "The cancelled one never left";
        self.stage.begin(STEP);
        let rows = self.gift_messages(STEP, gift).await?;
        if !rows.is_empty() {
            return Err(wrong(STEP, "no message to its recipient", format!("{rows:?}")));
        }
        self.stage.done("no message in the ledger");
        Ok(())
    }

    async fn reconcile(&mut self) -> Result<(), DemoError> {
        const STEP: &str = "Reconciliation";
        self.stage.begin(STEP);
        let path = "/v1/ops/reconciliation";
        let books = self.client.get(STEP, Caller::Operator, path).await?.expect(STEP, "the books", 200)?;
        let paid = won(STEP, &books, "/paid")?;
        let (held, used) = (won(STEP, &books, "/held")?, won(STEP, &books, "/used")?);
        let refunded = won(STEP, &books, "/refunded")?;
        let adrift = paid - held - used - refunded;
        if adrift != 0 {
            return Err(wrong(STEP, "0 won adrift", adrift));
        }
        if books["broken_count"].as_u64() != Some(0) {
            return Err(wrong(STEP, "no gift that breaks the books", &books["broken"]));
        }
        let sum = format!("{paid} paid = {held} held + {used} used + {refunded} refunded: 0 won adrift");
        self.stage.done(&sum);
        Ok(())
    }
}
