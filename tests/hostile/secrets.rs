//! Secrets that are guessed: voucher codes in bulk, link tokens.

use crate::support::{Reply, Stack};
use crate::{refused, world};
use bojagi::domain::voucher::{LinkToken, VoucherCode};
use bojagi::types::ids::ShardId;
use serde_json::json;

/// Wrong codes that one terminal may try at once, as the product sets it.
const TRIES: usize = 10;

fn redeem(stack: &Stack, merchant: &str, terminal: &str, code: &str, transaction: &str) -> Reply {
    let body = json!({"code": code, "store_id": "s-1", "terminal_id": terminal, "transaction_id": transaction});
    stack.call("POST", "/v1/vouchers/redeem", Some(merchant), None, Some(body))
}

/// A well-formed code that no voucher has.
fn wrong(number: u8) -> String {
    VoucherCode::compose(ShardId(u16::from(number) % 8), [number; 16]).expose().to_owned()
}

/// A sent gift and its link's token.
fn sent(stack: &Stack) -> (String, String) {
    stack.put_product("americano", 4_500, 30);
    let id = stack.reserved(stack.gift_body("americano", &stack.in_minutes(30)));
    stack.await_status(&id, "scheduled");
    stack.advance(32 * 60);
    let token = stack.link(&id);
    (id, token)
}

#[test]
fn a_terminal_that_tries_codes_out_is_stopped_and_the_others_go_on() {
    let stack = Stack::start();
    let (id, token) = sent(&stack);
    let accepted = stack.link_call(&token, "accept", None);
    let code = accepted.body["voucher"]["code"].as_str().unwrap().to_owned();
    let before = world(&stack);
    let mut number = 0;
    let mut guess = |merchant: &str, terminal: &str| {
        number += 1;
        redeem(&stack, merchant, terminal, &wrong(number), &format!("x-{number}"))
    };
    for _ in 0..TRIES {
        assert_eq!(refused(&guess(&stack.merchant, "t-1"), 404), "voucher_unknown");
    }
    let stopped = guess(&stack.merchant, "t-1");
    assert_eq!(refused(&stopped, 429), "too_many_wrong_codes");
    // Even the right code is not looked at then, so that nothing is learnt from how it is refused.
    assert_eq!(refused(&redeem(&stack, &stack.merchant, "t-1", &code, "tx-1"), 429), "too_many_wrong_codes");
    let cancel = json!({"code": code, "store_id": "s-1", "terminal_id": "t-1", "transaction_id": "tx-1"});
    let cancelled = stack.call("POST", "/v1/vouchers/redeem/cancel", Some(&stack.merchant), None, Some(cancel));
    assert_eq!(refused(&cancelled, 429), "too_many_wrong_codes");
    // A merchant that names a new terminal each time runs into its own limit, ten times as high.
    let statuses: Vec<u16> =
        (0..TRIES * 10).map(|number| guess(&stack.merchant, &format!("fresh-{number}")).status).collect();
    // A token or two may come back meanwhile.
    let looked_at = statuses.iter().filter(|status| **status == 404).count();
    assert!((TRIES * 9..TRIES * 10).contains(&looked_at), "{statuses:?}");
    assert_eq!(statuses.last(), Some(&429));
    assert_eq!(world(&stack), before);
    // Codes that are none cost tries too; another merchant's till sells on.
    let other = stack.token("merchant", "m-2");
    for text in ["", "0000000000000000", "x", "0001234567890126 0", "9999999999999995"] {
        assert_eq!(refused(&redeem(&stack, &other, "t-1", text, "y"), 404), "voucher_unknown", "{text:?}");
    }
    assert_eq!(redeem(&stack, &other, "t-1", &code, "tx-2").status, 200);
    assert_eq!(stack.gift(&id)["status"], "used");
}

#[test]
fn a_link_token_is_not_found_by_guessing_and_tells_nothing_on_the_way() {
    let stack = Stack::start();
    let (id, token) = sent(&stack);
    let before = (world(&stack), stack.gift(&id));
    let mut guesses: Vec<String> = (0..100u8)
        .map(|number| LinkToken::compose(ShardId(u16::from(number % 64)), [number; 16]).expose().to_owned())
        .collect();
    let mut near = token.clone().into_bytes();
    let last = near.last_mut().unwrap();
    *last = if *last == b'0' { b'1' } else { b'0' };
    guesses.push(String::from_utf8(near).unwrap());
    guesses.push(format!("{:03}{}", (token[..3].parse::<u16>().unwrap() + 1) % 64, &token[3..]));
    guesses.push(format!("999{}", &token[3..]));
    guesses.push(token.replace(char::is_alphabetic, "A"));
    guesses.push(format!("{token}0"));
    guesses.push(token[..34].to_owned());
    let ask = |guess: &str| stack.call("GET", &format!("/v1/links/{guess}"), None, None, None);
    let mut first = ask(&guesses[0]).body;
    first["trace_id"] = json!(null);
    for guess in &guesses {
        let reply = ask(guess);
        assert_eq!(refused(&reply, 404), "not_found", "{guess}");
        let mut body = reply.body;
        body["trace_id"] = json!(null);
        assert_eq!(body, first, "a near miss looks like any other");
        for action in ["accept", "decline"] {
            assert_eq!(refused(&stack.link_call(guess, action, None), 404), "not_found", "{guess} {action}");
        }
    }
    let transfer = json!({"recipient": {"name": "도둑", "phone": "010-9999-9999"}});
    assert_eq!(refused(&stack.link_call(&guesses[0], "transfer", Some(transfer.clone())), 404), "not_found");
    assert_eq!((world(&stack), stack.gift(&id)), before);
    // The link of a gift that was handed on is dead, and tells nothing else.
    assert_eq!(stack.link_call(&token, "transfer", Some(transfer)).status, 200);
    assert_eq!(refused(&ask(&token), 410), "link_dead");
    assert_eq!(refused(&stack.link_call(&token, "accept", None), 410), "link_dead");
}
