//! Tokens: JSON Web Tokens signed with HMAC-SHA-256 (RFC 7519, PROTOCOL "Token").

use crate::config::TokenConfig;
use crate::limits::{SECRET_BYTES_MIN, SECRET_FILE_BYTES_MAX, TOKEN_BYTES_MAX, TOKEN_ID_BYTES_MAX};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tidegate_domain::RateClass;
use tidegate_ids::{DeviceId, INTEGER_MAX, UserId, WallMs};
use tidegate_shard::{Claims, TokenError, TokenVerifier};

/// What a token says on the wire. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct WireClaims {
    user: u64,
    exp: u64,
    jti: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
}

/// What a token may do beyond its user's own things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Admin,
}

/// Where the secret that signs tokens came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretOrigin {
    /// The operator configured it.
    Configured,
    /// It is in the data directory: for a gateway on loopback only.
    Directory {
        /// Whether it was made just now.
        made: bool,
    },
}

/// The secret that signs tokens.
#[derive(Clone)]
pub struct Secret {
    bytes: Vec<u8>,
    origin: SecretOrigin,
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Secret").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Why there is no secret, or why a token cannot be made. The operator's to change.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The configured one is too short to be safe.
    #[error(
        "the token secret has {bytes} bytes, but needs at least {SECRET_BYTES_MIN}: try `openssl rand -hex 32`"
    )]
    Short {
        /// Its length.
        bytes: usize,
    },
    /// The configured file is not there, cannot be read, or is surely not a secret.
    #[error("cannot read token.secret_file {}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The one in the data directory cannot be read or made.
    #[error(transparent)]
    Directory(#[from] tidegate_storage_files::SecretError),
}

impl Secret {
    /// The configured secret, else the one of the data directory, which is made if it is not there: for the gateway.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn load(config: &TokenConfig, data: &Path) -> Result<Self, SecretError> {
        Self::configured_or(config, || tidegate_storage_files::secret(data))
    }

    /// The configured secret, else the one that a gateway made in its data directory: for whoever wants its tokens. Nothing
    /// is made.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn find(config: &TokenConfig, data: &Path) -> Result<Self, SecretError> {
        Self::configured_or(config, || tidegate_storage_files::find_secret(data))
    }

    fn configured_or(
        config: &TokenConfig,
        directory: impl FnOnce() -> Result<tidegate_storage_files::Secret, tidegate_storage_files::SecretError>,
    ) -> Result<Self, SecretError> {
        let configured = match (&config.secret, &config.secret_file) {
            (Some(secret), _) => Some(secret.as_bytes().to_vec()),
            (None, Some(path)) => Some(read_file(path)?),
            (None, None) => None,
        };
        match configured {
            Some(bytes) if bytes.len() < SECRET_BYTES_MIN => Err(SecretError::Short { bytes: bytes.len() }),
            Some(bytes) => Ok(Self { bytes, origin: SecretOrigin::Configured }),
            None => {
                let secret = directory()?;
                let origin = SecretOrigin::Directory { made: secret.made() };
                Ok(Self { bytes: secret.bytes().to_vec(), origin })
            }
        }
    }

    /// Where it came from.
    #[must_use]
    pub const fn origin(&self) -> &SecretOrigin {
        &self.origin
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, SecretError> {
    let refused = |reason: String| SecretError::File { path: path.to_path_buf(), reason };
    let bytes = std::fs::metadata(path).map_err(|error| refused(error.to_string()))?.len();
    if bytes > SECRET_FILE_BYTES_MAX {
        return Err(refused(format!("{bytes} bytes are more than {SECRET_FILE_BYTES_MAX}")));
    }
    let mut secret = std::fs::read(path).map_err(|error| refused(error.to_string()))?;
    while secret.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        secret.pop();
    }
    Ok(secret)
}

