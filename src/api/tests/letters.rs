//! An operator's dead letters: their pages, their reasons, and what a sender learns of them.

use super::memory::{SECRET, kind_answer};
use super::operators::refuse;
use super::orders::order;
use super::*;
use crate::api::cursor::CursorScope;
use crate::types::call::{CallOutcome, CallRequest, PaymentOutcome};
use crate::types::time::{Millis, Timestamp};

impl House {
    async fn letters(&self, query: &str) -> Value {
        let reply = self.get(&format!("/v1/ops/dead-letters{query}")).operator().send().await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    async fn discard(&self, id: &str, reason: &str) -> Reply {
        let path = format!("/v1/ops/dead-letters/{id}/discard");
        self.post(&path).operator().key("d").json(&json!({"reason": reason})).send().await
    }

    /// A gift whose message is given up, and so is what its sender is told.
    async fn given_up(&self, user: &str, key: &str) -> String {
        let id = self.reserve(user, key).await["id"].as_str().unwrap().to_owned();
        self.door.settle_with(&refuse);
        id
    }
}

fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_page_holds_no_more_letters_than_asked_for_and_none_is_left_out_or_told_twice() {
    let house = House::open().await;
    house.shelf("mug", 5, 4_500).await;
    for number in 0..3 {
        house.door.pass(Millis::from_secs(1));
        house.given_up("u-1", &format!("g-{number}")).await;
        house.door.pass(Millis::from_secs(1));
        house.place("u-1", &format!("o-{number}"), &order("mug", 1, "card")).await;
    }
    house.door.pass(Millis::from_days(25));
    house.door.settle_with(&refuse);
    let whole = ids(&house.letters("?limit=100").await);
    assert!(whole.len() > 9, "several of one entity: {whole:?}");
    for limit in [1, 2, 3, 4, 5, 7, whole.len()] {
        let (mut told, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = house.letters(&format!("?limit={limit}{cursor}")).await;
            assert!((1..=limit).contains(&ids(&page).len()), "{limit}: {page}");
            told.extend(ids(&page));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(told, whole, "pages of {limit}");
    }
    // What was told and is gone since does not move what was not told.
    let first = house.letters("?limit=2").await;
    assert_eq!(house.discard(&whole[0], "x").await.status, 200);
    let rest = house.letters(&format!("?limit=100&cursor={}", first["next_cursor"].as_str().unwrap())).await;
    assert_eq!(ids(&rest), whole[2..]);
    let old = CursorScope { secret: &SECRET, list: "dead-letters", caller: "" }.write(&[0; 24]);
    let refused = house.get(&format!("/v1/ops/dead-letters?cursor={old}")).operator().send().await;
    assert_eq!((refused.status.as_u16(), refused.pointers()), (422, vec!["/cursor".to_owned()]));
}

#[tokio::test]
async fn a_reason_of_full_length_is_taken_and_it_and_the_operator_are_not_the_senders_business() {
    let house = House::open().await;
    let id = house.given_up("u-1", "k").await;
    house.door.pass(Millis::from_days(25));
    house.door.settle_with(&refuse);
    let link = house.get(&format!("/v1/dev/links/{id}")).send().await.json();
    assert_eq!(house.discard(&id, &"😀".repeat(501)).await.pointers(), ["/reason"]);
    let reason = "😀".repeat(500);
    let done = house.discard(&id, &reason).await;
    assert_eq!((done.status.as_u16(), &done.json()["status"]), (200, &json!("refunding")), "{}", done.text());
    let events = house.get(&format!("/v1/gifts/{id}/events?limit=100")).user("u-1").send().await;
    assert!(!events.text().contains(&reason) && !events.text().contains("op-1"), "{}", events.text());
    let of = |name: &str| {
        let body = events.json();
        body["items"].as_array().unwrap().iter().find(|event| event["type"] == name).cloned().unwrap()
    };
    assert_eq!(of("dead_letter_discarded")["letter"], "gift");
    assert_eq!(of("refund_started")["reason"], "send_failed");
    let token = link["token"].as_str().unwrap();
    assert_eq!(house.get(&format!("/v1/links/{token}")).send().await.json()["state"], "withdrawn");
}

/// The payment provider never knows what became of it.
fn undecided(request: &CallRequest, now: Timestamp) -> CallOutcome {
    match request {
        CallRequest::Payment(_) => CallOutcome::Payment(PaymentOutcome::Pending),
        CallRequest::Message(_) | CallRequest::Shipment(_) | CallRequest::Entity(_) => kind_answer(request, now),
    }
}

#[tokio::test]
async fn a_charge_that_nobody_can_settle_is_an_operators_letter() {
    let house = House::open().await;
    let charged = house.charge("u-1", "c-1", 10_000).await.json();
    house.charge("u-1", "c-2", 500).await;
    for _hour in 0..25 {
        house.door.settle_with(&undecided);
        house.door.pass(Millis::from_hours(1));
    }
    let letter = house.letters("").await["items"][0].clone();
    let id = letter["wallet_id"].as_str().unwrap().to_owned();
    assert!(charged["id"].as_str().unwrap().starts_with(&id), "{letter}");
    let said = ["id", "gift_id", "command", "status", "cause"].map(|member| letter[member].clone());
    assert_eq!(said, [json!(id), json!(null), json!("charge"), json!("payment_pending"), json!("outcome_unknown")]);
    let replay = house.post(&format!("/v1/ops/dead-letters/{id}/replay")).operator().key("r").send().await;
    assert_eq!((replay.status.as_u16(), &replay.json()["is_dead_letter"]), (200, &json!(true)), "{}", replay.text());
    house.door.settle_with(&undecided);
    let discarded = house.discard(&id, "asked the bank").await;
    let told = discarded.json();
    assert_eq!((&told["is_dead_letter"], &told["status"]), (&json!(false), &json!("payment_failed")), "{told}");
    assert_eq!(house.discard(&id, "asked the bank").await.bytes, discarded.bytes, "a repeat is told the same");
    let again = house.post(&format!("/v1/ops/dead-letters/{id}/replay")).operator().key("r-2").send().await;
    assert_eq!(again.problem(), (409, "not_a_dead_letter".to_owned()));
    house.door.settle();
    let wallet = house.get("/v1/wallet").user("u-1").send().await.json();
    assert_eq!(
        (&wallet["balance"]["value"], &wallet["charges"][1]["failure_code"]),
        (&json!(500), &json!("discarded"))
    );
    assert_eq!(ids(&house.letters("").await), Vec::<String>::new());
    let notice = house.discard(&format!("{id}.n0"), "x").await;
    assert_eq!(notice.problem(), (404, "not_found".to_owned()), "a wallet has no notices");
}
