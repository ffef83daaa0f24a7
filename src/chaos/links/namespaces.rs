//! Level B: each node in a network namespace of its own, joined by a veth pair to a bridge on which the sandbox and the harness
//! are too. It needs root and the `ip` of iproute2, and `tc` with a kernel that has netem for delays and losses.
//!
//! | harm | by |
//! |---|---|
//! | a direction is cut | a blackhole route to the receiver in the sender's namespace: its packets go nowhere, acknowledgements among them |
//! | all that a node sends is late, or lost | netem in its namespace |
//! | all that is sent to it | netem before its end of the pair |
//!
//! All names begin with [`PREFIX`] and the run's first port. What a run made goes with it; what one left behind that was killed
//! goes with the next one of the same port, or by `bojagi chaos clean`.

use super::weather::Conditions;
use super::{Direction, Weather};
use crate::chaos::ChaosError;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::process::Command;

/// Of every namespace, bridge and link of a run.
const PREFIX: &str = "bojagi";
/// The bridge's own address in the network, at which the sandbox listens.
const OUTSIDE: u8 = 254;

/// What a run's parts are called, and where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    port: u16,
}

impl Names {
    /// Of the run whose first port this is.
    #[must_use]
    pub fn of(port: u16) -> Self {
        Self { port }
    }

    fn bridge(self) -> String {
        format!("{PREFIX}{}", self.port)
    }

    /// The namespace of a node, and the outer end of its pair.
    #[must_use]
    pub fn space(self, node: u16) -> String {
        format!("{PREFIX}{}n{node}", self.port)
    }

    fn address(self, last: u8) -> Ipv4Addr {
        let [_, third] = (self.port / 100).to_be_bytes();
        Ipv4Addr::new(10, 213, third, last)
    }

    /// The network that `bojagi dev` is told.
    #[must_use]
    pub fn subnet(self) -> Ipv4Addr {
        self.address(0)
    }

    /// A node's address. Nodes count from 1 to 9, and 10 once one has joined.
    #[must_use]
    pub fn host(self, node: u16) -> Ipv4Addr {
        self.address(u8::try_from(node).unwrap_or(0))
    }

    /// The sandbox's.
    #[must_use]
    pub fn outside(self) -> Ipv4Addr {
        self.address(OUTSIDE)
    }

    /// The run that something of this name belongs to; `None` of what is none of ours.
    fn read(name: &str) -> Option<Self> {
        let rest = name.strip_prefix(PREFIX)?;
        let (port, node) = rest.split_once('n').map_or((rest, None), |(port, node)| (port, Some(node)));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        (digits(port) && node.is_none_or(digits)).then_some(())?;
        port.parse().ok().map(Self::of)
    }
}

