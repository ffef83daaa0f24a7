//! Work on a stopped node's data folder, and tokens.

use crate::api::auth::Role;
use crate::app::{AppError, keys, token_key};
use crate::cli::TokenArgs;

/// Prints a token.
///
/// # Errors
/// [`AppError`]: the key cannot be read, the role or the subject is not one.
pub fn token(args: &TokenArgs) -> Result<(), AppError> {
    let role = Role::parse(&args.role).ok_or_else(|| AppError::Usage("--role is user, merchant or operator".into()))?;
    let key = token_key(&keys::read(&args.key_file)?);
    let token = key.mint(&args.sub, role, args.seconds).map_err(|error| AppError::Usage(error.to_string()))?;
    println!("{token}");
    Ok(())
}
