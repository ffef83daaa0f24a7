//! `GET /g/{token}`: the gift as a page, mobile first, in Korean or English. It works with what is in it: no external
//! script, style, font or image, held to that by a content security policy with a nonce.

use crate::api::extract::Segment;
use crate::api::links::{LinkedGift, Voucher, linked_view};
use crate::api::page_words::{Language, Shown, Words};
use crate::api::problem::{Code, Problem};
use crate::api::router::{App, Shared};
use crate::domain::calendar;
use askama::Template;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use barcoders::generators::svg::SVG;
use barcoders::sym::code128::Code128;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(page))
}

#[derive(Template)]
#[template(path = "gift.html", config = "src/api/pages/askama.toml")]
struct GiftPage {
    lang: &'static str,
    nonce: String,
    words: Words,
    state: &'static str,
    from: String,
    product: String,
    message: Option<String>,
    until: Option<String>,
    voucher: Option<Barcode>,
    can_accept: bool,
    can_decline: bool,
    can_transfer: bool,
}

struct Barcode {
    svg: String,
    /// `0071 2345 6789 0124`
    grouped: String,
}

/// The gift's page. Looking at it counts as its message having arrived.
#[utoipa::path(get, path = "/g/{token}", tag = "recipient", params(("token" = String, Path)),
    responses((status = 200, body = String, content_type = "text/html"),
        (status = 404, body = String, content_type = "text/html"),
        (status = 410, body = String, content_type = "text/html")))]
async fn page(State(app): State<App>, method: Method, token: Result<Segment, Problem>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let language = Language::choose(accept);
    let linked = match token {
        Ok(Segment(token)) => app.follow_link(&method, &token).await,
        Err(problem) => Err(problem),
    };
    match linked {
        Ok(linked) => {
            let view = linked_view(&linked.gift, &linked.hash);
            let status = if view.state == "transferred" { StatusCode::GONE } else { StatusCode::OK };
            show(&app, status, language, |nonce| gift_page(language, nonce, view))
        }
        Err(problem) => failed(&app, &problem, language),
    }
}

fn failed(app: &Shared, problem: &Problem, language: Language) -> Response {
    let shown = match problem.code {
        Code::NotFound => Shown::Missing,
        Code::LinkDead => Shown::Transferred,
        _later => Shown::Later,
    };
    let mut response = show(app, problem.code.status(), language, |nonce| bare_page(language, nonce, shown));
    if let Some(seconds) = problem.retry_after_secs {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A page without a gift.
fn bare_page(language: Language, nonce: String, shown: Shown) -> GiftPage {
    let words = Words::of(language, shown);
    GiftPage {
        lang: language.tag(),
        nonce,
        words,
        state: shown.name(),
        from: String::new(),
        product: words.title.to_owned(),
        message: None,
        until: None,
        voucher: None,
        can_accept: false,
        can_decline: false,
        can_transfer: false,
    }
}

fn gift_page(language: Language, nonce: String, gift: LinkedGift) -> GiftPage {
    let shown = Shown::parse(gift.state);
    if shown == Shown::Transferred {
        return bare_page(language, nonce, shown);
    }
    let can = |action| gift.actions.contains(&action);
    let (can_accept, can_decline, can_transfer) = (can("accept"), can("decline"), can("transfer"));
    let until = match shown {
        Shown::Arrived | Shown::Accepted | Shown::Expired => {
            gift.expires_at.map(|at| calendar::local_minute(at.0, &gift.zone))
        }
        Shown::Used | Shown::Declined | Shown::Transferred | Shown::Withdrawn | Shown::Missing | Shown::Later => None,
    };
    GiftPage {
        from: from_line(language, gift.sender_name.as_deref(), gift.recipient_name.as_deref()),
        product: gift.product_name,
        message: gift.message,
        until,
        voucher: gift.voucher.as_ref().and_then(barcode),
        can_accept,
        can_decline,
        can_transfer,
        ..bare_page(language, nonce, shown)
    }
}

fn from_line(language: Language, sender: Option<&str>, recipient: Option<&str>) -> String {
    match (language, sender, recipient) {
        (Language::Korean, Some(sender), _) => format!("{sender} 님이 보낸 선물"),
        (Language::Korean, None, Some(recipient)) => format!("{recipient} 님께 온 선물"),
        (Language::Korean, None, None) => "선물".to_owned(),
        (Language::English, Some(sender), _) => format!("A gift from {sender}"),
        (Language::English, None, Some(recipient)) => format!("A gift for {recipient}"),
        (Language::English, None, None) => "A gift".to_owned(),
    }
}

/// Code 128 in character set C: two digits a symbol, the densest form for sixteen digits.
fn barcode(voucher: &Voucher) -> Option<Barcode> {
    const SET_C: char = '\u{0106}';
    let bars = Code128::new(format!("{SET_C}{}", voucher.code)).ok()?.encode();
    let svg = SVG::new(80).xdim(2).xmlns("http://www.w3.org/2000/svg".to_owned()).generate(bars).ok()?;
    // Stretched to the card's width: scanners read ratios along the bars, not across them.
    let svg = svg.replacen("<svg ", "<svg preserveAspectRatio=\"none\" ", 1);
    let digits: Vec<char> = voucher.code.chars().collect();
    let groups: Vec<String> = digits.chunks(4).map(|group| group.iter().collect()).collect();
    Some(Barcode { svg, grouped: groups.join(" ") })
}

fn show(app: &Shared, status: StatusCode, language: Language, make: impl FnOnce(String) -> GiftPage) -> Response {
    let nonce = nonce(app);
    let policy = content_policy(&nonce);
    let Ok(html) = make(nonce).render() else {
        return Problem::new(Code::Internal).into_response();
    };
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CONTENT_LANGUAGE, HeaderValue::from_static(language.tag())),
        (header::VARY, HeaderValue::from_static("Accept-Language")),
        (HeaderName::from_static("x-robots-tag"), HeaderValue::from_static("noindex, nofollow")),
    ];
    (status, headers, Html(html)).into_response()
}

/// A nonce for one page.
#[must_use]
pub fn nonce(app: &Shared) -> String {
    let mut bytes = [0u8; 16];
    app.door.fill_random(&mut bytes);
    hex::encode(bytes)
}

/// Nothing but what the page itself carries, and calls to our own origin.
#[must_use]
pub fn content_policy(nonce: &str) -> HeaderValue {
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).expect("hexadecimal digits in ASCII text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barcode_is_set_c_and_its_digits_are_grouped() {
        let voucher = Voucher { code: "0071234567890124".to_owned(), format: "code128" };
        let barcode = barcode(&voucher).unwrap();
        assert_eq!(barcode.grouped, "0071 2345 6789 0124");
        assert!(barcode.svg.starts_with("<svg ") && barcode.svg.contains("viewBox=\"0 0 "));
        // Start C, eight pairs, check symbol at 11 modules each, stop at 13: 123 modules of two units.
        assert!(barcode.svg.contains("viewBox=\"0 0 246 80\""), "{}", &barcode.svg[..120]);
    }

    #[test]
    fn what_people_wrote_is_escaped() {
        let words = Words::of(Language::English, Shown::Arrived);
        let page = GiftPage {
            message: Some("<script>alert(1)</script>".to_owned()),
            product: "a\"b<c".to_owned(),
            ..bare_page(Language::English, "n".to_owned(), Shown::Arrived)
        };
        let html = page.render().unwrap();
        assert!(!html.contains("<script>alert") && !html.contains("b<c"));
        assert!(html.contains(words.state));
    }
}
