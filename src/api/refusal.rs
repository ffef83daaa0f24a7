//! Business refusals as problems: exhaustive over every kind's rejections.

use crate::actors::door::AskError;
use crate::api::problem::{Code, Fault, Problem, runtime_problem};
use crate::api::show_body;
use crate::domain::area::AreaRejection;
use crate::domain::campaign::{CampaignRejection, TermsFault};
use crate::domain::coupon::{CouponRejection, DiscountFault};
use crate::domain::gift::GiftRejection;
use crate::domain::inventory::StockRejection;
use crate::domain::order::OrderRejection;
use crate::domain::policy::PolicyField;
use crate::domain::product::ProductRejection;
use crate::domain::queue::QueueRejection;
use crate::domain::reservation::ReservationRejection;
use crate::domain::show::{ShowRejection, seat_name};
use crate::domain::wallet::WalletRejection;
use crate::types::codec;

/// A payment that cannot surely be given back for as long as the gift lives.
pub const REFUND_WINDOW_CODE: &str = "refund_window_too_short";
pub const REFUND_WINDOW: &str = "It cannot be refunded for as long as the gift lives.";

fn fault(pointer: &'static str, code: &'static str, detail: &'static str) -> Problem {
    Problem::invalid(vec![Fault { pointer: pointer.to_owned(), code, detail: detail.into() }])
}

/// A gift that says no.
#[must_use]
pub fn gift_refusal(rejection: &GiftRejection) -> Problem {
    match rejection {
        GiftRejection::NotFound => Problem::new(Code::NotFound),
        // The row that would answer a repeat is gone, the gift is not: the key has outlived its life.
        GiftRejection::AlreadyExists => Problem::new(Code::KeyExpired),
        GiftRejection::NotReservable => fault("", "not_reservable", "The parts of this gift do not fit together."),
        GiftRejection::SendAtOutOfRange => fault("/send_at", "out_of_range", "10 minutes to 1 year ahead."),
        GiftRejection::RefundWindowTooShort => fault("/payment/method", REFUND_WINDOW_CODE, REFUND_WINDOW),
        GiftRejection::NoChannel => fault("/channels", "no_contact", "A channel has no contact to reach."),
        GiftRejection::AlreadyDispatched => Problem::new(Code::AlreadyDispatched),
        GiftRejection::NotCancellable { status } => {
            Problem::because(Code::WrongState, format!("A gift that is {status} cannot be cancelled."))
        }
        GiftRejection::TooLateToModify => Problem::new(Code::TooLateToModify),
        GiftRejection::AlreadyUsed => Problem::new(Code::AlreadyUsed),
        GiftRejection::Expired => Problem::new(Code::VoucherExpired),
        GiftRejection::NotAccepted => Problem::new(Code::NotAccepted),
        GiftRejection::AlreadyTransferred => Problem::new(Code::AlreadyTransferred),
        GiftRejection::LinkDead => Problem::new(Code::LinkDead),
        GiftRejection::DeclineNotAllowed => Problem::new(Code::DeclineNotAllowed),
        GiftRejection::TransactionCancelled => Problem::new(Code::TransactionCancelled),
        GiftRejection::TooLateToCancel => Problem::new(Code::TooLateToCancel),
        GiftRejection::NotADeadLetter => Problem::new(Code::NotADeadLetter),
        GiftRejection::AttemptsExhausted => Problem::new(Code::AttemptsExhausted),
        GiftRejection::Erased => Problem::new(Code::PersonalDataErased),
        GiftRejection::WrongState { status } => {
            Problem::because(Code::WrongState, format!("This is not possible while the gift is {status}."))
        }
        GiftRejection::NotWanted | GiftRejection::NotDue => Problem::new(Code::WrongState),
    }
}

/// A gift that says no to an operator who acts on one of its letters.
#[must_use]
pub fn letter_refusal(rejection: &GiftRejection) -> Problem {
    match rejection {
        GiftRejection::NotReservable => bad_operator(),
        other => gift_refusal(other),
    }
}

