//! The recipient's page in Korean and English, and which of the two a reader wants.

/// A language of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Korean,
    English,
}

impl Language {
    /// The `lang` attribute.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Self::Korean => "ko",
            Self::English => "en",
        }
    }

    /// The best of the two for an `Accept-Language`; Korean when it says nothing, English for readers of neither.
    #[must_use]
    pub fn choose(accept: Option<&str>) -> Self {
        let Some(accept) = accept else { return Self::Korean };
        let mut best: Option<(f32, Self)> = None;
        let mut any = false;
        for range in accept.split(',').take(32) {
            let mut parts = range.split(';');
            let tag = parts.next().unwrap_or("").trim().to_ascii_lowercase();
            let weight = parts.find_map(|part| part.trim().strip_prefix("q=")).and_then(|text| text.parse().ok());
            let weight: f32 = weight.unwrap_or(1.0);
            any |= !tag.is_empty();
            let language = match tag.split('-').next() {
                Some("ko" | "*") => Self::Korean,
                Some("en") => Self::English,
                Some(_) | None => continue,
            };
            if weight > 0.0 && best.is_none_or(|(known, _)| weight > known) {
                best = Some((weight, language));
            }
        }
        match best {
            Some((_, language)) => language,
            None if any => Self::English,
            None => Self::Korean,
        }
    }
}

/// What the page shows of a gift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    Arrived,
    Accepted,
    Used,
    Declined,
    Expired,
    Transferred,
    Withdrawn,
    /// The token leads nowhere.
    Missing,
    /// It cannot be shown now.
    Later,
}

impl Shown {
    /// From the state of [`crate::api::links::LinkedGift`].
    #[must_use]
    pub fn parse(state: &str) -> Self {
        match state {
            "arrived" => Self::Arrived,
            "accepted" => Self::Accepted,
            "used" => Self::Used,
            "declined" => Self::Declined,
            "expired" => Self::Expired,
            "transferred" => Self::Transferred,
            _withdrawn => Self::Withdrawn,
        }
    }

    /// The page's `data-state`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Arrived => "arrived",
            Self::Accepted => "accepted",
            Self::Used => "used",
            Self::Declined => "declined",
            Self::Expired => "expired",
            Self::Transferred => "transferred",
            Self::Withdrawn => "withdrawn",
            Self::Missing => "missing",
            Self::Later => "later",
        }
    }
}

/// Every text of the page in one language and state.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    pub title: &'static str,
    pub state: &'static str,
    pub note: &'static str,
    pub until: &'static str,
    pub barcode: &'static str,
    pub accept: &'static str,
    pub decline: &'static str,
    pub decline_sure: &'static str,
    pub transfer: &'static str,
    pub transfer_note: &'static str,
    pub transfer_send: &'static str,
    pub name: &'static str,
    pub phone: &'static str,
    pub noscript: &'static str,
    pub fault_input: &'static str,
    pub fault_state: &'static str,
    pub fault_later: &'static str,
}

const KOREAN: Words = Words {
    title: "보자기 선물",
    state: "",
    note: "",
    until: "사용 기한:",
    barcode: "교환권 바코드",
    accept: "선물 받기",
    decline: "선물 거절하기",
    decline_sure: "선물을 거절할까요? 되돌릴 수 없어요.",
    transfer: "다른 사람에게 전달하기",
    transfer_note: "전달하면 이 링크와 교환권은 더 이상 사용할 수 없어요.",
    transfer_send: "전달하기",
    name: "받는 분 이름",
    phone: "휴대폰 번호",
    noscript: "버튼을 누르려면 자바스크립트를 켜 주세요.",
    fault_input: "입력한 내용을 확인해 주세요.",
    fault_state: "지금은 할 수 없어요. 화면을 새로 고쳐 주세요.",
    fault_later: "잠시 후 다시 시도해 주세요.",
};

