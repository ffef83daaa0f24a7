//! Which build made a report: figures of different builds are never summed.

use crate::chaos::ChaosError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::Path;

/// The commit that the builder named: `BOJAGI_COMMIT=$(git rev-parse HEAD) cargo build`.
const COMMIT: Option<&str> = option_env!("BOJAGI_COMMIT");
/// Digits of a digest or commit that people are shown.
const SHOWN: usize = 12;

/// The identity of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Build {
    pub version: String,
    /// As the builder named it.
    pub commit: Option<String>,
    /// SHA-256 of the program file, hexadecimal.
    pub digest: String,
}

impl Build {
    /// That of a program file, said to be this build.
    ///
    /// # Errors
    /// [`ChaosError::Io`]: it cannot be read.
    pub fn of(program: &Path) -> Result<Self, ChaosError> {
        let failed = |cause| ChaosError::Io { what: program.display().to_string(), cause };
        let (mut file, mut hash) = (std::fs::File::open(program).map_err(failed)?, Sha256::new());
        std::io::copy(&mut file, &mut hash).map_err(failed)?;
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: COMMIT.filter(|commit| !commit.is_empty()).map(str::to_owned),
            digest: hex::encode(hash.finalize()),
        })
    }

    /// Whether figures of both may be summed: the same program, or both of one named commit.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.commit, &other.commit) {
            (Some(mine), Some(others)) => mine == others,
            (None | Some(_), None) | (None, Some(_)) => !self.digest.is_empty() && self.digest == other.digest,
        }
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |text: &str| text.chars().take(SHOWN).collect::<String>();
        match &self.commit {
            Some(commit) => write!(f, "bojagi {}, commit {}", self.version, short(commit)),
            None => write!(f, "bojagi {}, program {}", self.version, short(&self.digest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(commit: Option<&str>, digest: &str) -> Build {
        Build { commit: commit.map(str::to_owned), digest: digest.to_owned(), ..Build::default() }
    }

    #[test]
    fn one_commit_or_one_program_is_the_same_build() {
        assert!(build(Some("a"), "x").is_same(&build(Some("a"), "y")));
        assert!(!build(Some("a"), "x").is_same(&build(Some("b"), "x")));
        assert!(build(None, "x").is_same(&build(None, "x")));
        assert!(!build(None, "x").is_same(&build(None, "y")));
        assert!(!build(Some("a"), "x").is_same(&build(None, "y")));
        assert!(!build(None, "").is_same(&build(None, "")), "nothing is known of either");
    }

    #[test]
    fn a_program_is_known_by_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("program");
        std::fs::write(&file, "abc").unwrap();
        let digest = Build::of(&file).unwrap().digest;
        assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(Build::of(&folder.path().join("none")).is_err());
    }
}