fn bad_operator() -> Problem {
    fault("/reason", "too_long", "Name and reason have to be of sound length.")
}

/// A product that says no.
#[must_use]
pub fn product_refusal(rejection: &ProductRejection) -> Problem {
    match rejection {
        ProductRejection::NotFound => Problem::new(Code::NotFound),
        // Two product ids with one digest: out of reach, and never worth a wrong answer.
        ProductRejection::WrongId => Problem::new(Code::AlreadyExists),
        ProductRejection::BadName => fault("/name", "invalid_name", "This is not a name."),
        ProductRejection::BadPrice => fault("/price/value", "out_of_range", "A price is above zero."),
        ProductRejection::BadPolicy(policy) => {
            fault(policy_pointer(policy.field), "out_of_range", "This is out of its range.")
        }
        ProductRejection::NotWanted => Problem::new(Code::WrongState),
    }
}

/// The member of a product's body that a fault of its policy is about.
#[must_use]
pub fn policy_pointer(field: PolicyField) -> &'static str {
    match field {
        PolicyField::ValidityDays => "/validity_days",
        PolicyField::ReminderDays => "/policy/reminder_days",
        PolicyField::ReminderHour => "/policy/reminder_hour",
        // The body has a member for each of the two, which are read with their ranges.
        PolicyField::RefundPercent => "/policy",
        PolicyField::QuietHours => "/policy/quiet_hours",
        PolicyField::SendRetry => "/policy/send_retry_seconds",
        PolicyField::NoticeRetry => "/policy/notice_retry_seconds",
        PolicyField::ReportTimeout => "/policy/report_timeout_seconds",
        PolicyField::Overdue => "/policy/overdue_dead_letter_seconds",
    }
}

/// The member of a campaign's terms that a fault is about.
#[must_use]
pub fn terms_pointer(fault: TermsFault) -> &'static str {
    match fault {
        TermsFault::Name => "/name",
        TermsFault::Quantity => "/quantity",
        TermsFault::StartsAt => "/starts_at",
        TermsFault::EndsAt => "/ends_at",
        TermsFault::Discount(DiscountFault::Amount) => "/discount/amount/value",
        TermsFault::Discount(DiscountFault::Percent) => "/discount/percent",
        TermsFault::Discount(DiscountFault::Cap) => "/discount/cap/value",
        TermsFault::ValidDays => "/valid_days",
        TermsFault::Parts => "/parts",
    }
}

/// A campaign that says no.
#[must_use]
pub fn campaign_refusal(rejection: &CampaignRejection) -> Problem {
    match rejection {
        CampaignRejection::NotFound => Problem::new(Code::NotFound),
        // The row that would answer a repeat is gone, the campaign is not: the key has outlived its life.
        CampaignRejection::AlreadyExists => Problem::new(Code::KeyExpired),
        CampaignRejection::BadTerms(terms) => fault(terms_pointer(*terms), "out_of_range", "This is out of its range."),
        CampaignRejection::NotStarted => Problem::new(Code::NotStarted),
        CampaignRejection::SoldOut => Problem::new(Code::SoldOut),
        CampaignRejection::Ended => Problem::new(Code::Ended),
        CampaignRejection::Undecided | CampaignRejection::Busy => Problem::new(Code::Overloaded),
        CampaignRejection::NotWanted => Problem::new(Code::WrongState),
    }
}

/// A coupon that says no.
#[must_use]
pub fn coupon_refusal(rejection: &CouponRejection) -> Problem {
    match rejection {
        CouponRejection::NotFound | CouponRejection::NotOwner => Problem::new(Code::NotFound),
        CouponRejection::AlreadyClaimed { .. } => Problem::new(Code::AlreadyClaimed),
        CouponRejection::AlreadyUsed => Problem::because(Code::AlreadyUsed, "The coupon has been used."),
        CouponRejection::Expired => Problem::new(Code::CouponExpired),
        CouponRejection::TakenBack | CouponRejection::WrongKey | CouponRejection::NotWanted => {
            Problem::new(Code::WrongState)
        }
    }
}