const ENGLISH: Words = Words {
    title: "A Bojagi gift",
    state: "",
    note: "",
    until: "Valid until",
    barcode: "Voucher barcode",
    accept: "Accept the gift",
    decline: "Decline the gift",
    decline_sure: "Decline this gift? This cannot be undone.",
    transfer: "Pass it on to someone else",
    transfer_note: "Once passed on, this link and its voucher stop working.",
    transfer_send: "Pass it on",
    name: "Recipient's name",
    phone: "Mobile number",
    noscript: "Turn JavaScript on to use the buttons.",
    fault_input: "Please check what you entered.",
    fault_state: "This is not possible now. Please reload the page.",
    fault_later: "Please try again in a moment.",
};

impl Words {
    /// The words for a state.
    #[must_use]
    pub fn of(language: Language, shown: Shown) -> Self {
        match language {
            Language::Korean => {
                let (state, note) = korean(shown);
                Self { state, note, ..KOREAN }
            }
            Language::English => {
                let (state, note) = english(shown);
                Self { state, note, ..ENGLISH }
            }
        }
    }
}

fn korean(shown: Shown) -> (&'static str, &'static str) {
    match shown {
        Shown::Arrived => ("선물이 도착했어요", "선물을 받으면 교환권이 열려요."),
        Shown::Accepted => ("사용할 수 있는 선물이에요", "매장에서 아래 바코드를 보여 주세요."),
        Shown::Used => ("사용한 선물이에요", "이미 사용한 교환권이에요."),
        Shown::Declined => ("거절한 선물이에요", "보낸 분께 환불됩니다."),
        Shown::Expired => ("기한이 지난 선물이에요", "사용 기한이 지나 더 이상 사용할 수 없어요."),
        Shown::Transferred => ("전달한 선물이에요", "다른 분께 전달되어 이 링크는 사용할 수 없어요."),
        Shown::Withdrawn => ("사용할 수 없는 선물이에요", "취소되었거나 환불된 선물이에요."),
        Shown::Missing => ("선물을 찾을 수 없어요", "링크를 다시 확인해 주세요."),
        Shown::Later => ("지금은 열 수 없어요", "잠시 후 다시 열어 주세요."),
    }
}

fn english(shown: Shown) -> (&'static str, &'static str) {
    match shown {
        Shown::Arrived => ("A gift has arrived for you", "Accept it to open the voucher."),
        Shown::Accepted => ("Your gift is ready to use", "Show this barcode at the shop."),
        Shown::Used => ("This gift has been used", "The voucher has already been redeemed."),
        Shown::Declined => ("This gift was declined", "The sender gets their money back."),
        Shown::Expired => ("This gift has expired", "Its validity is over and it can no longer be used."),
        Shown::Transferred => ("This gift was passed on", "Someone else has it now, and this link is closed."),
        Shown::Withdrawn => ("This gift is not available", "It was cancelled or refunded."),
        Shown::Missing => ("There is no such gift", "Please check the link."),
        Shown::Later => ("The gift cannot be opened now", "Please try again in a moment."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reader_chooses_the_language() {
        let choose = |text| Language::choose(Some(text)).tag();
        assert_eq!(Language::choose(None), Language::Korean);
        assert_eq!(choose("ko-KR,ko;q=0.9,en-US;q=0.8"), "ko");
        assert_eq!(choose("en-US,en;q=0.9,ko;q=0.8"), "en");
        assert_eq!(choose("en;q=0.5, ko"), "ko");
        assert_eq!(choose("fr-FR, de"), "en");
        assert_eq!(choose("fr, en;q=0.1"), "en");
        assert_eq!(choose("*"), "ko");
        assert_eq!(choose("ko;q=0, en"), "en");
        assert_eq!(choose(""), "ko");
    }

    #[test]
    fn every_state_has_words_in_both_languages() {
        let states = ["arrived", "accepted", "used", "declined", "expired", "transferred", "withdrawn"];
        for state in states {
            let shown = Shown::parse(state);
            assert_eq!(shown.name(), state);
            for language in [Language::Korean, Language::English] {
                assert!(!Words::of(language, shown).state.is_empty());
            }
        }
    }
}
