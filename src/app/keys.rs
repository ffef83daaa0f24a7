//! Keys of a folder: minted once, mode 0600, read at start. Production keys come from files or the environment.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("key file {path}: {cause}")]
    Io { path: PathBuf, cause: std::io::Error },
    #[error("key file {path} does not hold 64 hexadecimal digits")]
    Malformed { path: PathBuf },
    #[error("key file {path} can be read by others: chmod 600 it")]
    TooOpen { path: PathBuf },
}

/// Reads a 32-byte key in hexadecimal.
///
/// # Errors
/// [`KeyError`]: the file is missing, malformed, or readable by others.
pub fn read(path: &Path) -> Result<[u8; 32], KeyError> {
    let failed = |cause| KeyError::Io { path: path.to_owned(), cause };
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(KeyError::TooOpen { path: path.to_owned() });
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    parse(text.trim()).ok_or_else(|| KeyError::Malformed { path: path.to_owned() })
}

/// Parses 64 hexadecimal digits.
#[must_use]
pub fn parse(text: &str) -> Option<[u8; 32]> {
    hex::decode(text).ok()?.try_into().ok()
}

/// Reads the key, or mints it where there is none.
///
/// # Errors
/// [`KeyError`]: the file cannot be made or read.
pub fn read_or_mint(path: &Path) -> Result<[u8; 32], KeyError> {
    if path.exists() {
        return read(path);
    }
    let failed = |cause| KeyError::Io { path: path.to_owned(), cause };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut key = [0u8; 32];
    getrandom::fill(&mut key).expect("the operating system's random source answers");
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    writeln!(file, "{}", hex::encode(key)).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_key_is_read_back_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/jwt.key");
        let key = read_or_mint(&path).unwrap();
        assert_eq!(read_or_mint(&path).unwrap(), key);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwt.key");
        read_or_mint(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(read(&path), Err(KeyError::TooOpen { .. })));
    }
}
