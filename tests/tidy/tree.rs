//! The repository's files, and which of the source files are test code as a whole.

use crate::source::{TestModule, Token, test_code, tokens};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Entries that hold nothing of ours (`.git` is a file in a linked work tree).
const SKIPPED: [&str; 4] = [".git", "target", "data", "node_modules"];

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A text file of the repository.
pub struct SourceFile {
    /// From the root, with forward slashes.
    pub path: String,
    pub text: String,
}

impl SourceFile {
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
    pub fn in_source(&self) -> bool {
        self.is_rust() && self.path.starts_with("src/")
    }
    pub fn tokens(&self) -> Vec<Token> {
        tokens(&self.text)
    }
}

/// Every UTF-8 file under the root, by path.
pub fn files() -> Vec<SourceFile> {
    let mut found = Vec::new();
    collect(root(), &mut found);
    found.sort_by(|a: &SourceFile, b| a.path.cmp(&b.path));
    assert!(found.iter().any(|file| file.path == "src/lib.rs"), "the walk does not see the source");
    found
}

fn collect(folder: &Path, found: &mut Vec<SourceFile>) {
    let entries = fs::read_dir(folder).expect("folders of the repository are readable");
    for entry in entries {
        let path = entry.expect("folders of the repository are readable").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            collect(&path, found);
        } else if let Ok(text) = fs::read_to_string(&path) {
            found.push(SourceFile { path: relative(&path), text });
        }
    }
}

fn relative(path: &Path) -> String {
    let inner = path.strip_prefix(root()).expect("the walk starts at the root");
    inner.to_string_lossy().replace('\\', "/")
}

/// `api` for `src/api/gifts.rs` and for `src/api.rs`; `lib` and `main` for the roots.
pub fn top_module(path: &str) -> String {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    let first = inner.split('/').next().unwrap_or(inner);
    first.strip_suffix(".rs").unwrap_or(first).to_owned()
}

/// How deep the file's module lies under the crate root.
pub fn module_depth(path: &str) -> usize {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    let last = inner.rsplit('/').next().unwrap_or(inner);
    let parts = inner.split('/').count();
    match last {
        "lib.rs" | "main.rs" if parts == 1 => 0,
        "mod.rs" => parts - 1,
        _ => parts,
    }
}

/// Source files that are declared as `#[cfg(test)] mod name;`, with everything in their folders.
pub fn test_files(files: &[SourceFile]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in files.iter().filter(|file| file.in_source()) {
        for module in test_code(&file.tokens()).modules {
            let (alone, inside) = places(&file.path, &module);
            let covered = files.iter().filter(|file| file.path == alone || file.path.starts_with(&inside));
            found.extend(covered.map(|file| file.path.clone()));
        }
    }
    found
}

/// The file of a module declared in `path`, and the folder of what that module declares.
fn places(path: &str, module: &TestModule) -> (String, String) {
    let alone = match &module.path {
        Some(named) => Path::new(path).parent().expect("a source file lies in a folder").join(named),
        None => child_folder(path).join(format!("{}.rs", module.name)),
    };
    let inside = alone.with_extension("");
    (alone.to_string_lossy().into_owned(), format!("{}/", inside.to_string_lossy()))
}

/// Where the files of a file's child modules lie.
fn child_folder(path: &str) -> PathBuf {
    let path = Path::new(path);
    let parent = path.parent().expect("a source file lies in a folder");
    match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("mod" | "lib" | "main") | None => parent.to_path_buf(),
        Some(stem) => parent.join(stem),
    }
}

#[cfg(test)]
mod samples {
    use super::*;

    #[test]
    fn paths_name_their_module_and_its_depth() {
        let shapes = [
            ("src/lib.rs", "lib", 0),
            ("src/app.rs", "app", 1),
            ("src/api/mod.rs", "api", 1),
            ("src/api/gifts.rs", "api", 2),
            ("src/domain/gift/mod.rs", "domain", 2),
        ];
        for (path, module, depth) in shapes {
            assert_eq!((top_module(path).as_str(), module_depth(path)), (module, depth), "{path}");
        }
    }

    #[test]
    fn files_of_test_modules_are_test_code() {
        let file = |path: &str, text: &str| SourceFile { path: path.to_owned(), text: text.to_owned() };
        let files = [
            file("src/a/mod.rs", "#[cfg(test)]\nmod tests;\nmod live;"),
            file("src/a/tests.rs", ""),
            file("src/a/live.rs", "#[cfg(test)] mod sim;"),
            file("src/a/live/sim/disk.rs", ""),
            file("src/a/store.rs", "#[cfg(test)]\n#[path = \"store_tests.rs\"]\nmod tests;"),
            file("src/a/store_tests.rs", ""),
        ];
        let found: Vec<String> = test_files(&files).into_iter().collect();
        assert_eq!(found, ["src/a/live/sim/disk.rs", "src/a/store_tests.rs", "src/a/tests.rs"]);
    }
}
