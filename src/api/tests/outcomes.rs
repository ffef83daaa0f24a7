//! What a 503 says of a request that is committed, or may be: never that nothing was done.

use super::concert::show;
use super::coupons::campaign;
use super::memory::Trouble;
use super::*;

fn unknown() -> (u16, String) {
    (503, "outcome_unknown".to_owned())
}

#[tokio::test(start_paused = true)]
async fn once_a_try_is_unknown_no_later_one_says_that_nothing_was_done() {
    let house = House::new();
    let id = house.campaign(&campaign(3)).await;
    let ends: [(&[&str], &str); 4] = [
        (&["unavailable"], "unavailable"),
        (&["overloaded"], "overloaded"),
        (&["unknown", "unavailable"], "outcome_unknown"),
        (&["unknown", "unknown", "overloaded"], "outcome_unknown"),
    ];
    for (troubles, code) in ends {
        *house.door.trouble.lock() = Trouble::Each(troubles);
        let reply = house.claim(&id, "u-1", "k").await;
        assert_eq!(reply.problem(), (503, code.to_owned()), "{troubles:?}");
    }
    *house.door.trouble.lock() = Trouble::Each(&["unknown"]);
    assert_eq!(house.claim(&id, "u-1", "k").await.status, 201, "a repeat settles it");
}

#[tokio::test(start_paused = true)]
async fn what_is_committed_is_unknown_while_its_reply_cannot_be_made() {
    let house = House::new();
    let (coupons, concert) = (house.campaign(&campaign(3)).await, house.show("s", &show(4)).await);
    for (number, lost) in ["changed", "read"].into_iter().enumerate() {
        let user = format!("u-{number}");
        let lose = || house.door.loss.behind_an_answer(Some(lost));
        let post = async |path: &str, body: &Value| {
            house.post(&format!("/v1/shows/{concert}/{path}")).user(&user).key("k").json(body).send().await
        };
        lose();
        assert_eq!(house.claim(&coupons, &user, "k").await.problem(), unknown(), "claim, {lost}");
        lose();
        assert_eq!(post("queue", &json!({})).await.problem(), unknown(), "queue, {lost}");
        house.door.loss.behind_an_answer(None);
        assert_eq!(house.claim(&coupons, &user, "k").await.status, 201);
        let entered = post("queue", &json!({})).await;
        assert_eq!(entered.header("idempotent-replayed"), "true", "{}", entered.text());
        let seats = json!({"ticket": entered.json()["ticket"], "seats": [format!("A-{}", number + 1)]});
        lose();
        assert_eq!(post("reservations", &seats).await.problem(), unknown(), "reservation, {lost}");
        house.door.loss.behind_an_answer(None);
        assert_eq!(post("reservations", &seats).await.header("idempotent-replayed"), "true");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_opened_is_unknown_and_a_read_is_only_unavailable() {
    let house = House::open().await;
    let (id, token) = house.sent("u-1").await;
    let accept = || house.post(&format!("/v1/links/{token}/accept")).key("a").send();
    house.door.loss.behind_an_answer(Some("unseal"));
    assert_eq!(accept().await.problem(), unknown());
    let read = house.get(&format!("/v1/gifts/{id}")).user("u-1").send().await;
    assert_eq!(read.problem(), (503, "unavailable".into()));
    house.door.loss.behind_an_answer(None);
    let accepted = accept().await;
    assert_eq!((accepted.header("idempotent-replayed"), &accepted.json()["state"]), ("true", &json!("accepted")));

    let code = accepted.json()["voucher"]["code"].clone();
    let sale = json!({"code": code, "store_id": "s-1", "terminal_id": "t-1", "transaction_id": "x"});
    let redeem = || house.post("/v1/vouchers/redeem").merchant("m-1").json(&sale).send();
    assert_eq!(redeem().await.status, 200);
    house.door.loss.behind_an_answer(Some("read"));
    assert_eq!(redeem().await.problem(), unknown(), "it is approved, and not known to be cancelled since");
}
