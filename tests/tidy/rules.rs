//! The rules, each over the text of one file, so that a sample string can break it.

use crate::source::{Piece, Token, functions, test_code};

/// Lines of a file and of a function, at most.
pub const FILE_LINES_MAX: usize = 500;
pub const FUNCTION_LINES_MAX: usize = 70;

/// Where something is wrong, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From 1; 0 is the file as a whole.
    pub line: usize,
    pub what: String,
}

fn fault(line: usize, what: impl Into<String>) -> Fault {
    Fault { line, what: what.into() }
}

pub fn file_length(text: &str) -> Vec<Fault> {
    let lines = text.lines().count();
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    vec![fault(0, format!("{lines} lines; at most {FILE_LINES_MAX}"))]
}

pub fn function_length(tokens: &[Token]) -> Vec<Fault> {
    let long = functions(tokens).into_iter().filter(|function| function.lines > FUNCTION_LINES_MAX);
    long.map(|f| fault(f.line, format!("fn {} has {} lines; at most {FUNCTION_LINES_MAX}", f.name, f.lines))).collect()
}

pub fn header(text: &str) -> Vec<Fault> {
    let first = text.lines().next().unwrap_or_default();
    match first.strip_prefix("//!") {
        Some(purpose) if !purpose.trim().is_empty() => Vec::new(),
        Some(_) | None => vec![fault(1, "the first line is not a `//!` header that says the purpose")],
    }
}

/// `unwrap()` and `expect("")` outside test code.
pub fn unwraps(tokens: &[Token]) -> Vec<Fault> {
    let tests = test_code(tokens);
    let mut found = Vec::new();
    for (index, window) in tokens.windows(4).enumerate() {
        if !window[0].is_mark('.') || !window[2].is_mark('(') || tests.covers(index) {
            continue;
        }
        if window[1].is_word("unwrap") && window[3].is_mark(')') {
            found.push(fault(window[1].line, "unwrap() outside tests: use expect(\"why this cannot be\")"));
        }
        if window[1].is_word("expect") && matches!(&window[3].piece, Piece::Text(why) if why.trim().is_empty()) {
            found.push(fault(window[1].line, "expect without a reason"));
        }
    }
    found
}

/// Names that say nothing, in what is defined here: whole segments of the name, in snake or camel case.
const EMPTY_NAMES: [&str; 6] = ["manager", "managers", "util", "utils", "helper", "helpers"];
/// These say nothing as the whole name or as its last segment.
const EMPTY_ENDINGS: [&str; 2] = ["data", "info"];
/// A name of more segments is a sentence.
const SENTENCE_SEGMENTS: usize = 4;

pub fn empty_names(tokens: &[Token]) -> Vec<Fault> {
    let mut found = Vec::new();
    for pair in tokens.windows(2) {
        let (Some(keyword), Some(name)) = (pair[0].word(), pair[1].word()) else { continue };
        if matches!(keyword, "fn" | "struct" | "enum" | "trait" | "mod" | "type") && says_nothing(keyword, name) {
            found.push(fault(pair[1].line, format!("`{keyword} {name}` uses a word that says nothing")));
        }
    }
    found
}

fn says_nothing(keyword: &str, name: &str) -> bool {
    let segments = segments(name);
    let has_empty = segments.iter().any(|segment| EMPTY_NAMES.contains(&segment.as_str()));
    // An associated type may be named by a foreign trait; a test's name is a sentence and may end as it likes.
    let ends = keyword != "type" && segments.len() <= SENTENCE_SEGMENTS;
    let ends_empty = ends && segments.last().is_some_and(|last| EMPTY_ENDINGS.contains(&last.as_str()));
    let processes = keyword == "fn" && segments.first().is_some_and(|first| first == "process");
    has_empty || ends_empty || processes
}

fn segments(name: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for letter in name.chars() {
        if (letter == '_' || letter.is_uppercase()) && found.last().is_some_and(|last| !last.is_empty()) {
            found.push(String::new());
        }
        if letter != '_' {
            found.last_mut().expect("there is always a segment").extend(letter.to_lowercase());
        }
    }
    found
}

/// Marks of unfinished work. Put together here so that this file does not break its own rule.
pub fn unfinished(text: &str) -> Vec<Fault> {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("dbg", "!("),
    ];
    on_lines(text, |line| {
        let mark = marks.into_iter().find(|mark| contains_word(line, mark))?;
        Some(format!("`{mark}` is left in the text"))
    })
}

fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let open = word.ends_with('(');
        !before.is_some_and(char::is_alphanumeric) && (open || !after.is_some_and(char::is_alphanumeric))
    })
}

/// Paths that exist on one machine only.
pub fn machine_paths(text: &str) -> Vec<Fault> {
    let homes = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];
    on_lines(text, |line| {
        let home = homes.into_iter().find(|home| starts_path(line, home))?;
        Some(format!("an absolute path of one machine under {home}"))
    })
}

fn starts_path(line: &str, home: &str) -> bool {
    line.match_indices(home).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '}' | '~' | '*'))
    })
}

/// The only place where crates come from.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Package hosts other than the public one, in lock files, manifests and settings.
pub fn registry_hosts(text: &str) -> Vec<Fault> {
    on_lines(text, |line| {
        let line = line.trim();
        let locked = line.strip_prefix("source = \"").is_some_and(|source| !source.starts_with(CRATES_IO));
        let other = [concat!("sparse", "+http"), concat!("replace", "-with"), concat!("index", "-url")];
        let named = other.into_iter().any(|mark| line.contains(mark));
        (locked || named).then(|| "crates come from the public registry only".to_owned())
    })
}

