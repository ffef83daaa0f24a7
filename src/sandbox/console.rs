//! The page that shows the newest messages as their recipients would see them, with the faults in force.
//!
//! Everything that came over the wire is escaped; a link is a link only when it begins with http:// or https://.

use crate::sandbox::event::MessageEvent;
use crate::sandbox::fate::{OTHER_RULES, PHONE_RULES};
use crate::sandbox::faults::{Fault, FaultKind};
use crate::sandbox::http::{Answer, Call, Content};
use crate::sandbox::journal::JournalLost;
use crate::sandbox::ledger::Summary;
use crate::sandbox::people::Seen;
use crate::sandbox::settings::{
    CONSOLE_MESSAGES_MAX, NHN_APP_KEY, NHN_SECRET_KEY, NHN_WEBHOOK_SIGNATURE, Provider, SOLAPI_API_KEY,
    SOLAPI_API_SECRET, TOSS_SECRET_KEY,
};
use crate::sandbox::template::is_link;
use crate::types::effect::Channel;
use std::fmt::Write as _;

const PAGE: &str = include_str!("console.html");

/// `GET /`, or `GET /?part=live` for the part that changes.
///
/// # Errors
/// [`JournalLost`]: nothing may be answered.
pub(crate) async fn page(call: &Call<'_>) -> Result<Answer, JournalLost> {
    let (seen, summary) = call
        .context
        .look(|book, _| {
            let newest = book.ledger.newest_messages(CONSOLE_MESSAGES_MAX);
            (newest.into_iter().map(Seen::from).collect::<Vec<_>>(), book.ledger.summary())
        })
        .await?;
    let faults = call.context.faults.list(call.context.clock.now());
    let mut live = totals(&summary, &call.context.clock.now().to_rfc3339());
    live.push_str(&fault_list(&faults));
    live.push_str("<section><h2>받은 메시지 <span lang=\"en\">· Received messages</span></h2>");
    if seen.is_empty() {
        live.push_str("<p class=\"meta\">아직 없습니다. <span lang=\"en\">Nothing yet.</span></p>");
    }
    for item in &seen {
        if let Some(event) = item.read(call.context) {
            live.push_str(&bubble(item, &event));
        }
    }
    live.push_str("</section>");
    let whole = call.parameter("part").is_none();
    let body = if whole { fill(&live) } else { live };
    let mut answer = Answer::json(200, body.into_bytes());
    answer.content = Content::Html;
    Ok(answer)
}

fn fill(live: &str) -> String {
    let providers = Provider::ALL.map(Provider::name);
    let options = |names: &mut dyn Iterator<Item = &'static str>| {
        names.fold(String::new(), |mut html, name| {
            write!(html, "<option>{name}</option>").expect("writing to a string cannot fail");
            html
        })
    };
    let providers = options(&mut std::iter::once("*").chain(providers));
    let kinds = options(&mut FaultKind::ALL.into_iter().map(FaultKind::name));
    // The live part last: what people sent is never searched for placeholders.
    let page = PAGE.replace("{{providers}}", &providers).replace("{{kinds}}", &kinds);
    page.replace("{{rules}}", &rules()).replace("{{credentials}}", &credentials()).replacen("{{live}}", live, 1)
}

fn row(name: &str, what: &str) -> String {
    format!("<tr><td><code>{}</code></td><td>{}</td></tr>", escape(name), escape(what))
}

fn rules() -> String {
    let phones = PHONE_RULES.iter().map(|(ending, _, what)| row(&format!("☎ …{ending}"), what));
    phones.chain(OTHER_RULES.iter().map(|(name, what)| row(name, what))).collect()
}

