//! Texts and codes of the logical templates, for providers that take a text (SMS, e-mail, push) or a code (Alimtalk).
//!
//! A text holds variables as `#{name}` or `#{name|used when absent}`, as Kakao writes them. `#{link}` is the request's
//! link; the others are `recipient`, `sender`, `product`, and by template `days`, `expires_on`, `send_at`, `amount` (won), `items`.
//! A variable without a value and without a fallback is a refusal: no half-blank message leaves.

use crate::types::call::{MessageRequest, Template};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Every logical template.
pub const TEMPLATES: [Template; 12] = [
    Template::GiftArrived,
    Template::ExpiresInDays,
    Template::SenderReserved,
    Template::SenderSent,
    Template::SenderAccepted,
    Template::SenderFailed,
    Template::SenderRefunded,
    Template::SenderMoved,
    Template::OrderPlaced,
    Template::OrderCompleted,
    Template::OrderFailed,
    Template::OrderCancelled,
];

/// Language of the default texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    #[default]
    Ko,
    En,
}

/// Subject (LMS title, mail subject, push title) and body of one template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateText {
    pub subject: String,
    pub text: String,
}

/// The texts of all templates.
#[derive(Clone, Debug)]
pub(crate) struct Texts(BTreeMap<Template, TemplateText>);

/// A message with its variables filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub subject: String,
    pub text: String,
}

/// A variable that a text needs and the request does not have. The name is the template's, not a person's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MissingVariable(pub String);

impl MissingVariable {
    /// As the code of a permanent refusal.
    pub(crate) fn code(&self) -> String {
        format!("missing_variable:{}", self.0)
    }
}

impl Texts {
    /// The defaults of `language`, with `overrides` (by logical name) in their place.
    ///
    /// # Errors
    /// The name of an override that is not a template's.
    pub(crate) fn new(language: Language, overrides: &BTreeMap<String, TemplateText>) -> Result<Self, String> {
        let mut texts: BTreeMap<Template, TemplateText> =
            TEMPLATES.into_iter().map(|template| (template, default_text(language, template))).collect();
        for (name, text) in overrides {
            texts.insert(template_named(name).ok_or_else(|| name.clone())?, text.clone());
        }
        Ok(Self(texts))
    }

    /// Fills in the request's variables.
    ///
    /// # Errors
    /// [`MissingVariable`]
    pub(crate) fn render(&self, request: &MessageRequest) -> Result<Rendered, MissingVariable> {
        let text = self.0.get(&request.template).expect("texts exist for all templates");
        Ok(Rendered { subject: fill(&text.subject, request)?, text: fill(&text.text, request)? })
    }
}

/// The template of a logical name.
pub(crate) fn template_named(name: &str) -> Option<Template> {
    TEMPLATES.into_iter().find(|template| template.name() == name)
}

fn value_of<'a>(request: &'a MessageRequest, name: &str) -> Option<&'a str> {
    if name == "link" {
        return request.link.as_ref().map(|link| link.0.as_str());
    }
    let found = request.variables.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.0.as_str()).filter(|value| !value.is_empty())
}

