//! Requests that are taken and refused.

use super::*;

const GOOD: &str = "GET /ws?a=1&b=2 HTTP/1.1\r\n\
    Host: chat.example:8080\r\n\
    Upgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\
    \r\n";

fn parsed(request: &str) -> Upgrade<'_> {
    parse(request.as_bytes()).expect("valid").expect("complete")
}

/// The good request with one line replaced.
fn with(line: &str, other: &str) -> String {
    assert!(GOOD.contains(line), "{line}");
    GOOD.replace(line, other)
}

/// The good request with further lines.
fn and(lines: &str) -> String {
    GOOD.replace("\r\n\r\n", &format!("\r\n{lines}\r\n\r\n"))
}

#[test]
fn what_a_request_says() {
    let request = and("Origin: https://chat.example\r\nAuthorization: Bearer x") + "frames";
    let upgrade = parsed(&request);
    assert_eq!(upgrade.path, "/ws");
    assert_eq!(upgrade.query, Some("a=1&b=2"));
    assert_eq!(upgrade.host, "chat.example:8080");
    assert_eq!(upgrade.origin, Some("https://chat.example"));
    assert_eq!(upgrade.field("authorization"), Some(b"Bearer x".as_slice()));
    assert_eq!(upgrade.field("cookie"), None);
    assert_eq!(&request.as_bytes()[upgrade.consumed..], b"frames");
    assert_eq!(parsed(GOOD).origin, None);
}

#[test]
fn every_cut_of_a_good_request_waits_for_the_rest() {
    for cut in 0..GOOD.len() {
        assert!(parse(&GOOD.as_bytes()[..cut]).expect("no error yet").is_none(), "cut {cut}");
    }
    assert!(parse(GOOD.as_bytes()).expect("valid").is_some());
}

#[test]
fn targets() {
    let check = |target: &str, wanted: Result<(&str, Option<&str>), HandshakeError>| {
        let request = with("/ws?a=1&b=2", target);
        let found = parse(request.as_bytes()).map(|upgrade| {
            let upgrade = upgrade.expect("complete");
            (upgrade.path, upgrade.query)
        });
        assert_eq!(found, wanted, "{target}");
    };
    check("/", Ok(("/", None)));
    check("/ws", Ok(("/ws", None)));
    check("/ws?", Ok(("/ws", Some(""))));
    check("/ws?a?b", Ok(("/ws", Some("a?b"))));
    check("/%20?u=ws://x/y", Ok(("/%20", Some("u=ws://x/y"))));
    check("/redirect/ws://x/y", Ok(("/redirect/ws://x/y", None)));
    check("ws://chat.example/ws?a", Ok(("/ws", Some("a"))));
    check("HTTPS://chat.example", Ok(("/", None)));
    check("ftp://chat.example/ws", Err(HandshakeError::Target));
    check("ws://chat.example?a", Err(HandshakeError::Target));
    check("/ws#part", Err(HandshakeError::Target));
    check("/w\u{e9}", Err(HandshakeError::Target));
    check("*", Err(HandshakeError::Target));
    // What stands in the target is no field.
    check("/?Origin:x", Ok(("/", Some("Origin:x"))));
    check("/Sec-WebSocket-Protocol:,", Ok(("/Sec-WebSocket-Protocol:,", None)));
    check("ws", Err(HandshakeError::Target));
    check("?a", Err(HandshakeError::Target));
}

#[test]
fn protocols_are_listed_in_order_over_several_lines() {
    let check = |lines: &str, wanted: &[&str]| {
        let request = and(lines);
        let upgrade = parsed(&request);
        assert_eq!(upgrade.protocols().collect::<Vec<_>>(), wanted, "{lines}");
    };
    check("Sec-WebSocket-Protocol: tidegate.v1", &["tidegate.v1"]);
    check("Sec-WebSocket-Protocol: b ,a,, c", &["b", "a", "c"]);
    check("sec-websocket-protocol: b\r\nSEC-WEBSOCKET-PROTOCOL: a", &["b", "a"]);
    check("Sec-WebSocket-Protocol: ", &[]);
    let request = and("Sec-WebSocket-Protocol: x, tidegate.v1");
    assert!(parsed(&request).offers("tidegate.v1"));
    assert!(!parsed(&request).offers("Tidegate.V1"));
    assert!(!parsed(&request).offers("tidegate"));
}