/// Runs a tool; what it said.
///
/// # Errors
/// [`ChaosError::Stand`]: it is not installed, or refuses, in its own words.
fn tool(program: &str, words: &[&str]) -> Result<String, ChaosError> {
    let line = || format!("{program} {}", words.join(" "));
    let output = Command::new(program).args(words).output();
    let output = output.map_err(|error| {
        ChaosError::Stand(format!("level b: {} does not run ({error}); Debian has it in iproute2", line()))
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(ChaosError::Stand(format!("level b is not allowed or not possible here: {}: {}", line(), said.trim())))
}

fn ip(line: &str) -> Result<String, ChaosError> {
    tool("ip", &line.split(' ').collect::<Vec<_>>())
}

/// What is in force now.
#[derive(Default)]
struct InForce {
    orders: BTreeMap<String, (Vec<Direction>, Weather)>,
    cut: BTreeSet<Direction>,
    /// Of what a node sends, and of what is sent to it.
    out: BTreeMap<u16, Conditions>,
    into: BTreeMap<u16, Conditions>,
}

/// The namespaces of a run. They are removed when this is dropped.
pub struct Namespaces {
    names: Names,
    nodes: u16,
    in_force: Mutex<InForce>,
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // What cannot be removed is left to `bojagi chaos clean`, which says why.
        let _left = remove(self.names);
    }
}

impl Namespaces {
    /// Makes a namespace for each of nodes 1 to `nodes`, and first removes what an earlier run of the same port left. With
    /// `shaped` links can be slow and lossy, which the kernel may not be able to.
    ///
    /// # Errors
    /// [`ChaosError::Stand`]: why not. Nothing is left of it.
    pub fn make(port: u16, nodes: u16, shaped: bool) -> Result<Self, ChaosError> {
        let names = Names::of(port);
        remove(names)?;
        let made = Self { names, nodes, in_force: Mutex::default() };
        let (bridge, outside) = (names.bridge(), names.outside());
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("addr add {outside}/24 dev {bridge}"))?;
        ip(&format!("link set {bridge} up"))?;
        for node in 1..=nodes {
            let (space, host) = (names.space(node), names.host(node));
            ip(&format!("netns add {space}"))?;
            ip(&format!("link add {space} type veth peer name eth0 netns {space}"))?;
            ip(&format!("link set {space} master {bridge} up"))?;
            ip(&format!("-n {space} addr add {host}/24 dev eth0"))?;
            ip(&format!("-n {space} link set eth0 up"))?;
            ip(&format!("-n {space} link set lo up"))?;
        }
        if shaped {
            let end = ["-n", &names.space(1), "qdisc"];
            tool("tc", &[&end[..], &["add", "dev", "lo", "root", "netem", "delay", "1ms"]].concat())?;
            tool("tc", &[&end[..], &["del", "dev", "lo", "root"]].concat())?;
        }
        Ok(made)
    }

    /// As [`super::Links::order`].
    ///
    /// # Errors
    /// [`ChaosError::Stand`]: weather other than a cut over less than all that a node sends or all that is sent to it, or a
    /// tool refuses.
    pub fn order(&self, name: &str, directions: &[Direction], weather: Weather) -> Result<(), ChaosError> {
        let mut in_force = self.in_force.lock();
        in_force.orders.insert(name.to_owned(), (directions.to_vec(), weather));
        self.apply(&mut in_force)
    }

    /// As [`super::Links::lift`].
    ///
    /// # Errors
    /// [`ChaosError::Stand`]: a tool refuses.
    pub fn lift(&self, name: &str) -> Result<Option<(Vec<Direction>, Weather)>, ChaosError> {
        let mut in_force = self.in_force.lock();
        let lifted = in_force.orders.remove(name);
        self.apply(&mut in_force)?;
        Ok(lifted)
    }

    fn apply(&self, in_force: &mut InForce) -> Result<(), ChaosError> {
        let cut = cuts(&in_force.orders);
        for (what, Direction { from, to }) in changes(&in_force.cut, &cut) {
            let (space, host) = (self.names.space(from), self.names.host(to));
            ip(&format!("-n {space} route {what} blackhole {host}/32"))?;
        }
        in_force.cut = cut;
        let (out, into) = shapes(&in_force.orders, self.nodes)?;
        for node in 1..=self.nodes {
            let space = self.names.space(node);
            shape(&["-n", &space], "eth0", in_force.out.get(&node), out.get(&node))?;
            shape(&[], &space, in_force.into.get(&node), into.get(&node))?;
        }
        (in_force.out, in_force.into) = (out, into);
        Ok(())
    }
}

fn cuts(orders: &BTreeMap<String, (Vec<Direction>, Weather)>) -> BTreeSet<Direction> {
    orders.values().filter(|(_, weather)| *weather == Weather::Cut).flat_map(|(over, _)| over.iter().copied()).collect()
}

/// Routes to add and to delete, on the way from one set of cuts to another.
fn changes(before: &BTreeSet<Direction>, after: &BTreeSet<Direction>) -> Vec<(&'static str, Direction)> {
    let lifted = before.difference(after).map(|direction| ("del", *direction));
    lifted.chain(after.difference(before).map(|direction| ("add", *direction))).collect()
}

type Shapes = BTreeMap<u16, Conditions>;