fn fill(text: &str, request: &MessageRequest) -> Result<String, MissingVariable> {
    let mut filled = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once("#{") {
        filled.push_str(before);
        let Some((variable, after)) = tail.split_once('}') else {
            filled.push_str("#{");
            rest = tail;
            continue;
        };
        let (name, fallback) = match variable.split_once('|') {
            Some((name, fallback)) => (name, Some(fallback)),
            None => (variable, None),
        };
        filled.push_str(value_of(request, name).or(fallback).ok_or_else(|| MissingVariable(name.to_owned()))?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn default_text(language: Language, template: Template) -> TemplateText {
    let (subject, text) = match language {
        Language::Ko => korean(template),
        Language::En => english(template),
    };
    TemplateText { subject: subject.to_owned(), text: text.to_owned() }
}

/// Purely informational, so that they may arrive at midnight.
fn korean(template: Template) -> (&'static str, &'static str) {
    match template {
        Template::GiftArrived => {
            ("선물이 도착했어요", "[보자기] #{sender|소중한 분}님이 보낸 선물이 도착했어요.\n#{link}")
        }
        Template::ExpiresInDays => {
            ("선물 사용 기한 안내", "[보자기] 받으신 선물 #{product}의 사용 기한이 #{days}일 남았어요.\n#{link}")
        }
        Template::SenderReserved => {
            ("선물 예약 완료", "[보자기] #{recipient|받는 분}님께 보낼 선물이 예약되었어요. 보내는 때: #{send_at}")
        }
        Template::SenderSent => ("선물 발송 완료", "[보자기] #{recipient|받는 분}님께 선물을 보냈어요."),
        Template::SenderAccepted => ("선물 수락", "[보자기] #{recipient|받는 분}님이 선물을 받았어요."),
        Template::SenderFailed => {
            ("선물 발송 실패", "[보자기] #{recipient|받는 분}님께 선물을 보내지 못했어요. 담당자가 확인하고 있어요.")
        }
        Template::SenderRefunded => ("선물 환불 완료", "[보자기] 선물 결제 금액 #{amount}원이 환불되었어요."),
        Template::SenderMoved => {
            ("선물 발송 시각 변경", "[보자기] 시간대 규칙이 바뀌어 선물 발송 시각이 #{send_at}(으)로 변경되었어요.")
        }
        Template::OrderPlaced => ("주문 접수", "[보자기] 주문이 접수되었어요: #{items}, #{amount}원."),
        Template::OrderCompleted => ("주문 완료", "[보자기] 주문하신 상품이 배송 준비되었어요: #{items}."),
        Template::OrderFailed => {
            ("주문 실패", "[보자기] 주문을 처리하지 못했어요: #{items}. 결제된 금액은 모두 환불돼요.")
        }
        Template::OrderCancelled => {
            ("주문 취소", "[보자기] 주문이 취소되었어요: #{items}. 결제된 금액은 모두 환불돼요.")
        }
    }
}

fn english(template: Template) -> (&'static str, &'static str) {
    match template {
        Template::GiftArrived => {
            ("A gift has arrived", "[Bojagi] A gift from #{sender|someone dear} has arrived.\n#{link}")
        }
        Template::ExpiresInDays => {
            ("Your gift expires soon", "[Bojagi] Days left to use your gift #{product}: #{days}.\n#{link}")
        }
        Template::SenderReserved => {
            ("Gift reserved", "[Bojagi] Your gift for #{recipient|your recipient} is reserved for #{send_at}.")
        }
        Template::SenderSent => ("Gift sent", "[Bojagi] Your gift was sent to #{recipient|your recipient}."),
        Template::SenderAccepted => ("Gift accepted", "[Bojagi] #{recipient|Your recipient} has accepted your gift."),
        Template::SenderFailed => (
            "Gift not delivered",
            "[Bojagi] Your gift to #{recipient|your recipient} could not be sent. We are looking into it.",
        ),
        Template::SenderRefunded => ("Gift refunded", "[Bojagi] Your payment was refunded: #{amount} KRW."),
        Template::SenderMoved => {
            ("Gift moved", "[Bojagi] Time-zone rules changed; your gift will now be sent at #{send_at}.")
        }
        Template::OrderPlaced => ("Order placed", "[Bojagi] We have your order: #{items}, #{amount} KRW."),
        Template::OrderCompleted => ("Order completed", "[Bojagi] Your order is ready to leave: #{items}."),
        Template::OrderFailed => {
            ("Order failed", "[Bojagi] We could not complete your order: #{items}. What was paid goes back.")
        }
        Template::OrderCancelled => {
            ("Order cancelled", "[Bojagi] Your order is cancelled: #{items}. What was paid goes back.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::testing::gift_sms;
    use crate::types::contact::Private;

    #[test]
    fn variables_fallbacks_and_the_link_are_filled_in() {
        let mut request = gift_sms("g_1.1.1");
        request.variables = vec![("sender".to_owned(), Private("지민".to_owned()))];
        let texts = Texts::new(Language::En, &BTreeMap::new()).unwrap();
        let rendered = texts.render(&request).unwrap();
        assert_eq!(rendered.text, "[Bojagi] A gift from 지민 has arrived.\nhttp://127.0.0.1:8080/g/001abc");
        request.variables.clear();
        assert!(texts.render(&request).unwrap().text.contains("someone dear"));
        request.link = None;
        assert_eq!(texts.render(&request), Err(MissingVariable("link".to_owned())));
    }

    #[test]
    fn every_template_has_a_text_in_both_languages() {
        let mut request = gift_sms("g_1.1.1");
        let more = [
            ("days", "3"),
            ("expires_on", "2027-01-24"),
            ("send_at", "2026-12-25 00:00"),
            ("amount", "30000"),
            ("items", "mug-blue"),
        ];
        request.variables.extend(more.map(|(name, value)| (name.to_owned(), Private(value.to_owned()))));
        for language in [Language::Ko, Language::En] {
            let texts = Texts::new(language, &BTreeMap::new()).unwrap();
            for template in TEMPLATES {
                request.template = template;
                let rendered = texts.render(&request).unwrap();
                assert!(!rendered.subject.is_empty() && !rendered.text.contains("#{"), "{rendered:?}");
            }
        }
    }

    #[test]
    fn an_override_replaces_one_text_and_a_stray_name_is_told() {
        let text = TemplateText { subject: "s".to_owned(), text: "open #{ #{code}".to_owned() };
        let texts = Texts::new(Language::Ko, &BTreeMap::from([("gift_arrived".to_owned(), text.clone())])).unwrap();
        assert_eq!(texts.render(&gift_sms("g_1.1.1")), Err(MissingVariable(" #{code".to_owned())));
        let stray = Texts::new(Language::Ko, &BTreeMap::from([("gift_arived".to_owned(), text)]));
        assert_eq!(stray.unwrap_err(), "gift_arived");
    }
}
