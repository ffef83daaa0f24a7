//! The rules of `docs/STYLE.md` that a machine can hold: import arrows, lengths, headers, words, places.
//!
//! A new arrow between modules is an edit of [`ARROWS`], and so gets looked at.

#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/tree.rs"]
mod tree;

use rules::Fault;
use source::Token;
use tree::SourceFile;

/// Which top-level module of `src/` may name which. `types` may be named by all and names none.
const ARROWS: [(&str, &[&str]); 19] = [
    ("main", &["cli", "app", "config", "chaos", "load", "sandbox", "simulation", "types"]),
    ("cli", &["chaos", "load", "simulation", "types"]),
    (
        "app",
        &[
            "audit",
            "cli",
            "config",
            "load",
            "sandbox",
            "api",
            "actors",
            "replication",
            "persistence",
            "gateways",
            "providers",
            "stream",
            "sharding",
            "domain",
            "types",
        ],
    ),
    ("config", &["gateways", "providers", "types"]),
    ("api", &["actors", "domain", "types"]),
    ("actors", &["replication", "persistence", "gateways", "providers", "stream", "sharding", "types"]),
    ("replication", &["persistence", "types"]),
    ("gateways", &["providers", "types"]),
    ("persistence", &["types"]),
    ("providers", &["types"]),
    ("stream", &["types"]),
    ("sharding", &["types"]),
    ("domain", &["types"]),
    ("sandbox", &["types"]),
    ("load", &["types"]),
    ("chaos", &["load", "sharding", "types"]),
    ("audit", &["chaos", "domain", "gateways", "load", "persistence", "types"]),
    (
        "simulation",
        &[
            "actors",
            "audit",
            "chaos",
            "domain",
            "gateways",
            "persistence",
            "providers",
            "replication",
            "sharding",
            "types",
        ],
    ),
    ("types", &[]),
];

/// Arrows of single files beyond their module's: the entity actor may name the machine that it hosts.
const FILE_ARROWS: [(&str, &str); 4] = [
    ("src/actors/driver/tests.rs", "domain"),
    ("src/actors/node_tests.rs", "domain"),
    ("src/actors/cluster_tests.rs", "domain"),
    ("src/actors/growth_tests.rs", "domain"),
];

/// Foreign crates with one home, and where that is. Nothing below the front door knows HTTP's server side; nothing but
/// the adapters knows the disk.
const CRATE_HOMES: [(&str, &[&str]); 10] = [
    ("sled", &["src/persistence/"]),
    ("bincode", &["src/types/codec.rs"]),
    ("raft", &["src/replication/"]),
    ("protobuf", &["src/replication/"]),
    ("axum", &["src/api/", "src/app", "src/sandbox/"]),
    ("utoipa", &["src/api/"]),
    ("lettre", &["src/providers/"]),
    ("reqwest", &["src/providers/", "src/app"]),
    ("chrono_tz", &["src/domain/"]),
    ("redis", &["src/stream/"]),
];

/// What the pure modules may not name: no async, no I/O, no clock, no random numbers.
const PURE: [&str; 2] = ["src/domain/", "src/sharding/"];
const IMPURE_CRATES: [&str; 12] = [
    "tokio",
    "ractor",
    "axum",
    "hyper",
    "reqwest",
    "sled",
    "rand",
    "rand_chacha",
    "getrandom",
    "futures_util",
    "dashmap",
    "crossbeam_channel",
];

/// Files and functions that may be longer, each with its reason. Empty on purpose.
const LONG: [&str; 0] = [];

fn report(found: Vec<(String, Fault)>) {
    let lines: Vec<String> =
        found.iter().map(|(path, fault)| format!("{path}:{}: {}", fault.line, fault.what)).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

fn check(wanted: impl Fn(&SourceFile) -> bool, rule: impl Fn(&SourceFile) -> Vec<Fault>) {
    let mut found = Vec::new();
    for file in tree::files().iter().filter(|file| wanted(file)) {
        found.extend(rule(file).into_iter().map(|fault| (file.path.clone(), fault)));
    }
    report(found);
}

fn is_code(file: &SourceFile) -> bool {
    file.is_rust() && ["src/", "tests/", "benches/"].iter().any(|folder| file.path.starts_with(folder))
}

/// Arrows out of one file that the table does not hold.
fn stray_arrows(path: &str, tokens: &[Token]) -> Vec<Fault> {
    let module = tree::top_module(path);
    if module == "lib" {
        return Vec::new();
    }
    let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == module) else {
        return vec![Fault { line: 0, what: format!("module {module} is not in the import table") }];
    };
    let is_module = |name: &str| name == "*" || ARROWS.iter().any(|(from, _)| *from == name);
    let granted = |name: &str| FILE_ARROWS.iter().any(|(prefix, to)| path.starts_with(prefix) && *to == name);
    let mentions = imports::modules(tokens, tree::module_depth(path)).into_iter();
    let stray = mentions.filter(|mention| {
        let name = mention.name.as_str();
        is_module(name) && name != module && !allowed.contains(&name) && !granted(name)
    });
    stray
        .map(|mention| Fault { line: mention.line, what: format!("{module} must not name {}", mention.name) })
        .collect()
}

