//! The body of an order, checked member by member, all faults at once. What depends on the stocks is not judged here: a
//! repeat under the same key must find its first reply even after that has changed.

use crate::api::commerce::read_payment_key;
use crate::api::extract::JsonBody;
use crate::api::gift_body::{product_id_is_sound, read_sender};
use crate::api::json::{self, Faults, Object};
use crate::api::problem::{Fault, Problem};
use crate::domain::gift::SenderContact;
use crate::domain::order::{LINES_MAX, Method, Personal, QUANTITY_MAX};
use crate::types::call::ShipTo;
use crate::types::contact::{PersonName, Phone, Private};
use crate::types::text::TextRule;
use std::collections::BTreeSet;

/// A postal address.
const ADDRESS: TextRule = TextRule { graphemes_max: 300, bytes_max: 1_024, multi_line: true, may_be_empty: false };

/// An order as it was asked for, beside its items.
pub struct NewOrderBody {
    pub method: Method,
    pub personal: Personal,
    /// How the buyer is reached.
    pub buyer: SenderContact,
}

/// An order as far as its body reads: what must be there and is `None` is among the body's faults.
pub struct OrderDraft {
    pub items: Vec<ItemDraft>,
    payment: Option<(Method, Option<String>)>,
    ship_to: Option<Private<ShipTo>>,
    pub coupon_id: Option<String>,
    buyer: SenderContact,
}

/// Units of one stock-keeping unit, as far as they read.
pub struct ItemDraft {
    pub sku: Option<String>,
    pub quantity: Option<u32>,
}

impl OrderDraft {
    /// The order without its items, when its body has no fault.
    #[must_use]
    pub fn complete(self) -> Option<NewOrderBody> {
        let (method, payment_key) = self.payment?;
        let personal = Personal { payment_key: payment_key.map(Private), ship_to: self.ship_to };
        Some(NewOrderBody { method, personal, buyer: self.buyer })
    }
}

/// Reads `POST /v1/orders`, its canonical form, and its faults.
///
/// # Errors
/// [`crate::api::problem::Code::MalformedJson`].
pub fn read_order(body: &JsonBody) -> Result<(OrderDraft, Vec<u8>, Vec<Fault>), Problem> {
    let faults = Faults::default();
    let value = body.value(&faults)?;
    let canonical = json::canonical(&value);
    let mut root = Object::root(value, &faults);
    let items = read_items(&mut root);
    let payment = root.required_object("payment").and_then(read_payment);
    let ship_to = root.object("shipping").and_then(read_ship_to).map(Private);
    let coupon_id = root.text("coupon_id");
    let buyer = root.object("buyer").map(read_sender).unwrap_or_default();
    root.done();
    Ok((OrderDraft { items, payment, ship_to, coupon_id, buyer }, canonical, faults.into_found()))
}

fn read_items(root: &mut Object<'_>) -> Vec<ItemDraft> {
    let objects = root.required_objects("items", LINES_MAX).unwrap_or_default();
    let mut seen = BTreeSet::new();
    let mut items = Vec::new();
    for mut object in objects {
        let sku = object.required_text("sku").filter(|sku| {
            let sound = product_id_is_sound(sku);
            if !sound {
                object.fault("sku", "unknown_sku", "There is no stock of this name.");
            } else if !seen.insert(sku.clone()) {
                object.fault("sku", "duplicate", "This is named twice: add the quantities up.");
            }
            sound
        });
        let quantity = object.required_integer("quantity").and_then(|number| {
            let sound = u32::try_from(number).ok().filter(|quantity| (1..=QUANTITY_MAX).contains(quantity));
            if sound.is_none() {
                object.fault("quantity", "out_of_range", format!("1 to {QUANTITY_MAX}."));
            }
            sound
        });
        object.done();
        items.push(ItemDraft { sku, quantity });
    }
    items
}

/// `{"method", "payment_key"}`: the key for a card only.
pub fn read_payment(mut object: Object<'_>) -> Option<(Method, Option<String>)> {
    let method = object.required_text("method").and_then(|name| {
        let method = Method::parse(&name);
        if method.is_none() {
            object.fault("method", "unknown_value", "card or balance.");
        }
        method
    });
    let key = match method {
        Some(Method::Card) => read_payment_key(&mut object).map(Some),
        // The wallet needs no key; one that is given is not looked at.
        Some(Method::Balance) | None => {
            let _unused = object.take("payment_key");
            Some(None)
        }
    };
    object.done();
    Some((method?, key?))
}

fn read_ship_to(mut object: Object<'_>) -> Option<ShipTo> {
    let name = object.required_text("name").and_then(|text| match PersonName::parse(&text) {
        Ok(name) => Some(name.into_exposed()),
        Err(fault) => {
            object.fault("name", fault.code(), format!("The name {fault}."));
            None
        }
    });
    let phone = object.text("phone").and_then(|text| match Phone::parse(&text) {
        Ok(phone) => Some(phone.into_exposed()),
        Err(fault) => {
            object.fault("phone", fault.code(), format!("This {fault}."));
            None
        }
    });
    let address = object.required_text("address").and_then(|text| match ADDRESS.check(&text) {
        Ok(address) => Some(address),
        Err(fault) => {
            object.fault("address", fault.code(), format!("The address {fault}."));
            None
        }
    });
    object.done();
    Some(ShipTo { name: name?, phone, address: address? })
}