/// What delays and losses make of what each node sends, and of what is sent to it. A direction with both ends under one order
/// is shaped once, where it is sent.
fn shapes(orders: &BTreeMap<String, (Vec<Direction>, Weather)>, nodes: u16) -> Result<(Shapes, Shapes), ChaosError> {
    let (mut out, mut into): (BTreeMap<u16, Vec<Weather>>, BTreeMap<u16, Vec<Weather>>) = Default::default();
    for (directions, weather) in orders.values().filter(|(_, weather)| *weather != Weather::Cut) {
        let mut rest: BTreeSet<Direction> = directions.iter().copied().collect();
        let side = |node: u16, sends: bool| -> BTreeSet<Direction> {
            let others = (1..=nodes).filter(|other| *other != node);
            others
                .map(|other| Direction { from: node, to: other })
                .map(|one| if sends { one } else { one.back() })
                .collect()
        };
        for (node, sends) in (1..=nodes).flat_map(|node| [(node, true), (node, false)]) {
            let whole = side(node, sends);
            if whole.is_subset(&rest) {
                rest.retain(|direction| !whole.contains(direction));
                let shaped = if sends { &mut out } else { &mut into };
                shaped.entry(node).or_default().push(*weather);
            }
        }
        if let Some(Direction { from, to }) = rest.first() {
            let why = format!(
                "level b: {weather} of {from} to {to} alone is not possible, only of all that a node sends or gets"
            );
            return Err(ChaosError::Stand(why));
        }
    }
    let under = |all: BTreeMap<u16, Vec<Weather>>| -> Shapes {
        all.into_iter().map(|(node, weathers)| (node, Conditions::under(weathers.into_iter()))).collect()
    };
    Ok((under(out), under(into)))
}

/// `space`: words that name the namespace of the device, none for that of this process.
fn shape(
    space: &[&str],
    device: &str,
    before: Option<&Conditions>,
    after: Option<&Conditions>,
) -> Result<(), ChaosError> {
    if before == after {
        return Ok(());
    }
    let netem = after.map(|conditions| conditions.netem());
    let words: Vec<&str> = match &netem {
        None => vec!["qdisc", "del", "dev", device, "root"],
        Some(netem) => {
            let place = ["qdisc", "replace", "dev", device, "root", "netem"];
            place.into_iter().chain(netem.iter().map(String::as_str)).collect()
        }
    };
    tool("tc", &[space, &words[..]].concat()).map(drop)
}

/// First words of each line.
fn firsts(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.split_whitespace().next())
}

/// What is called so, and the run that it is of.
type Found = Vec<(String, Names)>;

/// Namespaces of runs, and their links in the namespace of this process.
fn found() -> Result<(Found, Found), ChaosError> {
    let ours = |name: &str| Names::read(name).map(|names| (name.to_owned(), names));
    let spaces = firsts(&ip("netns list")?).filter_map(ours).collect();
    // `7: bojagi18000n1@if2: <...>`, or `bojagi18000n1@if2  UP ...` in brief.
    let brief = ip("-br link show")?;
    let links = firsts(&brief).map(|name| name.split('@').next().unwrap_or(name));
    Ok((spaces, links.filter_map(ours).collect()))
}

/// Removes all of one run; what was removed.
fn remove(of: Names) -> Result<Vec<String>, ChaosError> {
    let (spaces, links) = found()?;
    let mut removed = Vec::new();
    for (name, _) in spaces.into_iter().filter(|(_, names)| *names == of) {
        ip(&format!("netns del {name}"))?;
        removed.push(format!("namespace {name}"));
    }
    for (name, _) in links.into_iter().filter(|(_, names)| *names == of) {
        // The pairs go with their namespaces, in their own time.
        let gone = ip(&format!("link del {name}"));
        if let Err(error) = gone {
            if ip(&format!("link show {name}")).is_ok() {
                return Err(error);
            }
        } else {
            removed.push(format!("link {name}"));
        }
    }
    Ok(removed)
}

