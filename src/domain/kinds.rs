//! The registered entity kinds, their persisted tags and the tags of the derived indexes. Never reused.

use super::area::{self, AreaEntity};
use super::batch::{self, BatchEntity};
use super::campaign::{self, CampaignEntity};
use super::coupon::{self, CouponEntity};
use super::entity::Typed;
use super::gift::{self, Gift};
use super::inventory::{self, StockEntity};
use super::order::{self, Order};
use super::product::{self, ProductEntity};
use super::queue::{self, QueueEntity};
use super::reservation::{self, Reservation};
use super::show::{self, ShowEntity};
use super::ticket::{self, TicketEntity};
use super::wallet::{self, Wallet};
use crate::types::codec::CodecError;
use crate::types::effect::IndexTag;
use crate::types::ids::{EntityKey, EntityKind};
use crate::types::kind::{Kind, KindTable};
use crate::types::publication::{Publication, Topic};
use std::sync::Arc;

/// Entity kinds. Tag 0 is the meta group's, in `sharding/meta`.
pub const GIFT: EntityKind = EntityKind(1);
pub const PRODUCT: EntityKind = EntityKind(2);
pub const CAMPAIGN: EntityKind = EntityKind(3);
pub const COUPON: EntityKind = EntityKind(4);
pub const WALLET: EntityKind = EntityKind(5);
pub const INVENTORY: EntityKind = EntityKind(6);
pub const ORDER: EntityKind = EntityKind(7);
pub const SHOW: EntityKind = EntityKind(8);
pub const AREA: EntityKind = EntityKind(9);
pub const QUEUE: EntityKind = EntityKind(10);
pub const TICKET: EntityKind = EntityKind(11);
pub const RESERVATION: EntityKind = EntityKind(12);
pub const BATCH: EntityKind = EntityKind(13);

/// Gifts of an owner: sha256(owner)[..8] ‖ (u64::MAX − created_at ms) ‖ id.
pub const INDEX_OWNER: IndexTag = IndexTag(1);
/// Link hash, unique.
pub const INDEX_LINK: IndexTag = IndexTag(2);
/// Voucher code hash, unique.
pub const INDEX_CODE: IndexTag = IndexTag(3);
/// Gifts, orders and reservations with a dead letter: created_at ms ‖ id.
pub const INDEX_DEAD_LETTER: IndexTag = IndexTag(4);
/// Gifts that hold money: created_at ms ‖ id.
pub const INDEX_MONEY_OPEN: IndexTag = IndexTag(5);
/// Products by name: name ‖ 0 ‖ id.
pub const INDEX_PRODUCT: IndexTag = IndexTag(6);
/// Coupons of an owner: sha256(owner)[..8] ‖ (u64::MAX − issued_at ms) ‖ id.
pub const INDEX_COUPON_OWNER: IndexTag = IndexTag(7);
/// Coupon campaigns, newest first: (u64::MAX − created_at ms) ‖ id.
pub const INDEX_CAMPAIGN: IndexTag = IndexTag(8);
/// Orders of an owner, as [`INDEX_OWNER`].
pub const INDEX_ORDER_OWNER: IndexTag = IndexTag(11);
/// Stocks by name: sku ‖ 0 ‖ id.
pub const INDEX_INVENTORY: IndexTag = IndexTag(12);
/// Shows, newest first: (u64::MAX − created_at ms) ‖ id.
pub const INDEX_SHOW: IndexTag = IndexTag(13);
/// Shows that were sold out, fastest first: ms from the opening to the last seat ‖ id.
pub const INDEX_SHOW_RANKING: IndexTag = IndexTag(14);
/// Reservations of an owner, as [`INDEX_OWNER`].
pub const INDEX_RESERVATION_OWNER: IndexTag = IndexTag(15);
/// Members of open batches: entity ‖ slot, unique.
pub const INDEX_BATCH_MEMBER: IndexTag = IndexTag(16);
/// Wallets that were ever charged: id.
pub const INDEX_WALLET: IndexTag = IndexTag(17);

/// What the registry knows of a kind.
struct Registered {
    tag: EntityKind,
    kind: fn() -> Arc<dyn Kind>,
    topics: &'static [Topic],
    /// The publications of one record's events.
    publications: fn(&[u8]) -> Result<Vec<Publication>, CodecError>,
}

