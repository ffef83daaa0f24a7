//! What a forecast says: what is due in each minute by channel, each channel's quota, and how much of it will be late.
//!
//! A send is late when it leaves more than a minute after its instant. All of a minute are taken to be due at its beginning,
//! which is how people choose their instants; then those are late that are still waiting when the minute is over. Sends of a
//! channel leave in due order, at its quota, and notices are not counted: they never delay a send. A quota is what the
//! settings say: a provider that is away, or slower than its quota, makes more of them late.
//!
//! Where all nodes draw on one quota their sends wait in one queue, else each node's in its own.

use crate::types::effect::Channel;
use crate::types::ids::{NodeId, ShardId};
use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

const MINUTE_MS: i64 = 60_000;
const PER_MINUTE: u64 = 60;

/// Minutes since 1970.
pub fn minute_of(instant: Timestamp) -> i64 {
    instant.0.div_euclid(MINUTE_MS)
}

/// Where wants of an instant are counted by a look of `from`: minutes after the one before it, which stands for all before.
pub fn place_of(due: Timestamp, from: Timestamp) -> u16 {
    u16::try_from((minute_of(due) - minute_of(from) + 1).max(0)).unwrap_or(u16::MAX)
}

/// What one node counted, on the shards that it leads. On the wire between builds: append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub from: Timestamp,
    pub shards: Vec<ShardId>,
    /// Of channels that have a provider there.
    pub quotas: BTreeMap<Channel, Quota>,
    /// By [`place_of`]; the first holds all that is overdue.
    pub minutes: BTreeMap<u16, Counts>,
}

/// What a channel may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    pub per_s: u32,
    /// Of all nodes together.
    pub shared: bool,
}

/// Wants that are due in one minute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All, timers and payments among them.
    pub wants: u64,
    pub sends: BTreeMap<Channel, u64>,
    pub notices: BTreeMap<Channel, u64>,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.wants += other.wants;
        for (all, some) in [(&mut self.sends, &other.sends), (&mut self.notices, &other.notices)] {
            for (channel, count) in some {
                *all.entry(*channel).or_insert(0) += count;
            }
        }
    }
}

impl Part {
    /// The beginning of it.
    #[must_use]
    pub fn within(&self, hours: u16) -> Self {
        let last = place_of(self.from + Millis::from_hours(i64::from(hours)), self.from);
        let minutes = self.minutes.range(..=last).map(|(place, counts)| (*place, counts.clone())).collect();
        Self { from: self.from, shards: self.shards.clone(), quotas: self.quotas.clone(), minutes }
    }

    fn by_minute(&self) -> impl Iterator<Item = (i64, &Counts)> {
        let first = minute_of(self.from) - 1;
        self.minutes.iter().map(move |(place, counts)| (first + i64::from(*place), counts))
    }

    fn sends_of(&self, channel: Channel) -> impl Iterator<Item = (i64, u64)> {
        self.by_minute().filter_map(move |(minute, counts)| Some((minute, *counts.sends.get(&channel)?)))
    }
}

/// What all nodes that answered counted. `shards`: how many there are.
#[must_use]
pub fn view(parts: &BTreeMap<NodeId, Part>, shards: u16, hours: u16) -> Value {
    let Some(from) = parts.values().map(|part| part.from).min() else { return Value::Null };
    let until = from + Millis::from_hours(i64::from(hours));
    let mut minutes: BTreeMap<i64, Counts> = BTreeMap::new();
    for (minute, counts) in parts.values().flat_map(Part::by_minute) {
        minutes.entry(minute).or_default().add(counts);
    }
    let channels: Vec<Outlook> = Channel::ALL.into_iter().map(|channel| Outlook::of(channel, parts, from)).collect();
    let now = minute_of(from);
    let mut overdue = json!({ "due": 0, "late": 0, "channels": {} });
    let (mut rows, mut late_minutes, mut late) = (Vec::new(), Vec::new(), 0);
    for (minute, counts) in minutes {
        let mut row = row(minute, &counts, &channels);
        late += row["late"].as_u64().unwrap_or(0);
        if minute < now {
            overdue = row;
            continue;
        }
        let at = Timestamp(minute * MINUTE_MS).to_rfc3339();
        if row["late"] != 0 {
            late_minutes.push(at.clone());
        }
        row["minute"] = json!(at);
        rows.push(row);
    }
    let quotas: Map<String, Value> = channels.iter().map(|outlook| (outlook.name(), outlook.quota_view())).collect();
    let (missing, twice) = led_by_none_or_two(parts, shards);
    json!({
        "from": from.to_rfc3339(), "until": until.to_rfc3339(),
        "nodes": parts.keys().map(|node| node.0).collect::<Vec<_>>(),
        "shards_missing": missing, "shards_twice": twice,
        "quotas": quotas, "late": late, "late_minutes": late_minutes, "overdue": overdue, "minutes": rows,
    })
}