#[test]
fn extensions_are_read_over_and_never_answered() {
    let request = and("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits");
    let mut out = Vec::new();
    accept_response(&mut out, &parsed(&request).key, None);
    assert!(!String::from_utf8(out).expect("text").to_ascii_lowercase().contains("extension"));
}

#[test]
fn names_are_compared_without_case_and_lists_by_member() {
    for request in [
        with("Upgrade: websocket", "UPGRADE: WebSocket"),
        with("Upgrade: websocket", "Upgrade: h2c, websocket"),
        with("Connection: keep-alive, Upgrade", "connection: upgrade"),
        with("Connection: keep-alive, Upgrade", "Connection: keep-alive\r\nConnection: upgrade"),
        and("Content-Length: 0"),
        format!("\r\n\r\n{GOOD}"),
    ] {
        assert_eq!(parsed(&request).consumed, request.len());
    }
}

#[test]
fn refusals() {
    let check = |request: &str, error: HandshakeError, status: u16| {
        assert_eq!(parse(request.as_bytes()).map(|_| ()), Err(error), "{request}");
        assert_eq!(error.status() as u16, status);
    };
    check("\x16\x03\x01\x02\x00\x01", HandshakeError::NotHttp, 400);
    check("GET /ws\r\n\r\n", HandshakeError::NotHttp, 400);
    check(&GOOD.replace("HTTP/1.1", "HTTP/1.0"), HandshakeError::Version, 400);
    check(&GOOD.replace("HTTP/1.1", "HTTP/2.0"), HandshakeError::Version, 400);
    check(&GOOD.replace("GET", "POST"), HandshakeError::Method, 405);
    check(&GOOD.replace("GET", "get"), HandshakeError::Method, 405);
    check(&with("Host: chat.example:8080\r\n", ""), HandshakeError::Host, 400);
    check(&and("Host: other"), HandshakeError::Host, 400);
    check(&with("chat.example:8080", "chat\u{e9}"), HandshakeError::Host, 400);
    check(&with("Upgrade: websocket\r\n", ""), HandshakeError::NotUpgrade, 426);
    check(&with("Upgrade: websocket", "Upgrade: websockets"), HandshakeError::NotUpgrade, 426);
    check(&with("Connection: keep-alive, Upgrade\r\n", ""), HandshakeError::Connection, 400);
    check(&with("keep-alive, Upgrade", "keep-alive"), HandshakeError::Connection, 400);
    check(&with("Version: 13", "Version: 8"), HandshakeError::WebSocketVersion, 426);
    check(&with("Version: 13", "Version: 13, 8"), HandshakeError::WebSocketVersion, 426);
    check(&and("Sec-WebSocket-Version: 13"), HandshakeError::WebSocketVersion, 426);
    check(&with("Sec-WebSocket-Version: 13\r\n", ""), HandshakeError::WebSocketVersion, 426);
    check(&with("dGhlIHNhbXBsZSBub25jZQ==", ""), HandshakeError::Key, 400);
    check(&with("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ=="), HandshakeError::Key, 400);
    check(&and("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), HandshakeError::Key, 400);
    check(&and("Sec-WebSocket-Protocol: a b"), HandshakeError::Protocol, 400);
    check(&and("Sec-WebSocket-Protocol: a, b, a"), HandshakeError::Protocol, 400);
    let many: Vec<String> = (0..=PROTOCOLS_MAX).map(|number| format!("p{number}")).collect();
    check(&and(&format!("Sec-WebSocket-Protocol: {}", many.join(","))), HandshakeError::Protocol, 400);
    check(&and("Origin: a\r\nOrigin: b"), HandshakeError::Origin, 400);
    check(&and("Content-Length: 5"), HandshakeError::Body, 400);
    check(&and("Content-Length: 0\r\nContent-Length: 5"), HandshakeError::Body, 400);
    check(&and("Transfer-Encoding: chunked"), HandshakeError::Body, 400);
    check(&and("X-Folded: a\r\n b"), HandshakeError::NotHttp, 400);
    check(&and("Bad Name: a"), HandshakeError::NotHttp, 400);
}

#[test]
fn a_head_of_the_longest_length_is_taken_and_one_byte_more_is_not() {
    let padded = |head_bytes: usize| {
        let frame = and("X-Pad: ").len();
        and(&format!("X-Pad: {}", "x".repeat(head_bytes - frame)))
    };
    let longest = padded(HANDSHAKE_BYTES_MAX);
    assert_eq!(parsed(&longest).consumed, HANDSHAKE_BYTES_MAX);
    let request = longest + "frames that came with it";
    assert_eq!(parsed(&request).consumed, HANDSHAKE_BYTES_MAX);
    let longer = padded(HANDSHAKE_BYTES_MAX + 1);
    for cut in [HANDSHAKE_BYTES_MAX, HANDSHAKE_BYTES_MAX + 1] {
        assert_eq!(parse(&longer.as_bytes()[..cut]).map(|_| ()), Err(HandshakeError::TooLong));
    }
    assert!(parse(&longer.as_bytes()[..HANDSHAKE_BYTES_MAX - 1]).expect("no error yet").is_none());
    assert_eq!(HandshakeError::TooLong.status() as u16, 431);
}

#[test]
fn more_fields_than_the_table_holds_are_refused() {
    let fields = |count: usize| and(&vec!["X: y"; count].join("\r\n"));
    let own = GOOD.matches(": ").count();
    assert!(parse(fields(HANDSHAKE_FIELDS_MAX - own).as_bytes()).is_ok());
    let request = fields(HANDSHAKE_FIELDS_MAX - own + 1);
    assert_eq!(parse(request.as_bytes()).map(|_| ()), Err(HandshakeError::TooManyFields));
    assert_eq!(HandshakeError::TooManyFields.status() as u16, 431);
}

#[test]
fn responses() {
    let key = parsed(GOOD).key;
    let check = |write: &dyn Fn(&mut Vec<u8>), wanted: &str| {
        let mut out = Vec::new();
        write(&mut out);
        assert_eq!(String::from_utf8(out).expect("text"), wanted);
    };
    check(
        &|out| accept_response(out, &key, Some("tidegate.v1")),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: tidegate.v1\r\n\r\n",
    );
    check(
        &|out| HandshakeError::Method.response(out),
        "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nConnection: close\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: 21\r\n\r\nWebSocket needs GET.\n",
    );
    check(
        &|out| HandshakeError::WebSocketVersion.response(out),
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nConnection: close\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: 34\r\n\r\nThe WebSocket version must be 13.\n",
    );
    check(
        &|out| reject_response(out, Status::NotFound, ""),
        "HTTP/1.1 404 Not Found\r\nConnection: close\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: 1\r\n\r\n\n",
    );
}

#[test]
fn a_refusal_says_its_true_length() {
    for text_bytes in [0, 8, 9, 98, 99, 512, 600] {
        let mut out = Vec::new();
        reject_response(&mut out, Status::ServiceUnavailable, &"x".repeat(text_bytes));
        let response = String::from_utf8(out).expect("text");
        let (head, body) = response.split_once("\r\n\r\n").expect("a head");
        let length = head.rsplit("Content-Length: ").next().and_then(|digits| digits.parse().ok());
        assert_eq!(length, Some(body.len()), "{text_bytes}");
    }
}
