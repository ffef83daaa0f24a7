//! Hostile callers at the doors of real processes: each is told no in a clear problem document, and changes nothing.
//!
//! | file | what is tried |
//! |---|---|
//! | `wire` | slow, huge, ambiguous and odd HTTP; crowds of connections |
//! | `frames` | floods of HTTP/2 frames |
//! | `bodies` | JSON and text made to confuse |
//! | `identity` | tokens that are forged, expired or of another; other people's gifts |
//! | `neighbours` | campaigns in parts, orders' notices, the list of all things, wallets |
//! | `secrets` | voucher codes and link tokens that are guessed |
//! | `webhooks` | unsigned, wrong, replayed and huge webhooks |
//! | `settings` | configured addresses that lead where they should not |

mod bodies;
mod frames;
mod identity;
mod neighbours;
mod raw;
mod secrets;
mod settings;
#[path = "../support/mod.rs"]
mod support;
mod webhooks;
mod wire;

use serde_json::{Value, json};
use support::{Reply, Stack};

/// Asserts a refusal in the API's own words, and returns its code.
fn refused(reply: &Reply, status: u16) -> String {
    assert_eq!(reply.status, status, "{}", reply.text);
    assert_problem(&reply.body, status)
}

fn assert_problem(body: &Value, status: u16) -> String {
    let text = |name: &str| body[name].as_str().unwrap_or_else(|| panic!("no {name}: {body}")).to_owned();
    assert_eq!(body["status"], status, "{body}");
    assert_eq!(text("type"), format!("urn:bojagi:problem:{}", text("code")));
    assert_eq!(text("outcome"), "not_applied", "{body}");
    assert!(!text("title").is_empty() && !text("detail").is_empty() && text("trace_id").len() == 32, "{body}");
    text("code")
}

/// A refusal without what differs from one request to the next.
fn bare(reply: &Reply) -> Value {
    let mut body = reply.body.clone();
    body.as_object_mut().expect("a problem document").remove("trace_id");
    body
}

/// The world after an attack: the caller's gifts, what the providers were asked for, and the books.
fn world(stack: &Stack) -> Value {
    stack.advance(0);
    let mut books = stack.reconciliation();
    assert_eq!(books["balanced"], true, "{books}");
    books.as_object_mut().unwrap().remove("at");
    let gifts = stack.call("GET", "/v1/gifts?limit=100", Some(&stack.user), None, None);
    assert_eq!(gifts.status, 200, "{}", gifts.text);
    json!({"books": books, "gifts": gifts.body, "providers": stack.summary()})
}
