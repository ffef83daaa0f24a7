//! Which top-level modules and which foreign crates a source file names, whatever way it writes the path.

use crate::source::{Piece, Token, closing};
use std::collections::BTreeSet;

/// A mention of something outside the file's own top-level module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mention {
    pub name: String,
    pub line: usize,
}

/// Top-level modules named through `crate::…`, `bojagi::…` or enough `super::`s. `*` stands for a glob of the root.
/// `depth` is how deep the file's module lies under the crate root: 1 for `src/api/mod.rs` and `src/app.rs`.
pub fn modules(tokens: &[Token], depth: usize) -> BTreeSet<Mention> {
    let inner = inline_depths(tokens);
    let mut found = BTreeSet::new();
    for index in 0..tokens.len() {
        if preceded_by_path(tokens, index) {
            continue;
        }
        if tokens[index].is_word("crate") || tokens[index].is_word("bojagi") {
            if let Some(next) = after_path_sign(tokens, index + 1) {
                heads(tokens, next, &mut found);
            }
            continue;
        }
        let (supers, next) = leading_supers(tokens, index);
        if supers > 0 && supers == depth + inner[index] {
            heads(tokens, next, &mut found);
        }
    }
    found
}

/// Foreign crates of `names` that are used as the head of a path.
pub fn crates(tokens: &[Token], names: &[&str]) -> BTreeSet<Mention> {
    let mut found = BTreeSet::new();
    for (index, token) in tokens.iter().enumerate() {
        let Some(word) = token.word() else { continue };
        if !names.contains(&word) || preceded_by_path(tokens, index) {
            continue;
        }
        let as_path = after_path_sign(tokens, index + 1).is_some();
        let as_use = index > 0 && tokens[index - 1].is_word("use");
        if as_path || as_use {
            found.insert(Mention { name: word.to_owned(), line: token.line });
        }
    }
    found
}

fn after_path_sign(tokens: &[Token], index: usize) -> Option<usize> {
    let signs = tokens.get(index..index + 2)?;
    signs.iter().all(|token| token.is_mark(':')).then_some(index + 2)
}

fn preceded_by_path(tokens: &[Token], index: usize) -> bool {
    // `::sled` at the head of a path is still the head.
    index >= 3 && after_path_sign(tokens, index - 2).is_some() && tokens[index - 3].word().is_some_and(|w| w != "use")
}

fn leading_supers(tokens: &[Token], start: usize) -> (usize, usize) {
    let (mut supers, mut index) = (0, start);
    while tokens.get(index).is_some_and(|token| token.is_word("super")) {
        let Some(next) = after_path_sign(tokens, index + 1) else { break };
        supers += 1;
        index = next;
    }
    (supers, index)
}

/// The first names of the path or of the use tree that starts at `index`.
fn heads(tokens: &[Token], index: usize, found: &mut BTreeSet<Mention>) {
    let Some(token) = tokens.get(index) else { return };
    match &token.piece {
        Piece::Word(name) if name == "self" => {}
        Piece::Word(name) => {
            found.insert(Mention { name: name.clone(), line: token.line });
        }
        Piece::Mark('*') => {
            found.insert(Mention { name: "*".to_owned(), line: token.line });
        }
        Piece::Mark('{') => {
            let end = closing(tokens, index);
            let mut item = index + 1;
            while item < end {
                heads(tokens, item, found);
                item = next_item(tokens, item, end);
            }
        }
        Piece::Mark(_) | Piece::Text(_) | Piece::Other => {}
    }
}

fn next_item(tokens: &[Token], mut index: usize, end: usize) -> usize {
    while index < end && !tokens[index].is_mark(',') {
        index = if tokens[index].is_mark('{') { closing(tokens, index) + 1 } else { index + 1 };
    }
    index + 1
}

/// For each token, in how many `mod name { … }` it lies.
fn inline_depths(tokens: &[Token]) -> Vec<usize> {
    let mut depths = vec![0; tokens.len()];
    for index in 0..tokens.len() {
        let opens = tokens[index].is_word("mod") && tokens.get(index + 2).is_some_and(|token| token.is_mark('{'));
        if opens {
            let end = closing(tokens, index + 2);
            depths[index + 2..=end].iter_mut().for_each(|depth| *depth += 1);
        }
    }
    depths
}

#[cfg(test)]
mod samples {
    use super::*;
    use crate::source::tokens;

    fn named(text: &str, depth: usize) -> Vec<String> {
        modules(&tokens(text), depth).into_iter().map(|mention| mention.name).collect()
    }

    #[test]
    fn plain_nested_and_multi_line_trees_are_seen() {
        let text = "use crate::types::ids::Term;\nuse crate::{\n    actors::{door::{Ask, Door}, router},\n    self,\n    \
                    domain as d,\n};\nfn f() -> crate::gateways::Permit { todo(crate :: stream :: x) }\npub(crate) fn g() {}";
        assert_eq!(named(text, 1), ["actors", "domain", "gateways", "stream", "types"]);
    }

    #[test]
    fn supers_that_climb_to_the_root_are_seen() {
        assert_eq!(named("use super::actors::X;", 1), ["actors"]);
        assert_eq!(named("use super::actors::X;", 2), Vec::<String>::new());
        assert_eq!(named("use super::super::{actors, api::Y};", 2), ["actors", "api"]);
        assert_eq!(named("mod tests { use super::super::actors; use super::X; }", 1), ["actors"]);
    }

    #[test]
    fn globs_of_the_root_and_the_library_by_name_are_seen() {
        assert_eq!(named("use crate::*;", 1), ["*"]);
        assert_eq!(named("fn main() { bojagi::app::run() }", 0), ["app"]);
        assert_eq!(named("// use crate::app;\nlet s = \"crate::app::x\";", 1), Vec::<String>::new());
    }

    #[test]
    fn foreign_crates_are_seen_at_the_head_of_a_path_only() {
        let names = |text: &str| -> Vec<String> {
            crates(&tokens(text), &["sled", "raft"]).into_iter().map(|mention| mention.name).collect()
        };
        assert_eq!(names("use sled::Db; fn f(x: raft::Peer) {}"), ["raft", "sled"]);
        assert_eq!(names("use ::sled::Db;\nuse sled;"), ["sled", "sled"]);
        assert_eq!(names("use crate::persistence::sled::Store; let raft = 1;"), Vec::<String>::new());
    }
}
