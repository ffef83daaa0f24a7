//! Sales of scarce goods: more orders at once than the stocks hold, of two goods each, paid by card or from a wallet that
//! was charged a moment ago; some are cancelled on their way.

use crate::chaos::checkers::history::{OrderEnd, OrderRow, StockRow, WalletRow};
use crate::domain::inventory::{StockCommand, StockState, stock_key};
use crate::domain::kinds;
use crate::domain::order::{Method, NewLine, NewOrder, OrderCommand, OrderState, Personal, Status, StepLimits};
use crate::domain::wallet::{PaymentKey, WalletCommand, WalletState, charge_id, wallet_key};
use crate::simulation::clients::Step;
use crate::simulation::event::{Event, MINUTE, SECOND};
use crate::simulation::world::World;
use crate::types::call::ShipTo;
use crate::types::codec;
use crate::types::contact::Private;
use crate::types::ids::EntityKey;
use crate::types::money::Money;
use xxhash_rust::xxh3::xxh3_64;

const PRICE: Money = Money::krw(2_000);
/// What a wallet is charged with: enough for some orders and not for others.
const CHARGE: Money = Money::krw(8_000);

/// Who shops at a sale, and with what.
#[derive(Clone, Copy, Debug)]
pub struct Shopper {
    sale: u64,
    number: u64,
    method: Method,
}

impl Shopper {
    fn owner(self) -> String {
        format!("b-{}-{}", self.sale, self.number)
    }
}

impl World {
    /// Opens a sale: two stocks, and a crowd that wants more than there is.
    pub(super) fn open_sale(&mut self) {
        if self.closing {
            return;
        }
        let pause = self.dice.between(4 * MINUTE, 9 * MINUTE);
        self.after(pause, Event::Client(Step::Sale));
        self.clients.sales += 1;
        let sale = self.clients.sales;
        for sku in goods(sale) {
            let quantity = u32::try_from(self.dice.between(5, 15)).unwrap_or(5);
            let put = StockCommand::Put { sku: sku.clone(), quantity, price: None };
            self.clients.stocks.insert(sku.clone(), quantity);
            self.request(stock_key(&sku), codec::encode(&put), None);
        }
        for number in 0..12 {
            let method = if self.dice.per_mille(400) { Method::Balance } else { Method::Card };
            let shopper = Shopper { sale, number, method };
            if method == Method::Balance {
                self.charge(shopper.owner());
            }
            let delay = 5 * SECOND + self.dice.below(6 * SECOND);
            self.after(delay, Event::Client(Step::Shop(shopper)));
        }
    }

    /// A wallet gets its money, before there is anything to buy with it.
    pub(super) fn charge(&mut self, owner: String) {
        let wallet = wallet_key(&owner);
        let secret = codec::encode(&PaymentKey(Private(format!("pay-{}", wallet.hex()))));
        let (sealed, new_key) = self.vault.seal_new(wallet, &secret);
        let at = self.true_wall();
        self.providers.bank.open(charge_id(wallet, 1), at);
        self.clients.wallets.push(owner.clone());
        let command = WalletCommand::Charge { owner, amount: CHARGE, sealed };
        self.request(wallet, codec::encode(&command), Some(new_key));
    }

    /// Places an order; some are taken back before they are done.
    pub(super) fn shop(&mut self, shopper: Shopper) {
        let order = EntityKey { kind: kinds::ORDER, id: self.dice.id() };
        let canary = String::from_utf8_lossy(crate::chaos::checkers::inv11_sealed::CANARY).into_owned();
        let by_card = shopper.method == Method::Card;
        let personal = Personal {
            payment_key: by_card.then(|| Private(format!("pay-{canary}-{}", order.hex()))),
            ship_to: Some(Private(ShipTo { name: canary.clone(), phone: None, address: canary })),
        };
        let (sealed, new_key) = self.vault.seal_new(order, &codec::encode(&personal));
        let mut line =
            |sku| NewLine { sku, quantity: 1 + u32::try_from(self.dice.below(2)).unwrap_or(0), price: PRICE };
        let lines = goods(shopper.sale).into_iter().map(&mut line).collect();
        if by_card {
            let at = self.true_wall();
            self.providers.bank.open(kinds::text_id(order), at);
        }
        let new =
            NewOrder { owner: shopper.owner(), lines, method: shopper.method, sealed, limits: StepLimits::default() };
        self.clients.orders.push(order);
        self.request(order, codec::encode(&OrderCommand::Create(Box::new(new))), Some(new_key));
        if self.dice.per_mille(250) {
            let delay = self.dice.below(2 * SECOND);
            self.after(delay, Event::Client(Step::CancelOrder(order)));
        }
    }

    pub(super) fn cancel_order(&mut self, order: EntityKey) {
        self.request(order, codec::encode(&OrderCommand::Cancel), None);
    }

    /// Orders, stocks and wallets as the leader's disk and the providers hold them.
    pub(super) fn gather_orders(&mut self, leader: u64) {
        let node = &self.nodes[&leader];
        let row =
            |key: EntityKey| node.state.state.get(crate::simulation::log_disk::SHARD, &key).expect("rows are readable");
        let (bank, shipper) = (&self.providers.bank, &self.providers.shipper);
        let history = &mut self.recorder.history;
        for order in &self.clients.orders {
            let state: Option<OrderState> = row(*order).map(|row| codec::decode(&row.state).expect("it decodes"));
            let reference = kinds::text_id(*order);
            let (captured, refunded) = bank.of(&reference);
            let Some(state) = state else { continue };
            history.orders.push(OrderRow {
                order: *order,
                owner: xxh3_64(state.owner().as_bytes()),
                end: end_of(&state),
                amount: state.amount().minor,
                by_wallet: state.method() == Method::Balance,
                captured,
                refunded,
                shipped: shipper.ships(&reference),
                lines: state.lines().iter().map(|line| (xxh3_64(line.sku.as_bytes()), line.quantity)).collect(),
            });
        }
        for (sku, put) in &self.clients.stocks {
            let state: Option<StockState> =
                row(stock_key(sku)).map(|row| codec::decode(&row.state).expect("it decodes"));
            if let Some((state, left)) = state.and_then(|state| Some((state.clone(), state.get()?.quantity))) {
                let sku = xxh3_64(sku.as_bytes());
                history.stocks.push(StockRow { sku, put: *put, left, held: state.held() });
            }
        }
        for owner in &self.clients.wallets {
            let key = wallet_key(owner);
            let state: Option<WalletState> = row(key).map(|row| codec::decode(&row.state).expect("it decodes"));
            let Some(state) = state else { continue };
            history.wallets.push(WalletRow {
                owner: xxh3_64(owner.as_bytes()),
                captured: bank.of(&charge_id(key, 1)).0,
                charged: state.charged().minor,
                balance: state.balance().minor,
                held: state.held().minor,
                spent: state.spent().minor,
            });
        }
    }
}

fn goods(sale: u64) -> [String; 2] {
    [format!("tea-{sale}"), format!("cup-{sale}")]
}

fn end_of(state: &OrderState) -> OrderEnd {
    match state.status() {
        Status::Completed => OrderEnd::Completed,
        Status::Failed | Status::Cancelled => OrderEnd::Undone,
        Status::Payment | Status::Inventory | Status::Shipping | Status::Compensating | Status::Stuck => OrderEnd::Open,
    }
}
