//! The recipient's calls and page, and the till.

use super::operators::refuse;
use super::*;
use crate::types::time::Millis;

async fn code_of(house: &House, token: &str) -> String {
    let reply = house.post(&format!("/v1/links/{token}/accept")).key("a").send().await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["voucher"]["code"].as_str().unwrap().to_owned()
}

fn sale(code: &str, transaction: &str) -> Value {
    json!({"code": code, "store_id": "s-1", "terminal_id": "t-1", "transaction_id": transaction})
}

#[tokio::test]
async fn a_link_shows_the_gift_and_its_use_proves_arrival() {
    let house = House::open().await;
    let gift = house.reserve("u-1", "k").await;
    let id = gift["id"].as_str().unwrap();
    house.door.settle();
    let link = house.get(&format!("/v1/dev/links/{id}")).send().await.json();
    let token = link["token"].as_str().unwrap().to_owned();
    assert_eq!(link["url"], format!("https://gift.example/g/{token}"));
    // Before it leaves, the gift is its sender's secret.
    assert_eq!(house.get(&format!("/v1/links/{token}")).send().await.problem(), (404, "not_found".into()));
    house.door.pass(Millis::from_days(30));
    house.door.settle();
    let seen = house.get(&format!("/v1/links/{token}")).send().await;
    assert_eq!(seen.status, 200, "{}", seen.text());
    let view = seen.json();
    assert_eq!(view["state"], "arrived");
    assert_eq!(view["message"], "생일 축하해!");
    assert_eq!(view["voucher"], json!(null));
    assert_eq!(view["actions"], json!(["accept", "decline", "transfer"]));
    assert!(!seen.text().contains("1234-5678") && !seen.text().contains("4500"));
    let now = house.get(&format!("/v1/gifts/{id}")).user("u-1").send().await.json();
    assert_eq!(now["status"], "sent");
    assert_eq!(now["delivery"]["confirmed"], true);
    for bad in ["x", "000", &"0".repeat(35), &format!("999{}", "0".repeat(32))] {
        assert_eq!(house.get(&format!("/v1/links/{bad}")).send().await.problem().0, 404, "{bad}");
    }
}

#[tokio::test]
async fn accepting_opens_the_voucher_and_is_replayed() {
    let house = House::open().await;
    let (_, token) = house.sent("u-1").await;
    let path = format!("/v1/links/{token}/accept");
    assert_eq!(house.post(&path).send().await.problem(), (400, "idempotency_key_required".into()));
    let first = house.post(&path).key("a").send().await;
    assert_eq!(first.json()["state"], "accepted");
    assert_eq!(first.json()["voucher"]["code"].as_str().unwrap().len(), 16);
    house.door.settle();
    let again = house.post(&path).key("a").send().await;
    assert_eq!(again.bytes, first.bytes);
    assert_eq!(again.header("idempotent-replayed"), "true");
    let other_key = house.post(&path).key("b").send().await;
    assert_eq!(other_key.json()["state"], "accepted");
}

#[tokio::test]
async fn declining_refunds_and_closes_the_gift() {
    let house = House::open().await;
    let (id, token) = house.sent("u-1").await;
    let reply = house.post(&format!("/v1/links/{token}/decline")).key("d").json(&json!({})).send().await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!((&reply.json()["state"], &reply.json()["status"]), (&json!("declined"), &json!("refunding")));
    house.door.settle();
    let gift = house.get(&format!("/v1/gifts/{id}")).user("u-1").send().await.json();
    assert_eq!((&gift["status"], &gift["refund_reason"]), (&json!("refunded"), &json!("declined")));
    assert_eq!(house.shown(&token).await, ("declined".to_owned(), json!([])));
    let accept = house.post(&format!("/v1/links/{token}/accept")).key("a").send().await;
    assert_eq!(accept.problem(), (409, "wrong_state".into()));
}

#[tokio::test]
async fn a_transfer_kills_the_old_link_and_code() {
    let house = House::open().await;
    let (id, token) = house.sent("u-1").await;
    let old_code = code_of(&house, &token).await;
    let path = format!("/v1/links/{token}/transfer");
    let none = json!({"recipient": {"name": "민수"}});
    let refused = house.post(&path).key("t").json(&none).send().await;
    assert_eq!(refused.pointers(), ["/recipient"]);
    let body = json!({"recipient": {"name": "민수", "phone": "010-9999-0000"}});
    let done = house.post(&path).key("t").json(&body).send().await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(done.json()["state"], "transferred");
    let link = house.get(&format!("/v1/dev/links/{id}")).send().await.json();
    let new_token = link["token"].as_str().unwrap().to_owned();
    assert_ne!(new_token, token);
    assert!(!done.text().contains(&new_token) && !done.text().contains("민"));
    let dead = (410, "link_dead".to_owned());
    assert_eq!(house.get(&format!("/v1/links/{token}")).send().await.problem(), dead);
    assert_eq!(house.post(&format!("/v1/links/{token}/accept")).key("late").send().await.problem(), dead);
    let repeated = house.post(&path).key("t").json(&body).send().await;
    assert_eq!((repeated.status.as_u16(), repeated.text()), (200, done.text()), "a repeat is answered as it was");
    let redeem = house.post("/v1/vouchers/redeem").merchant("m-1").json(&sale(&old_code, "x")).send().await;
    assert_eq!(redeem.problem().0, 404);
    house.door.settle();
    let new_code = code_of(&house, &new_token).await;
    assert_ne!(new_code, old_code);
    let again = house.post(&format!("/v1/links/{new_token}/transfer")).key("t2").json(&body).send().await;
    assert_eq!(again.problem(), (409, "already_transferred".into()));
}