/// Removes what runs of level B left behind that were killed; one line for each thing, and for each run that is left
/// because it goes on.
///
/// # Errors
/// [`ChaosError::Stand`]: it is not allowed, or `ip` is not there.
pub fn clean() -> Result<Vec<String>, ChaosError> {
    let (spaces, links) = found()?;
    let runs: BTreeSet<u16> = spaces.iter().chain(&links).map(|(_, names)| names.port).collect();
    let mut said = Vec::new();
    for port in runs {
        let mut pids = String::new();
        for (name, _) in spaces.iter().filter(|(_, names)| names.port == port) {
            pids += &ip(&format!("netns pids {name}"))?;
        }
        if pids.trim().is_empty() {
            said.extend(remove(Names::of(port))?.into_iter().map(|what| format!("removed {what}")));
        } else {
            let pids = pids.split_whitespace().collect::<Vec<_>>().join(", ");
            said.push(format!("left the run of port {port}: processes {pids} are in its namespaces"));
        }
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_whose_they_are_and_fit() {
        let names = Names::of(18_000);
        assert_eq!((names.bridge(), names.space(3)), ("bojagi18000".to_owned(), "bojagi18000n3".to_owned()));
        assert!(Names::of(65_535).space(10).len() <= 15, "the kernel's longest name of a link");
        assert_eq!(
            [names.host(1), names.outside(), names.subnet()].map(|at| at.to_string()),
            ["10.213.180.1", "10.213.180.254", "10.213.180.0"]
        );
        for name in [names.bridge(), names.space(3)] {
            assert_eq!(Names::read(&name), Some(names));
        }
        for strange in
            ["eth0", "bojagi", "bojagin1", "bojagi18000n", "bojagi-x", "bojagi18000n1x", "bojagi99999", "docker0"]
        {
            assert_eq!(Names::read(strange), None, "{strange}");
        }
    }

    fn between(from: u16, to: u16) -> Direction {
        Direction { from, to }
    }

    fn orders(all: &[(&[Direction], Weather)]) -> BTreeMap<String, (Vec<Direction>, Weather)> {
        let named =
            all.iter().enumerate().map(|(place, (over, weather))| (place.to_string(), (over.to_vec(), *weather)));
        named.collect()
    }

    #[test]
    fn a_direction_is_cut_once_and_mended_when_no_order_holds() {
        let (one, two) = (between(1, 2), between(2, 1));
        let both = cuts(&orders(&[(&[one], Weather::Cut), (&[one, two], Weather::Cut)]));
        assert_eq!(changes(&BTreeSet::new(), &both), [("add", one), ("add", two)]);
        let left = cuts(&orders(&[(&[one], Weather::Cut)]));
        assert_eq!(changes(&both, &left), [("del", two)]);
        assert_eq!(changes(&left, &BTreeSet::new()), [("del", one)]);
    }

    #[test]
    fn delays_are_of_all_that_a_node_sends_or_gets() {
        let slow = Weather::Delay { ms: 50, jitter_ms: 10 };
        let around = [between(1, 2), between(1, 3), between(2, 1), between(3, 1)];
        let (out, into) = shapes(&orders(&[(&around, slow)]), 3).unwrap();
        assert_eq!((out.keys().collect::<Vec<_>>(), into.keys().collect::<Vec<_>>()), (vec![&1], vec![&1]));
        assert_eq!(out[&1].netem(), ["delay", "55ms", "5ms"]);
        let lossy = Weather::Loss { per_mille: 15 };
        let (out, _) = shapes(&orders(&[(&around, slow), (&around[..2], lossy)]), 3).unwrap();
        assert_eq!(out[&1].netem(), ["delay", "55ms", "5ms", "loss", "1.5%"]);
        let (out, into) = shapes(&orders(&[(&around[..3], Weather::Cut)]), 3).unwrap();
        assert!(out.is_empty() && into.is_empty(), "a cut is none");
        let error = shapes(&orders(&[(&around[..1], slow)]), 3).unwrap_err();
        assert!(error.to_string().contains("1 to 2 alone"), "{error}");
    }
}