fn row(minute: i64, counts: &Counts, outlooks: &[Outlook]) -> Value {
    let (mut channels, mut all_late) = (Map::new(), 0);
    for outlook in outlooks {
        let of = |counts: &BTreeMap<Channel, u64>| counts.get(&outlook.channel).copied().unwrap_or(0);
        let (sends, notices) = (of(&counts.sends), of(&counts.notices));
        if sends + notices > 0 {
            let late = outlook.late.get(&minute).copied().unwrap_or(0);
            all_late += late;
            let view = json!({ "sends": sends, "notices": notices, "quota": outlook.per_minute, "late": late });
            channels.insert(outlook.name(), view);
        }
    }
    json!({ "due": counts.wants, "late": all_late, "channels": channels })
}

/// Shards whose leader did not answer, and those that two nodes counted while their leader changed.
fn led_by_none_or_two(parts: &BTreeMap<NodeId, Part>, shards: u16) -> (Vec<u16>, Vec<u16>) {
    let (mut once, mut twice) = (BTreeSet::new(), Vec::new());
    for shard in parts.values().flat_map(|part| &part.shards) {
        if !once.insert(shard.0) {
            twice.push(shard.0);
        }
    }
    ((0..shards).filter(|shard| !once.contains(shard)).collect(), twice)
}

/// What is to be expected of one channel.
struct Outlook {
    channel: Channel,
    /// Sends a minute of all nodes together; `None` where no node has a provider, which refuses what comes at once.
    per_minute: Option<u64>,
    shared: bool,
    /// Sends that will be late, by the minute in which they are due.
    late: BTreeMap<i64, u64>,
}

impl Outlook {
    fn of(channel: Channel, parts: &BTreeMap<NodeId, Part>, from: Timestamp) -> Self {
        let served = || parts.values().filter_map(|part| Some((part, part.quotas.get(&channel)?)));
        let per_minute = |quota: &Quota| u64::from(quota.per_s) * PER_MINUTE;
        let shared = served().any(|(_, quota)| quota.shared);
        if shared {
            let quota = served().map(|(_, quota)| per_minute(quota)).max();
            let mut sends: BTreeMap<i64, u64> = BTreeMap::new();
            for (minute, due) in served().flat_map(|(part, _)| part.sends_of(channel)) {
                *sends.entry(minute).or_insert(0) += due;
            }
            let late = late(sends.into_iter(), quota.unwrap_or(0), minute_of(from));
            return Self { channel, per_minute: quota, shared, late };
        }
        let (mut sum, mut all_late) = (None, BTreeMap::new());
        for (part, quota) in served() {
            *sum.get_or_insert(0) += per_minute(quota);
            for (minute, count) in late(part.sends_of(channel), per_minute(quota), minute_of(part.from)) {
                *all_late.entry(minute).or_insert(0) += count;
            }
        }
        Self { channel, per_minute: sum, shared, late: all_late }
    }

    fn name(&self) -> String {
        self.channel.name().to_owned()
    }

    fn quota_view(&self) -> Value {
        json!({ "per_minute": self.per_minute, "shared": self.shared })
    }
}

