//! `GET /v1/me/items`: gifts, coupons, orders and reservations of a user in one listing.

use super::concert::show;
use super::coupons::campaign;
use super::orders::order;
use super::*;
use crate::types::time::Millis;

impl House {
    async fn items(&self, user: &str, query: &str) -> Value {
        let reply = self.get(&format!("/v1/me/items{query}")).user(user).send().await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        reply.json()
    }

    /// One thing more, a second after the one before; its id.
    async fn more(&self, user: &str, number: usize, campaigns: &mut Vec<String>) -> String {
        self.door.pass(Millis::from_secs(1));
        let key = format!("k-{number}");
        let made = match number % 4 {
            3 => {
                let show = self.show(&key, &show(4)).await;
                return self.taken(&show, user, &key, &["A-1"]).await;
            }
            0 => self.reserve(user, &key).await,
            1 => self.place(user, &key, &order("mug", 1, "card")).await.json(),
            _ => {
                let made =
                    self.post("/v1/coupon-campaigns").operator().key(&key).json(&campaign(3)).send().await.json();
                let id = made["id"].as_str().unwrap().to_owned();
                let coupon = self.claim(&id, user, &key).await.json();
                campaigns.push(id);
                coupon
            }
        };
        made["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
    }
}

fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn everything_of_a_user_is_in_one_list_newest_first_and_paged_without_gaps_or_repeats() {
    let house = House::open().await;
    house.shelf("mug", 100, 4_500).await;
    let mut campaigns = Vec::new();
    let mut made = Vec::new();
    for number in 0..13 {
        made.push(house.more("u-1", number, &mut campaigns).await);
        house.more("u-2", number + 100, &mut campaigns).await;
    }
    made.reverse();
    for limit in [1, 2, 3, 5, 100] {
        let (mut told, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = house.items("u-1", &format!("?limit={limit}{cursor}")).await;
            assert!(ids(&page).len() <= limit && !ids(&page).is_empty());
            told.extend(ids(&page));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(told, made, "pages of {limit}");
    }
    assert_eq!(house.items("nobody", "").await, json!({"items": [], "next_cursor": null}));
}

#[tokio::test]
async fn an_item_is_the_resource_as_it_is_now_and_a_reply_is_on_the_list_at_once() {
    let house = House::open().await;
    house.shelf("mug", 100, 4_500).await;
    let gift = house.reserve("u-1", "g").await;
    let item = house.items("u-1", "").await["items"][0].clone();
    assert_eq!((&item["kind"], &item["id"], &item["status"]), (&json!("gift"), &gift["id"], &json!("payment_pending")));
    assert_eq!((&item["item"], &item["created_at"], &item["version"]), (&gift, &gift["created_at"], &json!(1)));
    house.door.settle();
    let item = house.items("u-1", "?kind=gift").await["items"][0].clone();
    assert_eq!((&item["status"], &item["item"]["status"]), (&json!("scheduled"), &json!("scheduled")));
    let mut campaigns = Vec::new();
    for number in 1..4 {
        house.more("u-1", number, &mut campaigns).await;
    }
    let all = house.items("u-1", "").await;
    let kinds: Vec<&str> = all["items"].as_array().unwrap().iter().map(|item| item["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["reservation", "coupon", "order", "gift"]);
    for kind in kinds {
        let only = house.items("u-1", &format!("?kind={kind}")).await;
        assert_eq!(ids(&only).len(), 1, "{only}");
        let id = only["items"][0]["id"].as_str().unwrap();
        let path = format!("/v1/{kind}s/{id}");
        assert_eq!(only["items"][0]["item"], house.get(&path).user("u-1").send().await.json());
    }
}

#[tokio::test]
async fn what_is_anothers_is_told_to_nobody_though_their_names_have_one_digest() {
    let house = House::open().await;
    house.shelf("mug", 100, 4_500).await;
    let mut mine = Vec::new();
    for number in 0..4 {
        mine.push(house.more("u-1", number, &mut Vec::new()).await);
        house.more("u-2", number + 100, &mut Vec::new()).await;
    }
    house.door.collides.store(true, std::sync::atomic::Ordering::SeqCst);
    let mut told = ids(&house.items("u-1", "").await);
    told.reverse();
    assert_eq!(told, mine);
    for (number, list) in ["gifts", "orders", "coupons", "reservations"].into_iter().enumerate() {
        let page = house.get(&format!("/v1/{list}")).user("u-1").send().await.json();
        assert_eq!(ids(&page), mine[number..=number], "{list}");
    }
}

#[tokio::test]
async fn a_strange_query_is_a_fault_and_a_cursor_is_good_for_its_list_and_caller_alone() {
    let house = House::open().await;
    for number in 0..3 {
        house.reserve("u-1", &format!("k-{number}")).await;
    }
    let page = house.items("u-1", "?limit=1").await;
    let cursor = page["next_cursor"].as_str().unwrap();
    for (path, pointer) in [
        ("/v1/me/items?kind=ship".to_owned(), "/kind"),
        ("/v1/me/items?limit=0".to_owned(), "/limit"),
        ("/v1/me/items?status=sent".to_owned(), "/status"),
        ("/v1/me/items?cursor=AAAA".to_owned(), "/cursor"),
        (format!("/v1/gifts?cursor={cursor}"), "/cursor"),
    ] {
        let reply = house.get(&path).user("u-1").send().await;
        assert_eq!((reply.status.as_u16(), reply.pointers()), (422, vec![pointer.to_owned()]), "{path}");
    }
    let stolen = house.get(&format!("/v1/me/items?cursor={cursor}")).user("u-2").send().await;
    assert_eq!(stolen.pointers(), ["/cursor"]);
    assert_eq!(house.get("/v1/me/items").send().await.problem(), (401, "unauthenticated".into()));
    assert_eq!(house.get("/v1/me/items").operator().send().await.problem(), (403, "wrong_role".into()));
}