/// An order that says no.
#[must_use]
pub fn order_refusal(rejection: &OrderRejection) -> Problem {
    match rejection {
        OrderRejection::NotFound => Problem::new(Code::NotFound),
        // The row that would answer a repeat is gone, the order is not: the key has outlived its life.
        OrderRejection::AlreadyExists => Problem::new(Code::KeyExpired),
        OrderRejection::NotAcceptable => fault("/items", "not_acceptable", "These items cannot be ordered together."),
        OrderRejection::NotCancellable { status } => {
            Problem::because(Code::WrongState, format!("An order that is {status} cannot be cancelled."))
        }
        OrderRejection::NotDone { status } => {
            Problem::because(Code::WrongState, format!("An order that is {status} is not done yet."))
        }
        OrderRejection::NotADeadLetter => Problem::new(Code::NotADeadLetter),
        OrderRejection::Erased => Problem::new(Code::PersonalDataErased),
        OrderRejection::BadOperator => bad_operator(),
        OrderRejection::NotWanted => Problem::new(Code::WrongState),
    }
}

/// A stock that says no.
#[must_use]
pub fn stock_refusal(rejection: &StockRejection) -> Problem {
    match rejection {
        StockRejection::NotFound => Problem::new(Code::NotFound),
        // Two names with one digest: out of reach, and never worth a wrong answer.
        StockRejection::WrongSku => Problem::new(Code::AlreadyExists),
        StockRejection::BadQuantity => fault("/quantity", "out_of_range", "This is not a quantity."),
        StockRejection::BadPrice => fault("/price/value", "out_of_range", "A price is above zero."),
        StockRejection::BelowHeld { held } => Problem::because(Code::BelowHeld, format!("Orders hold {held} units.")),
        // Asked by orders only, never through the front door.
        StockRejection::OutOfStock { .. } | StockRejection::Hold(_) | StockRejection::NotWanted => {
            Problem::new(Code::WrongState)
        }
    }
}

/// A wallet that says no.
#[must_use]
pub fn wallet_refusal(rejection: &WalletRejection) -> Problem {
    match rejection {
        WalletRejection::NotFound => Problem::new(Code::NotFound),
        WalletRejection::WrongOwner => Problem::new(Code::AlreadyExists),
        WalletRejection::BadAmount => fault("/amount/value", "out_of_range", "This is more than a wallet takes."),
        WalletRejection::ChargesWait => Problem::new(Code::ChargesWait),
        WalletRejection::ChargeUnderWay => Problem::because(Code::WrongState, "A charge is on its way."),
        WalletRejection::NotADeadLetter => Problem::new(Code::NotADeadLetter),
        // Asked by orders only, never through the front door.
        WalletRejection::InsufficientBalance { .. } | WalletRejection::Hold(_) | WalletRejection::NotWanted => {
            Problem::new(Code::WrongState)
        }
    }
}

/// A show that says no.
#[must_use]
pub fn show_refusal(rejection: &ShowRejection) -> Problem {
    match rejection {
        ShowRejection::NotFound => Problem::new(Code::NotFound),
        // The row that would answer a repeat is gone, the show is not: the key has outlived its life.
        ShowRejection::AlreadyExists => Problem::new(Code::KeyExpired),
        ShowRejection::BadTerms(terms) => {
            let (pointer, detail) = (show_body::terms_pointer(*terms), "This is out of its range.".into());
            Problem::invalid(vec![Fault { pointer, code: "out_of_range", detail }])
        }
        ShowRejection::NotWanted => Problem::new(Code::WrongState),
    }
}