#[tokio::test]
async fn a_voucher_is_redeemed_once_and_the_transaction_replays() {
    let house = House::open().await;
    let (id, token) = house.sent("u-1").await;
    let code = code_of(&house, &token).await;
    let spaced = format!("{} {}-{} {}", &code[..4], &code[4..8], &code[8..12], &code[12..]);
    let redeem =
        |transaction: &str| house.post("/v1/vouchers/redeem").merchant("m-1").json(&sale(&spaced, transaction)).send();
    let first = redeem("x-1").await;
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(first.json()["status"], "used");
    assert_eq!(first.json()["amount"]["value"], 4500);
    assert!(!first.text().contains(&code));
    let again = redeem("x-1").await;
    assert_eq!((again.status.as_u16(), &again.bytes), (200, &first.bytes));
    assert_eq!(again.header("idempotent-replayed"), "true");
    // Another merchant's sale of the same name, and the same sale with the code as it is typed.
    let elsewhere = house.post("/v1/vouchers/redeem").merchant("m-2").json(&sale(&spaced, "x-1")).send().await;
    assert_eq!(elsewhere.problem(), (409, "already_used".into()));
    let undone = house.post("/v1/vouchers/redeem/cancel").merchant("m-2").json(&sale(&spaced, "x-1")).send().await;
    assert_eq!(undone.problem(), (409, "already_used".into()));
    let typed = house.post("/v1/vouchers/redeem").merchant("m-1").json(&sale(&code, "x-1")).send().await;
    assert_eq!((typed.status.as_u16(), &typed.bytes), (200, &first.bytes));
    let other = redeem("x-2").await;
    assert_eq!(other.problem(), (409, "already_used".into()));
    assert!(!other.text().contains(&code));
    let gift = house.get(&format!("/v1/gifts/{id}")).user("u-1").send().await.json();
    assert_eq!(gift["status"], "used");
}

#[tokio::test]
async fn a_net_cancel_takes_the_approval_back_for_good() {
    let house = House::open().await;
    let (_, token) = house.sent("u-1").await;
    let code = code_of(&house, &token).await;
    let post = |path: &str, transaction: &str| house.post(path).merchant("m-1").json(&sale(&code, transaction)).send();
    assert_eq!(post("/v1/vouchers/redeem", "x-1").await.status, 200);
    let cancelled = post("/v1/vouchers/redeem/cancel", "x-1").await;
    assert_eq!(cancelled.json()["status"], "cancelled", "{}", cancelled.text());
    assert_eq!(post("/v1/vouchers/redeem/cancel", "x-1").await.bytes, cancelled.bytes);
    // Neither the replay of the lost approval nor a late request may hand goods out again.
    assert_eq!(post("/v1/vouchers/redeem", "x-1").await.problem(), (409, "transaction_cancelled".into()));
    assert_eq!(post("/v1/vouchers/redeem/cancel", "x-2").await.json()["status"], "cancelled");
    assert_eq!(post("/v1/vouchers/redeem", "x-2").await.problem(), (409, "transaction_cancelled".into()));
    assert_eq!(post("/v1/vouchers/redeem", "x-3").await.status, 200);
}

#[tokio::test]
async fn wrong_codes_of_a_terminal_are_limited() {
    let house = House::open().await;
    let (_, token) = house.sent("u-1").await;
    let code = code_of(&house, &token).await;
    let try_code = |code: &str| house.post("/v1/vouchers/redeem").merchant("m-1").json(&sale(code, "x")).send();
    for _wrong in 0..5 {
        assert_eq!(try_code("0001234567890126").await.problem(), (404, "voucher_unknown".into()));
        assert_eq!(try_code("not a code").await.problem(), (404, "voucher_unknown".into()));
    }
    let refused = try_code(&code).await;
    assert_eq!(refused.problem(), (429, "too_many_wrong_codes".into()));
    assert!(refused.header("retry-after").parse::<u32>().unwrap() >= 1);
    let other = json!({"code": code, "store_id": "s-1", "terminal_id": "t-2", "transaction_id": "x"});
    assert_eq!(house.post("/v1/vouchers/redeem").merchant("m-1").json(&other).send().await.status, 200);
    let faulty = house.post("/v1/vouchers/redeem").merchant("m-1").json(&json!({"store_id": ""})).send().await;
    assert_eq!(faulty.pointers(), ["/code", "/store_id", "/terminal_id", "/transaction_id"]);
}