fn credentials() -> String {
    [
        ("nhn", format!("appkey {NHN_APP_KEY} · X-Secret-Key {NHN_SECRET_KEY} · webhook {NHN_WEBHOOK_SIGNATURE}")),
        ("solapi", format!("apiKey {SOLAPI_API_KEY} · secret {SOLAPI_API_SECRET} · X-Solapi-Secret = SHA-1(secret)")),
        ("toss", format!("secret key {TOSS_SECRET_KEY}")),
        ("fcm", "any Bearer token; POST /token gives one".to_owned()),
        ("smtp", "any".to_owned()),
    ]
    .iter()
    .map(|(name, what)| row(name, what))
    .collect()
}

fn totals(summary: &Summary, now: &str) -> String {
    format!(
        "<section class=\"card\"><strong>{now}</strong><br>메시지 · messages {} ({} calls, {} doubled) · 선물 · gifts delivered {} (<b>{} twice</b>) · 결제 · paid ₩{} · 환불 · refunded ₩{}</section>",
        summary.effective,
        summary.requests,
        summary.doubled,
        summary.delivered,
        summary.delivered_twice,
        summary.paid,
        summary.refunded
    )
}

fn fault_list(faults: &[Fault]) -> String {
    if faults.is_empty() {
        return String::new();
    }
    let mut html =
        "<section><h2>고장 <span lang=\"en\">· Faults in force</span></h2><div class=\"card\"><table>".to_owned();
    for fault in faults {
        write!(
            html,
            "<tr><td><code>{}</code></td><td>{}</td><td>p={}</td><td>{} ms</td><td>{}</td><td><button data-fault=\"{}\">해제 · Clear</button></td></tr>",
            escape(&fault.provider),
            fault.kind.name(),
            fault.probability,
            fault.latency_ms,
            escape(fault.until.as_deref().unwrap_or("∞")),
            fault.id
        )
        .expect("writing to a string cannot fail");
    }
    html.push_str("</table></div></section>");
    html
}

fn bubble(item: &Seen, event: &MessageEvent<'_>) -> String {
    let (class, label) = match event.channel {
        Channel::Kakao => ("kakao", "카카오 알림톡 · Alimtalk"),
        Channel::Sms => ("sms", "문자 · SMS"),
        Channel::Email => ("email", "이메일 · e-mail"),
        Channel::Push => ("push", "푸시 · push"),
    };
    let fate = match item.effective {
        0 => " failed",
        1 => "",
        2.. => " twice",
    };
    let title = if event.title.is_empty() {
        String::new()
    } else {
        format!("<span class=\"title\">{}</span>", escape(&event.title))
    };
    format!(
        "<article><div class=\"bubble {class}{fate}\">{title}{}</div><p class=\"meta\">{label} → {} · {} · {} · requests {} · effective {}</p></article>",
        linked(&event.text),
        escape(&event.to),
        item.first_at,
        escape(&item.reference),
        item.requests,
        item.effective
    )
}

/// Escaped text with working links.
fn linked(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + 64);
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end();
        if is_link(word) {
            let link = escape(word);
            write!(html, "<a href=\"{link}\" target=\"_blank\" rel=\"noopener noreferrer\">{link}</a>")
                .expect("writing to a string cannot fail");
            html.push_str(&piece[word.len()..]);
        } else {
            html.push_str(&escape(piece));
        }
    }
    html
}

/// Makes text safe between tags and inside a quoted attribute.
fn escape(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_over_the_wire_is_text() {
        assert_eq!(escape(r#"<a href="x" id='y'>&"#), "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;");
        assert_eq!(linked("javascript:alert(1) <b>"), "javascript:alert(1) &lt;b&gt;");
        let html = linked("보기\nhttp://x/g/1?a=1&b=\"><script> 끝");
        assert!(html.contains(r#"<a href="http://x/g/1?a=1&amp;b=&quot;&gt;&lt;script&gt;""#), "{html}");
        assert!(!html.contains("<script>"));
    }

    #[test]
    fn page_has_no_placeholder_left() {
        let page = fill("live");
        assert!(!page.contains("{{") && page.contains("tok_reject") && page.contains("<option>nhn</option>"));
    }
}