/// A token to make.
#[derive(Clone, Debug)]
pub struct TokenRequest<'a> {
    /// For whom.
    pub user: u64,
    /// The only device it is for.
    pub device: Option<u64>,
    /// The class of limits.
    pub rate: Option<&'a str>,
    /// How long it is valid from `now`, rounded up to seconds.
    pub ttl: Duration,
    /// When it is made.
    pub now: WallMs,
}

/// A request for a token that no gateway would accept. The caller's to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRequestError {
    /// An id outside 1 to 2^53 - 1.
    #[error("{what} {id} is out of bounds: 1 to {INTEGER_MAX}")]
    Id {
        /// Whose.
        what: &'static str,
        /// The id.
        id: u64,
    },
    /// No such class.
    #[error("there is no rate class `{0}`: default and unlimited are known")]
    Rate(String),
    /// Longer than a time on the wire.
    #[error("the token would be valid for too long")]
    Ttl,
    /// The library refuses to sign.
    #[error("the token cannot be signed: {0}")]
    Sign(String),
}

/// Makes a token.
///
/// # Errors
/// See [`TokenRequestError`].
pub fn issue(secret: &Secret, request: &TokenRequest<'_>) -> Result<String, TokenRequestError> {
    let in_bounds = |what, id| match id {
        1..=INTEGER_MAX => Ok(id),
        _ => Err(TokenRequestError::Id { what, id }),
    };
    if let Some(rate) = request.rate.filter(|rate| RateClass::by_name(rate).is_none()) {
        return Err(TokenRequestError::Rate(rate.to_owned()));
    }
    let ttl_ms = u64::try_from(request.ttl.as_millis()).map_err(|_| TokenRequestError::Ttl)?;
    let expires_ms = request.now.0.checked_add(ttl_ms).filter(|&ms| ms <= INTEGER_MAX);
    let claims = WireClaims {
        user: in_bounds("user", request.user)?,
        exp: expires_ms.ok_or(TokenRequestError::Ttl)?.div_ceil(1000),
        jti: format!("{:032x}", rand::random::<u128>()),
        nbf: None,
        device: request.device.map(|device| in_bounds("device", device)).transpose()?,
        rate: request.rate.map(str::to_owned),
        role: None,
    };
    let key = EncodingKey::from_secret(&secret.bytes);
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
        .map_err(|error| TokenRequestError::Sign(error.to_string()))
}

/// Checks tokens with one secret.
#[derive(Clone)]
pub struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

impl core::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl Verifier {
    /// A verifier of tokens that this secret signed.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // Times are judged here, with the time that the shard hands in.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Self { key: DecodingKey::from_secret(&secret.bytes), validation }
    }
}

impl TokenVerifier for Verifier {
    fn verify(&self, token: &[u8], now: WallMs) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid);
        }
        let decoded = jsonwebtoken::decode::<WireClaims>(token, &self.key, &self.validation);
        let decoded = decoded.map_err(|_| TokenError::Invalid)?;
        // Whoever does not understand an extension that is marked critical must refuse, and none is understood here
        // (RFC 7515, section 4.1.11); the library reads the list and ignores it.
        if decoded.header.crit.is_some() {
            return Err(TokenError::Invalid);
        }
        let claims = decoded.claims;
        let id = |id: u64| (1..=INTEGER_MAX).contains(&id).then_some(id).ok_or(TokenError::Invalid);
        let rate = match &claims.rate {
            None => RateClass::Default,
            Some(name) => RateClass::by_name(name).ok_or(TokenError::Invalid)?,
        };
        if claims.jti.is_empty() || claims.jti.len() > TOKEN_ID_BYTES_MAX {
            return Err(TokenError::Invalid);
        }
        let user = UserId(id(claims.user)?);
        let device = claims.device.map(id).transpose()?.map(DeviceId);
        if claims.nbf.is_some_and(|seconds| now.0 / 1000 < seconds) {
            return Err(TokenError::Invalid);
        }
        let expires = WallMs(claims.exp.saturating_mul(1000));
        if expires <= now {
            return Err(TokenError::Expired);
        }
        Ok(Claims { user, expires, device, rate })
    }
}

#[cfg(test)]
mod tests;