/// Sends that will be late of those due in each minute, which come in order. What was due before the minute `from` is.
fn late(sends: impl Iterator<Item = (i64, u64)>, per_minute: u64, from: i64) -> BTreeMap<i64, u64> {
    let mut late = BTreeMap::new();
    // What waits at the beginning of `next`.
    let (mut waiting, mut next) = (0u64, from);
    for (minute, due) in sends {
        let mut of_these = due;
        if minute < from {
            waiting += due;
        } else {
            let passed = u64::try_from(minute - next).unwrap_or(0);
            waiting = waiting.saturating_sub(per_minute.saturating_mul(passed)).saturating_add(due);
            waiting = waiting.saturating_sub(per_minute);
            of_these = due.min(waiting);
            next = minute + 1;
        }
        if of_these > 0 {
            late.insert(minute, of_these);
        }
    }
    late
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: Timestamp = Timestamp(1_800_000_030_000);

    /// One node that leads some shards: its SMS quota, and sends by minutes from now; -1 is overdue.
    fn part(shards: &[u16], sms: Option<Quota>, sends: &[(i64, u64)]) -> Part {
        let quotas = sms.map(|quota| (Channel::Sms, quota)).into_iter().collect();
        let shards = shards.iter().map(|shard| ShardId(*shard)).collect();
        let mut part = Part { from: FROM, shards, quotas, minutes: BTreeMap::new() };
        for (minute, count) in sends {
            let counts = Counts { wants: *count, sends: [(Channel::Sms, *count)].into(), ..Counts::default() };
            part.minutes.insert(place_of(FROM + Millis::from_mins(*minute), FROM), counts);
        }
        part
    }

    fn own(per_s: u32) -> Option<Quota> {
        Some(Quota { per_s, shared: false })
    }

    fn shared(per_s: u32) -> Option<Quota> {
        Some(Quota { per_s, shared: true })
    }

    fn of(parts: &[Part]) -> Value {
        let numbered = (1..).map(NodeId).zip(parts.iter().cloned());
        view(&numbered.collect(), 4, 48)
    }

    /// Of each minute: what is due and what will be late of it.
    fn rows(view: &Value) -> Vec<(u64, u64)> {
        let rows = view["minutes"].as_array().unwrap().iter();
        rows.map(|row| (row["due"].as_u64().unwrap(), row["late"].as_u64().unwrap())).collect()
    }

    #[test]
    fn what_a_minute_cannot_hold_is_late_and_takes_the_room_of_those_behind_it() {
        let view = of(&[part(&[0, 1, 2, 3], own(1), &[(5, 60), (10, 150), (11, 20), (12, 20), (20, 61)])]);
        assert_eq!(rows(&view), [(60, 0), (150, 90), (20, 20), (20, 10), (61, 1)]);
        let at = |minutes| Timestamp((minute_of(FROM) + minutes) * MINUTE_MS).to_rfc3339();
        assert_eq!(view["late_minutes"], json!([at(10), at(11), at(12), at(20)]));
        assert_eq!((view["late"].clone(), view["overdue"]["due"].clone()), (json!(121), json!(0)));
        let row = &view["minutes"][1];
        assert_eq!(row["minute"], at(10));
        assert_eq!(row["channels"], json!({ "sms": { "sends": 150, "notices": 0, "quota": 60, "late": 90 } }));
        assert_eq!(view["quotas"]["sms"], json!({ "per_minute": 60, "shared": false }));
    }

    #[test]
    fn what_is_overdue_is_late_and_goes_first() {
        let view = of(&[part(&[0], own(1), &[(-1, 70), (0, 60), (1, 60)])]);
        assert_eq!(rows(&view), [(60, 60), (60, 60)], "70 left over, then 70 again");
        assert_eq!((view["overdue"]["due"].clone(), view["overdue"]["late"].clone()), (json!(70), json!(70)));
        assert_eq!(view["overdue"]["channels"]["sms"]["sends"], 70);
    }

    #[test]
    fn a_quota_of_all_is_one_queue_and_quotas_of_each_are_each_nodes_own() {
        let parts = |quota| [part(&[0, 1], quota, &[(5, 100)]), part(&[2, 3], quota, &[(5, 20)])];
        let (one, each) = (of(&parts(shared(2))), of(&parts(own(1))));
        assert_eq!(rows(&one), [(120, 0)], "120 a minute for both");
        assert_eq!(rows(&each), [(120, 40)], "the first has 60 of its own");
        assert_eq!(one["quotas"]["sms"], json!({ "per_minute": 120, "shared": true }));
        assert_eq!(each["quotas"]["sms"], json!({ "per_minute": 120, "shared": false }));
        assert_eq!((each["nodes"].clone(), each["shards_missing"].clone()), (json!([1, 2]), json!([])));
    }

    #[test]
    fn a_channel_without_a_provider_has_no_quota_and_shards_that_nobody_counted_are_named() {
        let view = of(&[part(&[0, 2], None, &[(5, 1_000)]), part(&[2], None, &[])]);
        assert_eq!(view["minutes"][0]["channels"]["sms"]["quota"], Value::Null);
        assert_eq!((view["late"].clone(), view["quotas"]["sms"]["per_minute"].clone()), (json!(0), Value::Null));
        assert_eq!((view["shards_missing"].clone(), view["shards_twice"].clone()), (json!([1, 3]), json!([2])));
    }

    #[test]
    fn a_shorter_forecast_is_the_beginning_of_a_longer_one() {
        let long = part(&[0], own(1), &[(-5, 1), (0, 3), (60, 1), (61, 2), (120, 5)]);
        let due = |part: Part| rows(&of(&[part])).into_iter().map(|(due, _)| due).collect::<Vec<_>>();
        assert_eq!((due(long.within(1)), due(long.within(2))), (vec![3, 1], vec![3, 1, 2, 5]));
        assert_eq!(long.within(1).minutes[&0].wants, 1, "what is overdue stays in it");
    }
}
