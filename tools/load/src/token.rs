//! Tokens of the class `unlimited`, signed with the secret of a data directory (PROTOCOL, "Token").

use crate::limits::TOKEN_SECONDS;
use anyhow::Result;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use tidegate_ids::UserId;

#[derive(Serialize)]
struct Claims {
    user: u64,
    exp: u64,
    jti: String,
    rate: &'static str,
}

/// Makes tokens.
pub struct Signer {
    key: EncodingKey,
    header: Header,
    expires: u64,
}

impl Signer {
    /// With the secret that a gateway made in its data directory.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn open(data: &Path) -> Result<Self> {
        let secret = tidegate_storage_files::find_secret(data)?;
        let key = EncodingKey::from_secret(secret.bytes());
        let expires = wall_ms() / 1000 + TOKEN_SECONDS;
        Ok(Self { key, header: Header::new(Algorithm::HS256), expires })
    }

    /// A token for a user.
    ///
    /// # Errors
    /// The library refuses to sign.
    pub fn sign(&self, user: UserId) -> Result<Vec<u8>> {
        let jti = format!("{:032x}", rand::random::<u128>());
        let claims = Claims { user: user.0, exp: self.expires, jti, rate: "unlimited" };
        Ok(jsonwebtoken::encode(&self.header, &claims, &self.key)?.into_bytes())
    }
}

/// Milliseconds since 1970.
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |passed| passed.as_millis() as u64)
}