/// A queue that says no.
#[must_use]
pub fn queue_refusal(rejection: &QueueRejection) -> Problem {
    match rejection {
        QueueRejection::NotFound => Problem::new(Code::NotFound),
        QueueRejection::Waiting => Problem::new(Code::NotAdmitted),
        QueueRejection::Passed => Problem::new(Code::TicketExpired),
        QueueRejection::Busy => Problem::new(Code::Overloaded),
        QueueRejection::NotWanted => Problem::new(Code::WrongState),
    }
}

/// An area of `section` that says no.
#[must_use]
pub fn area_refusal(rejection: &AreaRejection, section: &str) -> Problem {
    match rejection {
        AreaRejection::SeatTaken(seat) => {
            Problem::because(Code::SeatTaken, format!("{} is held or sold.", seat_name(section, *seat)))
        }
        // An earlier try of this reservation has not come to its end.
        AreaRejection::Conflict => Problem::new(Code::KeyInFlight),
        AreaRejection::Busy => Problem::new(Code::Overloaded),
        AreaRejection::NotFound | AreaRejection::NotHeld | AreaRejection::NotWanted => Problem::new(Code::WrongState),
    }
}

/// A reservation that says no.
#[must_use]
pub fn reservation_refusal(rejection: &ReservationRejection) -> Problem {
    match rejection {
        ReservationRejection::NotFound => Problem::new(Code::NotFound),
        ReservationRejection::NotPayable { status } => {
            Problem::because(Code::WrongState, format!("A reservation that is {status} cannot be paid."))
        }
        ReservationRejection::TimeIsOver => Problem::new(Code::ReservationExpired),
        ReservationRejection::NotCancellable { status } => {
            Problem::because(Code::WrongState, format!("A reservation that is {status} cannot be cancelled."))
        }
        ReservationRejection::NotADeadLetter => Problem::new(Code::NotADeadLetter),
        ReservationRejection::BadOperator => bad_operator(),
        ReservationRejection::Assigned { .. } | ReservationRejection::NotWanted => Problem::new(Code::WrongState),
    }
}

/// The failure of a command, with the business refusal of its kind decoded.
#[must_use]
pub fn problem_of<R: serde::de::DeserializeOwned>(error: &AskError, refusal: fn(&R) -> Problem) -> Problem {
    match error {
        AskError::Rejected { rejection, .. } => match codec::decode::<R>(rejection) {
            Ok(rejection) => refusal(&rejection),
            Err(_) => Problem::new(Code::Internal),
        },
        other => runtime_problem(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::Version;

    #[test]
    fn refusals_keep_the_codes_of_the_contract() {
        let expected = [
            (GiftRejection::TooLateToModify, 409, "too_late_to_modify"),
            (GiftRejection::AlreadyDispatched, 409, "already_dispatched"),
            (GiftRejection::AlreadyUsed, 409, "already_used"),
            (GiftRejection::AlreadyExists, 409, "key_expired"),
            (GiftRejection::Expired, 410, "voucher_expired"),
            (GiftRejection::LinkDead, 410, "link_dead"),
            (GiftRejection::SendAtOutOfRange, 422, "validation_failed"),
        ];
        for (rejection, status, code) in expected {
            let error = AskError::Rejected { rejection: codec::encode(&rejection), version: Version(1) };
            let problem = problem_of(&error, gift_refusal);
            assert_eq!((problem.code.status().as_u16(), problem.code.text()), (status, code));
        }
    }

    #[test]
    fn a_reason_is_refused_at_its_member() {
        let pointer = |problem: Problem| problem.faults[0].pointer.clone();
        assert_eq!(pointer(letter_refusal(&GiftRejection::NotReservable)), "/reason");
        assert_eq!(pointer(gift_refusal(&GiftRejection::NotReservable)), "", "of a reservation");
        assert_eq!(letter_refusal(&GiftRejection::NotADeadLetter).code, Code::NotADeadLetter);
    }

    #[test]
    fn a_rejection_that_does_not_decode_is_our_fault() {
        let error = AskError::Rejected { rejection: vec![255, 255], version: Version(1) };
        assert_eq!(problem_of(&error, gift_refusal).code, Code::Internal);
    }
}