const REGISTERED: [Registered; 13] = [
    Registered { tag: GIFT, kind: typed::<Gift>, topics: &gift::TOPICS, publications: gift::publications },
    Registered {
        tag: PRODUCT,
        kind: typed::<ProductEntity>,
        topics: &product::TOPICS,
        publications: product::publications,
    },
    Registered {
        tag: CAMPAIGN,
        kind: typed::<CampaignEntity>,
        topics: &campaign::TOPICS,
        publications: campaign::publications,
    },
    Registered {
        tag: COUPON,
        kind: typed::<CouponEntity>,
        topics: &coupon::TOPICS,
        publications: coupon::publications,
    },
    Registered { tag: WALLET, kind: typed::<Wallet>, topics: &wallet::TOPICS, publications: wallet::publications },
    Registered {
        tag: INVENTORY,
        kind: typed::<StockEntity>,
        topics: &inventory::TOPICS,
        publications: inventory::publications,
    },
    Registered { tag: ORDER, kind: typed::<Order>, topics: &order::TOPICS, publications: order::publications },
    Registered { tag: SHOW, kind: typed::<ShowEntity>, topics: &[], publications: show::publications },
    Registered { tag: AREA, kind: typed::<AreaEntity>, topics: &area::TOPICS, publications: area::publications },
    Registered { tag: QUEUE, kind: typed::<QueueEntity>, topics: &queue::TOPICS, publications: queue::publications },
    Registered {
        tag: TICKET,
        kind: typed::<TicketEntity>,
        topics: &ticket::TOPICS,
        publications: ticket::publications,
    },
    Registered {
        tag: RESERVATION,
        kind: typed::<Reservation>,
        topics: &reservation::TOPICS,
        publications: reservation::publications,
    },
    Registered { tag: BATCH, kind: typed::<BatchEntity>, topics: &[], publications: batch::publications },
];

fn typed<E: super::entity::Entity>() -> Arc<dyn Kind> {
    Arc::new(Typed::<E>::default())
}

/// The table that the runtime is given.
#[must_use]
pub fn kinds() -> KindTable {
    KindTable::new(REGISTERED.iter().map(|registered| (registered.kind)()).collect())
}

/// `g_5f1c…`, as the front door writes it.
#[must_use]
pub fn text_id(key: EntityKey) -> String {
    match REGISTERED.iter().find(|registered| registered.tag == key.kind) {
        Some(registered) => format!("{}_{}", (registered.kind)().prefix(), key.hex()),
        None => format!("{key:?}"),
    }
}

/// What the events of one record say on the event stream, one publication for each event, in order. Nothing of a kind
/// that is not registered here.
///
/// # Errors
/// [`CodecError`]: the bytes are not events of that kind.
pub fn publications(kind: EntityKind, events: &[u8]) -> Result<Vec<Publication>, CodecError> {
    match REGISTERED.iter().find(|registered| registered.tag == kind) {
        Some(registered) => (registered.publications)(events),
        None => Ok(Vec::new()),
    }
}

/// Every topic of the event stream.
#[must_use]
pub fn topics() -> Vec<Topic> {
    REGISTERED.iter().flat_map(|registered| registered.topics).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_carry_the_prefix_of_their_kind() {
        let table = kinds();
        let gift = EntityKey { kind: GIFT, id: [0x5f; 16] };
        let product = EntityKey { kind: PRODUCT, id: [1; 16] };
        assert_eq!(table.format(gift), format!("g_{}", "5f".repeat(16)));
        assert_eq!(table.parse(&table.format(gift)), Some(gift));
        assert_eq!(table.parse(&table.format(product)), Some(product));
        for kind in REGISTERED.map(|registered| registered.tag) {
            let key = EntityKey { kind, id: [2; 16] };
            assert_eq!(text_id(key), table.format(key));
        }
        assert_eq!(table.parse(&format!("g_{}", "5F".repeat(16))), None);
        assert_eq!(table.parse("x_00"), None);
    }

    #[test]
    fn topics_are_named_once_and_carry_a_version() {
        let mut topics = topics();
        let count = topics.len();
        topics.sort_unstable();
        topics.dedup();
        assert_eq!(topics.len(), count);
        assert!(topics.iter().all(|topic| topic.0.ends_with(".v1")), "{topics:?}");
        assert!(REGISTERED.iter().all(|registered| (registered.kind)().kind() == registered.tag));
        assert_eq!(publications(EntityKind(0), b"anything"), Ok(Vec::new()), "the runtime's own kind is not published");
        assert!(publications(GIFT, b"\xff").is_err());
    }

    #[test]
    fn tags_are_what_is_on_disk() {
        let tags = [INDEX_OWNER, INDEX_LINK, INDEX_CODE, INDEX_DEAD_LETTER, INDEX_MONEY_OPEN, INDEX_PRODUCT];
        assert_eq!(tags.map(|tag| tag.0), [1, 2, 3, 4, 5, 6]);
        let tags = [INDEX_COUPON_OWNER, INDEX_CAMPAIGN, INDEX_ORDER_OWNER, INDEX_INVENTORY];
        assert_eq!(tags.map(|tag| tag.0), [7, 8, 11, 12]);
        let tags = [INDEX_SHOW, INDEX_SHOW_RANKING, INDEX_RESERVATION_OWNER, INDEX_BATCH_MEMBER, INDEX_WALLET];
        assert_eq!(tags.map(|tag| tag.0), [13, 14, 15, 16, 17]);
        assert_eq!(BATCH.0, 13);
        assert_eq!([GIFT.0, PRODUCT.0, CAMPAIGN.0, COUPON.0], [1, 2, 3, 4]);
        assert_eq!([WALLET.0, INVENTORY.0, ORDER.0], [5, 6, 7]);
        assert_eq!([SHOW, AREA, QUEUE, TICKET, RESERVATION].map(|kind| kind.0), [8, 9, 10, 11, 12]);
    }
}