#[tokio::test]
async fn expired_vouchers_are_gone() {
    let house = House::open().await;
    let (id, token) = house.sent("u-1").await;
    let code = code_of(&house, &token).await;
    house.door.pass(Millis::from_days(40));
    let late = house.post("/v1/vouchers/redeem").merchant("m-1").json(&sale(&code, "x")).send().await;
    assert_eq!(late.problem(), (410, "voucher_expired".into()));
    house.door.settle();
    let gift = house.get(&format!("/v1/gifts/{id}")).user("u-1").send().await.json();
    assert_eq!((&gift["status"], &gift["refunded"]["value"]), (&json!("refunded"), &json!(4500)));
    assert_eq!(house.shown(&token).await, ("expired".to_owned(), json!([])));
}

#[tokio::test]
async fn a_link_that_is_followed_proves_that_a_message_arrived_which_was_given_up() {
    let house = House::open().await;
    let id = house.reserve("u-1", "k").await["id"].as_str().unwrap().to_owned();
    house.door.settle();
    house.door.pass(Millis::from_days(25));
    house.door.settle_with(&refuse);
    let link = house.get(&format!("/v1/dev/links/{id}")).send().await.json();
    let token = link["token"].as_str().unwrap();
    let path = format!("/v1/gifts/{id}");
    let status = async || house.get(&path).user("u-1").send().await.json()["status"].clone();
    assert_eq!(house.call("HEAD", &format!("/g/{token}")).send().await.status, 200);
    assert_eq!(status().await, "send_failed", "nobody was shown it");
    assert_eq!(house.shown(token).await, ("arrived".to_owned(), json!(["accept", "decline", "transfer"])));
    assert_eq!(status().await, "sent");
    assert_eq!(code_of(&house, token).await.len(), 16);
}

impl House {
    /// What link and page show of a gift, and what the link offers.
    async fn shown(&self, token: &str) -> (String, Value) {
        let view = self.get(&format!("/v1/links/{token}")).send().await.json();
        let state = view["state"].as_str().unwrap().to_owned();
        let page = self.get(&format!("/g/{token}")).send().await.text();
        assert!(page.contains(&format!("data-state=\"{state}\"")), "{page}");
        (state, view["actions"].clone())
    }
}

#[tokio::test]
async fn the_page_speaks_two_languages_and_loads_nothing() {
    let house = House::open().await;
    let (_, token) = house.sent("u-1").await;
    let korean = house.get(&format!("/g/{token}")).send().await;
    assert_eq!(korean.status, 200);
    let policy = korean.header("content-security-policy").to_owned();
    let nonce = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap();
    let html = korean.text();
    assert!(html.contains(&format!("<script nonce=\"{nonce}\">")) && policy.contains("default-src 'none'"));
    assert!(html.contains("선물이 도착했어요") && html.contains("생일 축하해!") && html.contains("lang=\"ko\""));
    assert!(html.contains("data-action=\"accept\"") && !html.contains("<svg"));
    let sources = html.replace("http://www.w3.org/2000/svg", "");
    for external in ["src=", "href=", "http://", "https://", "url(", "@import", "style=\"", "onclick"] {
        assert!(!sources.contains(external), "{external}");
    }
    assert_eq!(korean.header("referrer-policy"), "no-referrer");
    assert_eq!(korean.header("cache-control"), "no-store");
    let english = house.get(&format!("/g/{token}")).header("accept-language", "en-GB").send().await.text();
    assert!(english.contains("A gift has arrived for you") && english.contains("lang=\"en\""));
    let code = code_of(&house, &token).await;
    let accepted = house.get(&format!("/g/{token}")).send().await.text();
    assert!(accepted.contains("<svg") && accepted.contains("data-state=\"accepted\""));
    let grouped = [&code[..4], &code[4..8], &code[8..12], &code[12..]].join(" ");
    assert!(accepted.contains(&grouped) && !accepted.contains("data-action=\"accept\""));
    house.post("/v1/vouchers/redeem").merchant("m").json(&sale(&code, "x")).send().await;
    let used = house.get(&format!("/g/{token}")).send().await.text();
    assert!(used.contains("data-state=\"used\"") && !used.contains(&grouped) && !used.contains("<svg"));
    let missing = house.get("/g/nothing").send().await;
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("선물을 찾을 수 없어요"));
}
