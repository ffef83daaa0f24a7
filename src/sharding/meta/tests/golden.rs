//! Golden bytes: what is on disk stays readable. A change in `golden.txt` loses every cluster; append instead.

use super::*;

/// Lines that begin with `before` are of earlier builds, and only read.
const GOLDEN: &str = include_str!("golden.txt");

fn every_fact() -> Vec<MetaFact> {
    let (node, token, at) = (TWO, token(1), Timestamp(9));
    let planned = PlannedShard { shard: ShardId(3), wanted: vec![NodeId(1), TWO], fresh: vec![(TWO, PeerId(300))] };
    vec![
        MetaFact::Founded {
            cluster: ClusterId([7; 16]),
            shards: 4,
            rf: 3,
            level: FeatureLevel(1),
            node: facts(1, "z"),
        },
        MetaFact::TokenIssued { token, expires_at: at },
        MetaFact::Joined { id: node, token, node: facts(2, "z") },
        MetaFact::Announced {
            node,
            incarnation: Incarnation(4),
            cluster_address: "a:1".to_owned(),
            api_url: "http://a".to_owned(),
            levels: levels(1, 2),
            build: "b".to_owned(),
        },
        MetaFact::Drained { node, depth: DrainDepth::Leaders },
        MetaFact::Drained { node, depth: DrainDepth::Replicas },
        MetaFact::Undrained { node },
        MetaFact::Removed { node, forced: true },
        MetaFact::Reweighed { node, weight: Weight::USUAL },
        MetaFact::Rezoned { node, zone: "y".to_owned() },
        MetaFact::SettingsChanged(Settings::default()),
        MetaFact::Planned { shards: vec![planned] },
        MetaFact::GroupChanged {
            shard: META_SHARD,
            index: LogIndex(8),
            voters: vec![PeerId(1)],
            learners: vec![PeerId(2)],
        },
        MetaFact::NodeLost { node },
        MetaFact::NodeSeen { node },
        MetaFact::LevelRaised { level: FeatureLevel(2) },
        MetaFact::Begun {
            node,
            start: start(4),
            cluster_address: "a:1".to_owned(),
            api_url: "http://a".to_owned(),
            levels: levels(1, 2),
            build: "b".to_owned(),
        },
    ]
}

fn render() -> String {
    let events = every_fact().into_iter().map(|fact| MetaEvent { at: Timestamp(5), fact });
    let mut lines: Vec<String> =
        events.map(|e| format!("event {} {}", described(&e), hex::encode(codec::encode(&e)))).collect();
    let mut cluster = pair(3);
    cluster.must(MetaCommand::Drain { node: NodeId(3), depth: DrainDepth::Leaders });
    cluster.lose(TWO);
    cluster.must(announce(3, 4));
    lines.push(format!("state cluster {}", hex::encode(codec::encode(&cluster.state))));
    lines.join("\n") + "\n"
}

fn described(event: &MetaEvent) -> String {
    let value = MetaGroup::describe(event);
    assert!(!value.to_string().contains(&hex::encode(token(1).0)), "no token, hashed or not");
    assert_eq!(value["at"], "1970-01-01T00:00:00.005Z");
    value["type"].as_str().unwrap().to_owned()
}

#[test]
fn events_and_states_encode_to_their_golden_bytes() {
    let now = render();
    let golden = || GOLDEN.lines().filter(|line| !line.starts_with("before "));
    assert_eq!(now.lines().count(), golden().count(), "{now}");
    for (line, golden) in now.lines().zip(golden()) {
        assert_eq!(line, golden);
    }
}

#[test]
fn golden_bytes_decode_to_what_they_were() {
    let mut facts = every_fact().into_iter();
    for line in GOLDEN.lines() {
        let parts: Vec<&str> = line.split(' ').collect();
        let bytes = hex::decode(parts[2]).unwrap();
        if parts[0] == "event" {
            assert_eq!(codec::decode::<MetaEvent>(&bytes).unwrap().fact, facts.next().unwrap());
        } else {
            assert!(codec::decode::<MetaState>(&bytes).unwrap().member(TWO).is_some());
        }
    }
    assert!(facts.next().is_none());
}