fn on_lines(text: &str, check: impl Fn(&str) -> Option<String>) -> Vec<Fault> {
    let numbered = text.lines().enumerate();
    numbered.filter_map(|(index, line)| check(line).map(|what| fault(index + 1, what))).collect()
}

/// Invariants of the product; each is named in `docs/ARCHITECTURE.md` together with its checker.
pub const INVARIANTS: usize = 11;

/// Each INV-n has a line that starts with it (after list and table marks) and names, in backticks, a file that exists,
/// or says "not yet".
pub fn invariant_checkers(text: &str, exists: impl Fn(&str) -> bool) -> Vec<Fault> {
    let mut found = Vec::new();
    for number in 1..=INVARIANTS {
        let name = format!("INV-{number}");
        let starts = |line: &&str| {
            let line = line.trim_start_matches(['|', '-', '*', ' ', '`']);
            line.strip_prefix(&name).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        let Some((index, line)) = text.lines().enumerate().find(|(_, line)| starts(line)) else {
            found.push(fault(0, format!("{name} has no line of its own")));
            continue;
        };
        let files: Vec<&str> = line.split('`').skip(1).step_by(2).filter(|code| code.ends_with(".rs")).collect();
        for missing in files.iter().filter(|file| !exists(file)) {
            found.push(fault(index + 1, format!("{name} names {missing}, which does not exist")));
        }
        if files.is_empty() && !line.contains("not yet") {
            found.push(fault(index + 1, format!("{name} names no checker file and does not say \"not yet\"")));
        }
    }
    found
}

#[cfg(test)]
mod samples {
    use super::*;
    use crate::source::tokens;

    #[test]
    fn a_file_of_501_lines_fails() {
        assert!(file_length(&"x\n".repeat(FILE_LINES_MAX)).is_empty());
        assert_eq!(file_length(&"x\n".repeat(FILE_LINES_MAX + 1)).len(), 1);
    }

    #[test]
    fn a_function_of_71_lines_fails() {
        let of = |lines: usize| format!("fn f() {{\n{}}}\n", "a();\n".repeat(lines - 2));
        assert!(function_length(&tokens(&of(FUNCTION_LINES_MAX))).is_empty());
        assert_eq!(function_length(&tokens(&of(FUNCTION_LINES_MAX + 1)))[0].line, 1);
    }

    #[test]
    fn a_file_without_its_purpose_fails() {
        assert!(header("//! Why.\nfn f() {}").is_empty());
        assert_eq!(header("use x;\n//! Why.").len(), 1);
        assert_eq!(header("//!\nfn f() {}").len(), 1);
    }

    #[test]
    fn unwrap_fails_outside_tests_only() {
        let text = "fn a() { b.unwrap(); c.unwrap_or(1); d.expect(\"e\"); f.expect(\"\") }\n\
                    #[cfg(test)] mod t { fn g() { h.unwrap() } }";
        let lines: Vec<usize> = unwraps(&tokens(text)).iter().map(|fault| fault.line).collect();
        assert_eq!(lines, [1, 1]);
        assert_eq!(unwraps(&tokens("a\n  .unwrap()\n;")).len(), 1);
        assert!(unwraps(&tokens("// a.unwrap()\n\"b.unwrap()\"")).is_empty());
    }

    #[test]
    fn names_that_say_nothing_fail() {
        let bad =
            "struct GiftManager; mod utils; fn process_gift() {} fn load_data() {} enum NodeInfo {} type Helper = ();";
        assert_eq!(empty_names(&tokens(bad)).len(), 6);
        let good = "struct DataKey; fn kill_process() {} fn data_folder() {} fn a_page_without_personal_data() {} mod informed { fn f(info: X) {} }";
        assert_eq!(empty_names(&tokens(good)), []);
    }

    #[test]
    fn marks_of_unfinished_work_fail() {
        let bad = format!("a\n// {} b\n{}d)", concat!("TO", "DO"), concat!("unimplemented", "!("));
        assert_eq!(unfinished(&bad).iter().map(|f| f.line).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(unfinished("TODOS mastodon todo list"), []);
    }

    #[test]
    fn paths_of_one_machine_fail() {
        let bad = format!("cd {}me/ann/bojagi\nx = \"{}ot/.cargo\"", "/ho", "/ro");
        assert_eq!(machine_paths(&bad).len(), 2);
        assert_eq!(machine_paths("src/home/x.rs ~/work/y ./root/z https://a.b/c"), []);
    }

    #[test]
    fn other_package_hosts_fail() {
        assert_eq!(registry_hosts(&format!("source = \"{CRATES_IO}\"\nchecksum = \"a\"")), []);
        assert_eq!(registry_hosts("source = \"registry+https://mirror.example/index\"").len(), 1);
        assert_eq!(registry_hosts("source = \"git+https://github.com/a/b#c\"").len(), 1);
        assert_eq!(registry_hosts(concat!("[source.crates-io]\nreplace", "-with = \"m\"")).len(), 1);
    }

    #[test]
    fn an_invariant_without_a_checker_fails() {
        let whole: String = (1..=INVARIANTS).map(|n| format!("- INV-{n}: `tests/a.rs`\n")).collect();
        assert_eq!(invariant_checkers(&whole, |_| true), []);
        assert_eq!(invariant_checkers(&whole, |_| false).len(), INVARIANTS);
        assert_eq!(
            invariant_checkers(&whole.replace("INV-10", "INV-12"), |_| true)[0].what,
            "INV-10 has no line of its own"
        );
        assert_eq!(invariant_checkers(&whole.replace("INV-1: `tests/a.rs`", "INV-1: soon"), |_| true).len(), 1);
        assert_eq!(invariant_checkers(&whole.replace("INV-2: `tests/a.rs`", "INV-2: not yet"), |_| true), []);
    }
}
