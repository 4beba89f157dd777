//! Both halves of the opening handshake: no panic, nothing consumed that is not there, and the same answer when
//! bytes of a message follow.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_ws::{client, server};

const KEY: [u8; 16] = [3; 16];

fuzz_target!(|data: &[u8]| {
    match server::parse(data) {
        Ok(Some(upgrade)) => {
            assert!(upgrade.consumed <= data.len());
            let mut out = Vec::new();
            let protocols: Vec<&str> = upgrade.protocols().collect();
            server::accept_response(&mut out, &upgrade.key, protocols.first().copied());
            let mut longer = data.to_vec();
            longer.extend_from_slice(&[0x82, 0x80, 1, 2, 3, 4]);
            let again = server::parse(&longer).unwrap().unwrap();
            assert_eq!((again.consumed, again.path), (upgrade.consumed, upgrade.path));
        }
        Ok(None) => {}
        Err(error) => {
            let mut out = Vec::new();
            error.response(&mut out);
            assert!(out.starts_with(b"HTTP/1.1 4"));
        }
    }
    if let Ok(Some(accepted)) = client::parse_response(data, &KEY, &["tidegate.v1"]) {
        assert!(accepted.consumed <= data.len());
    }
});
