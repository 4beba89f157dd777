//! What a client asks and which answers it believes.

use super::*;
use crate::handshake::server;

const KEY: [u8; 16] = *b"the sample nonce";
const PLAIN: Request<'_> =
    Request { host: "chat.example", path: "/ws?a=1", key: KEY, protocols: &["tidegate.v1"], fields: &[] };
const GOOD: &str = "HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    Sec-WebSocket-Protocol: tidegate.v1\r\n\
    \r\n";

#[test]
fn a_request_byte_by_byte() {
    let mut out = Vec::new();
    let fields = [("Origin", "https://chat.example"), ("Authorization", "Bearer x")];
    request(&mut out, &Request { protocols: &["a", "b"], fields: &fields, ..PLAIN }).expect("well-formed");
    assert_eq!(
        String::from_utf8(out).expect("text"),
        "GET /ws?a=1 HTTP/1.1\r\nHost: chat.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: a, b\r\nOrigin: https://chat.example\r\nAuthorization: Bearer x\r\n\r\n"
    );
}

#[test]
fn our_server_takes_our_request_and_our_client_its_answer() {
    for protocols in [[].as_slice(), &["tidegate.v1"], &["other", "tidegate.v1"]] {
        let mut asked = Vec::new();
        request(&mut asked, &Request { protocols, ..PLAIN }).expect("well-formed");
        let upgrade = server::parse(&asked).expect("valid").expect("complete");
        assert_eq!((upgrade.path, upgrade.query, upgrade.host), ("/ws", Some("a=1"), "chat.example"));
        let chosen = upgrade.offers("tidegate.v1").then_some("tidegate.v1");
        let mut answer = Vec::new();
        server::accept_response(&mut answer, &upgrade.key, chosen);
        let accepted = parse_response(&answer, &KEY, protocols).expect("valid").expect("complete");
        assert_eq!(accepted, Accepted { protocol: chosen, consumed: answer.len() });
    }
}

#[test]
fn what_would_change_other_lines_is_not_written() {
    let check = |bad: Request<'_>, wanted: RequestError| {
        let mut out = b"before".to_vec();
        assert_eq!(request(&mut out, &bad), Err(wanted), "{bad:?}");
        assert_eq!(out, b"before");
    };
    check(Request { host: "", ..PLAIN }, RequestError::Host);
    check(Request { host: "a\r\nX: y", ..PLAIN }, RequestError::Host);
    check(Request { path: "ws", ..PLAIN }, RequestError::Path);
    check(Request { path: "", ..PLAIN }, RequestError::Path);
    check(Request { path: "/a b", ..PLAIN }, RequestError::Path);
    check(Request { path: "/a#b", ..PLAIN }, RequestError::Path);
    check(Request { path: "/a\nb", ..PLAIN }, RequestError::Path);
    check(Request { protocols: &["a", "b,c"], ..PLAIN }, RequestError::Protocol);
    check(Request { protocols: &[""], ..PLAIN }, RequestError::Protocol);
    check(Request { fields: &[("A:", "b")], ..PLAIN }, RequestError::Field);
    check(Request { fields: &[("A", "b\r\nC: d")], ..PLAIN }, RequestError::Field);
}

#[test]
fn every_cut_of_a_good_answer_waits_for_the_rest() {
    for cut in 0..GOOD.len() {
        assert_eq!(parse_response(&GOOD.as_bytes()[..cut], &KEY, PLAIN.protocols), Ok(None), "cut {cut}");
    }
    let answer = format!("{GOOD}frames");
    let accepted =
        parse_response(answer.as_bytes(), &KEY, PLAIN.protocols).expect("valid").expect("complete");
    assert_eq!(accepted, Accepted { protocol: Some("tidegate.v1"), consumed: GOOD.len() });
}

#[test]
fn answers_not_believed() {
    let check = |answer: &str, wanted: ResponseError| {
        assert_eq!(parse_response(answer.as_bytes(), &KEY, PLAIN.protocols), Err(wanted), "{answer}");
    };
    let with = |line: &str, other: &str| {
        assert!(GOOD.contains(line), "{line}");
        GOOD.replace(line, other)
    };
    check("SSH-2.0-x\r\n", ResponseError::NotHttp);
    check(&with("HTTP/1.1", "HTTP/1.0"), ResponseError::NotHttp);
    check(&with("101 Switching Protocols", "200 OK"), ResponseError::Refused(200));
    check("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", ResponseError::Refused(401));
    check(&with("Upgrade: websocket\r\n", ""), ResponseError::NotUpgrade);
    check(&with("Connection: Upgrade\r\n", "Connection: close\r\n"), ResponseError::NotUpgrade);
    check(&with("xOo=", "xOO="), ResponseError::Accept);
    check(&with("s3p", "S3P"), ResponseError::Accept);
    check(&with("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", ""), ResponseError::Accept);
    check(&with("tidegate.v1", "tidegate.v2"), ResponseError::Protocol);
    check(&with("tidegate.v1", "Tidegate.v1"), ResponseError::Protocol);
    let twice = "tidegate.v1\r\nSec-WebSocket-Protocol: tidegate.v1";
    check(&with("tidegate.v1", twice), ResponseError::Protocol);
    let extended = "tidegate.v1\r\nSec-WebSocket-Extensions: permessage-deflate";
    check(&with("tidegate.v1", extended), ResponseError::Extension);
}

#[test]
fn an_answer_without_end_is_given_up() {
    let endless = format!("HTTP/1.1 101 x\r\nX: {}", "y".repeat(2 * HANDSHAKE_BYTES_MAX));
    let check = |bytes: usize, wanted: Result<Option<Accepted<'_>>, ResponseError>| {
        assert_eq!(parse_response(&endless.as_bytes()[..bytes], &KEY, &[]), wanted, "{bytes}");
    };
    check(HANDSHAKE_BYTES_MAX - 1, Ok(None));
    check(HANDSHAKE_BYTES_MAX, Err(ResponseError::NotHttp));
    check(endless.len(), Err(ResponseError::NotHttp));
}