/// Foreign crates used outside their home, or at all in a pure module.
fn stray_crates(path: &str, tokens: &[Token]) -> Vec<Fault> {
    let names: Vec<&str> = CRATE_HOMES.iter().map(|(name, _)| *name).collect();
    let outside = imports::crates(tokens, &names).into_iter().filter(|mention| {
        let home = CRATE_HOMES.iter().find(|(name, _)| *name == mention.name);
        home.is_some_and(|(_, homes)| !homes.iter().any(|home| path.starts_with(home)))
    });
    let impure = PURE.iter().any(|folder| path.starts_with(folder));
    let banned = if impure { imports::crates(tokens, &IMPURE_CRATES) } else { Default::default() };
    let mentions = outside.chain(banned);
    mentions
        .map(|mention| Fault { line: mention.line, what: format!("crate {} has no place here", mention.name) })
        .collect()
}

#[test]
fn modules_name_each_other_along_the_arrows_only() {
    check(SourceFile::in_source, |file| stray_arrows(&file.path, &file.tokens()));
}

#[test]
fn foreign_crates_stay_in_their_home() {
    let tests = tree::test_files(&tree::files());
    check(
        |file| file.in_source() && !tests.contains(&file.path),
        |file| {
            let tokens = file.tokens();
            let covered = source::test_code(&tokens);
            let live = tokens.iter().enumerate().filter(|(index, _)| !covered.covers(*index));
            stray_crates(&file.path, &live.map(|(_, token)| token.clone()).collect::<Vec<_>>())
        },
    );
}

#[test]
fn files_and_functions_stay_short() {
    check(
        |file| is_code(file) && !LONG.contains(&file.path.as_str()),
        |file| [rules::file_length(&file.text), rules::function_length(&file.tokens())].concat(),
    );
}

#[test]
fn each_file_says_its_purpose_first() {
    check(is_code, |file| rules::header(&file.text));
}

#[test]
fn unwrap_is_for_tests() {
    let tests = tree::test_files(&tree::files());
    check(|file| file.in_source() && !tests.contains(&file.path), |file| rules::unwraps(&file.tokens()));
}

#[test]
fn names_say_something() {
    check(is_code, |file| rules::empty_names(&file.tokens()));
}

#[test]
fn nothing_is_left_unfinished() {
    check(is_code, |file| rules::unfinished(&file.text));
}

#[test]
fn nothing_points_at_one_machine() {
    check(|_| true, |file| [rules::machine_paths(&file.text), rules::registry_hosts(&file.text)].concat());
}

#[test]
fn each_settings_file_is_toml() {
    check(
        |file| file.path.ends_with(".toml"),
        |file| match toml::from_str::<toml::Table>(&file.text) {
            Ok(_) => Vec::new(),
            Err(error) => vec![Fault { line: 0, what: error.to_string() }],
        },
    );
}

#[test]
fn each_invariant_has_its_checker() {
    let exists = |path: &str| tree::root().join(path).is_file();
    check(|file| file.path == "docs/ARCHITECTURE.md", |file| rules::invariant_checkers(&file.text, exists));
    assert!(exists("docs/ARCHITECTURE.md"), "docs/ARCHITECTURE.md is missing");
}

#[test]
fn an_arrow_against_the_table_is_seen() {
    let seen = |path: &str, text: &str| stray_arrows(path, &source::tokens(text)).len();
    assert_eq!(seen("src/persistence/store.rs", "use crate::domain::entity::Entity;"), 1);
    assert_eq!(seen("src/sandbox/mod.rs", "use crate::{types::ids::Term, providers::Ability};"), 1);
    assert_eq!(seen("src/providers/toss.rs", "use super::super::gateways;"), 1);
    assert_eq!(seen("src/actors/router.rs", "use crate::domain::gift;"), 1);
    assert_eq!(seen("src/actors/entity.rs", "use crate::domain::gift;"), 1);
    assert_eq!(seen("src/actors/node_tests.rs", "use crate::domain::entity;"), 0);
    assert_eq!(seen("src/api/gifts.rs", "use crate::*;"), 1);
    assert_eq!(seen("src/api/gifts.rs", "use crate::{actors::door::Door, domain::gift, types::money};"), 0);
    assert_eq!(seen("src/novel/mod.rs", "fn f() {}"), 1);
    assert_eq!(seen("src/main.rs", "fn main() { bojagi::persistence::open() }"), 1);
}

#[test]
fn a_crate_away_from_home_is_seen() {
    let seen = |path: &str, text: &str| stray_crates(path, &source::tokens(text)).len();
    assert_eq!(seen("src/actors/node.rs", "use sled::Db;"), 1);
    assert_eq!(seen("src/persistence/sled_store.rs", "use sled::Db;"), 0);
    assert_eq!(seen("src/gateways/link.rs", "fn f(r: axum::Router) {}"), 1);
    assert_eq!(seen("src/domain/gift/decide.rs", "use tokio::sync::mpsc; use rand::Rng;"), 2);
}
