//! Round trips, and every way in which a token can be wrong.

use super::*;
use serde_json::json;

const NOW: WallMs = WallMs(1_800_000_000_000);

fn secret(byte: u8) -> Secret {
    Secret { bytes: vec![byte; 32], origin: SecretOrigin::Configured }
}

fn request() -> TokenRequest<'static> {
    TokenRequest { user: 7, device: None, rate: None, ttl: Duration::from_secs(60), now: NOW }
}

fn signed(claims: &serde_json::Value, algorithm: Algorithm) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(&[1; 32])).unwrap()
}

#[test]
fn a_token_says_what_was_asked_for() {
    let check = |request: TokenRequest<'_>, device: Option<u64>, rate| {
        let token = issue(&secret(1), &request).unwrap();
        let claims = Verifier::new(&secret(1)).verify(token.as_bytes(), NOW).unwrap();
        let expires = WallMs(NOW.0 + 60_000);
        assert_eq!(claims, Claims { user: UserId(7), expires, device: device.map(DeviceId), rate });
    };
    check(request(), None, RateClass::Default);
    check(TokenRequest { device: Some(9), ..request() }, Some(9), RateClass::Default);
    check(TokenRequest { rate: Some("unlimited"), ..request() }, None, RateClass::Unlimited);
}

#[test]
fn two_tokens_have_two_ids() {
    assert_ne!(issue(&secret(1), &request()), issue(&secret(1), &request()));
}

#[test]
fn expiry_is_judged_with_the_time_handed_in() {
    let token = issue(&secret(1), &request()).unwrap();
    let check = |after_ms: u64, expected: Result<UserId, TokenError>| {
        let verified = Verifier::new(&secret(1)).verify(token.as_bytes(), WallMs(NOW.0 + after_ms));
        assert_eq!(verified.map(|claims| claims.user), expected);
    };
    check(59_999, Ok(UserId(7)));
    check(60_000, Err(TokenError::Expired));
    check(u64::MAX - NOW.0, Err(TokenError::Expired));
}

#[test]
fn a_token_that_makes_no_sense_is_invalid() {
    let check = |token: &str| {
        let verified = Verifier::new(&secret(1)).verify(token.as_bytes(), NOW);
        assert_eq!(verified, Err(TokenError::Invalid), "{token}");
    };
    let exp = NOW.0 / 1000 + 60;
    let with = |key: &str, value: serde_json::Value| {
        let mut claims = json!({"user": 7, "exp": exp, "jti": "a"});
        claims[key] = value;
        signed(&claims, Algorithm::HS256)
    };
    let valid = with("sub", json!("other claims are not read"));
    assert!(Verifier::new(&secret(1)).verify(valid.as_bytes(), NOW).is_ok());
    check("");
    check("a.b.c");
    check(&valid[..valid.len() - 2]);
    check(&issue(&secret(2), &request()).unwrap());
    check(&with("user", json!(0)));
    check(&with("user", json!(1_u64 << 53)));
    check(&with("user", json!("7")));
    check(&with("device", json!(0)));
    check(&with("rate", json!("fast")));
    check(&with("role", json!("king")));
    check(&with("jti", json!("")));
    check(&with("jti", json!("x".repeat(129))));
    check(&with("jti", json!(null)));
    check(&with("nbf", json!(exp)));
    check(&with("pad", json!("x".repeat(4096))));
    check(&signed(&json!({"user": 7, "exp": exp, "jti": "a"}), Algorithm::HS512));
}

/// `alg: none` was once accepted by many libraries: a token without a signature is nobody's.
#[test]
fn a_token_without_a_signature_is_invalid() {
    // {"alg":"none","typ":"JWT"} . {"user":7,"exp":9999999999,"jti":"a"} .
    let token = b"eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJ1c2VyIjo3LCJleHAiOjk5OTk5OTk5OTksImp0aSI6ImEifQ.";
    assert_eq!(Verifier::new(&secret(1)).verify(token, NOW), Err(TokenError::Invalid));
}

/// A header that says `crit` was accepted: what it names must be understood, or the token refused (RFC 7515, section 4.1.11).
#[test]
fn a_token_with_critical_extensions_is_invalid() {
    let check = |crit: Option<Vec<String>>, expected: Result<UserId, TokenError>| {
        let header = Header { crit, ..Header::new(Algorithm::HS256) };
        let claims = json!({"user": 7, "exp": NOW.0 / 1000 + 60, "jti": "a"});
        let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&[1; 32])).unwrap();
        let verified = Verifier::new(&secret(1)).verify(token.as_bytes(), NOW);
        assert_eq!(verified.map(|claims| claims.user), expected, "{header:?}");
    };
    check(None, Ok(UserId(7)));
    check(Some(vec![String::from("x")]), Err(TokenError::Invalid));
    check(Some(vec![String::from("exp"), String::from("b64")]), Err(TokenError::Invalid));
    // An empty list is no list that anybody may write.
    check(Some(Vec::new()), Err(TokenError::Invalid));
}

#[test]
fn a_request_that_no_gateway_would_accept_is_refused() {
    let check = |request: TokenRequest<'_>, needle: &str| {
        let message = issue(&secret(1), &request).unwrap_err().to_string();
        assert!(message.contains(needle), "{message}");
    };
    check(TokenRequest { user: 0, ..request() }, "user 0");
    check(TokenRequest { device: Some(1 << 53), ..request() }, "device 9007199254740992");
    check(TokenRequest { rate: Some("fast"), ..request() }, "`fast`");
    check(TokenRequest { ttl: Duration::MAX, ..request() }, "too long");
}

#[test]
fn the_secret_is_the_configured_one_else_the_directory_s() {
    let dir = tempfile::tempdir().unwrap();
    let load = |config: &TokenConfig| Secret::load(config, dir.path());
    let made = load(&TokenConfig::default()).unwrap();
    assert_eq!(made.origin(), &SecretOrigin::Directory { made: true });
    let again = load(&TokenConfig::default()).unwrap();
    assert_eq!(again.origin(), &SecretOrigin::Directory { made: false });
    assert_eq!(made.bytes, again.bytes);

    let find = |config: &TokenConfig| Secret::find(config, dir.path());
    let message = find(&TokenConfig::default()).unwrap_err().to_string();
    assert!(message.contains("tidegate serve --data"), "a secret alone is no gateway's: {message}");
    std::fs::write(dir.path().join("MANIFEST"), "").unwrap();
    assert_eq!(find(&TokenConfig::default()).unwrap().bytes, made.bytes);
    std::fs::remove_file(dir.path().join("MANIFEST")).unwrap();

    let text = "0123456789abcdef0123456789abcdef";
    let configured = load(&TokenConfig { secret: Some(text.into()), secret_file: None }).unwrap();
    let config = TokenConfig { secret: Some(text.into()), secret_file: None };
    assert_eq!(find(&config).unwrap().bytes, configured.bytes, "a configured one needs no directory");
    let path = dir.path().join("secret");
    std::fs::write(&path, format!("{text}\n")).unwrap();
    let of_file = load(&TokenConfig { secret: None, secret_file: Some(path.clone()) }).unwrap();
    assert_eq!((configured.bytes, configured.origin), (of_file.bytes, of_file.origin));

    std::fs::write(&path, "short").unwrap();
    let short = load(&TokenConfig { secret: None, secret_file: Some(path) }).unwrap_err();
    assert!(short.to_string().contains("5 bytes"), "{short}");
    let absent = TokenConfig { secret: None, secret_file: Some(dir.path().join("absent")) };
    assert!(load(&absent).unwrap_err().to_string().contains("absent"));
}
