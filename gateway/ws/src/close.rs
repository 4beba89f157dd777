//! Close codes and the payload of a close frame (RFC 6455, 5.5.1 and 7.4; the IANA registry for 1012 to 1014).

use crate::error::CloseError;

/// A close code that may stand on the wire: 1000 to 1003, 1007 to 1014, 3000 to 4999.
///
/// 1005, 1006 and 1015 only describe what a peer did not say; the others below 3000 are not assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(u16);

impl CloseCode {
    /// The purpose is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// The peer goes down or leaves.
    pub const GOING_AWAY: Self = Self(1001);
    /// A rule of RFC 6455 was broken.
    pub const PROTOCOL: Self = Self(1002);
    /// A kind of data that is not taken here, such as text.
    pub const UNSUPPORTED: Self = Self(1003);
    /// Text that is not UTF-8.
    pub const INVALID_DATA: Self = Self(1007);
    /// A rule of the endpoint was broken.
    pub const POLICY: Self = Self(1008);
    /// A frame or message above its limit.
    pub const TOO_BIG: Self = Self(1009);
    /// An extension the client needs was not negotiated.
    pub const EXTENSION_MISSING: Self = Self(1010);
    /// The endpoint met what it did not expect.
    pub const INTERNAL: Self = Self(1011);
    /// The service restarts.
    pub const RESTART: Self = Self(1012);
    /// The service is overloaded; come back later.
    pub const TRY_AGAIN: Self = Self(1013);

    /// `code`, if it may stand on the wire.
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number on the wire.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl std::fmt::Display for CloseCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads the payload of a close frame: empty, or a code and a reason in UTF-8.
pub(crate) fn parse(payload: &[u8]) -> Result<(Option<CloseCode>, &str), CloseError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok((None, "")) } else { Err(CloseError::CloseCut) };
    };
    let code = u16::from_be_bytes(*code);
    let code = CloseCode::new(code).ok_or(CloseError::CloseCodeInvalid(code))?;
    let reason = std::str::from_utf8(reason).map_err(|_| CloseError::CloseReasonInvalid)?;
    Ok((Some(code), reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_on_both_sides_of_every_border() {
        let check = |code: u16, valid: bool| assert_eq!(CloseCode::new(code).is_some(), valid, "{code}");
        for code in
            [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
        {
            check(code, true);
        }
        for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            check(code, false);
        }
    }

    #[test]
    fn payloads() {
        let check = |payload: &[u8], wanted: Result<(Option<CloseCode>, &str), CloseError>| {
            assert_eq!(parse(payload), wanted, "{payload:?}");
        };
        check(b"", Ok((None, "")));
        check(b"\x03", Err(CloseError::CloseCut));
        check(b"\x03\xE8", Ok((Some(CloseCode::NORMAL), "")));
        check(b"\x03\xE8bye", Ok((Some(CloseCode::NORMAL), "bye")));
        check(b"\x03\xEDbye", Err(CloseError::CloseCodeInvalid(1005)));
        check(b"\x03\xE8\xED\xA0\x80", Err(CloseError::CloseReasonInvalid));
        check(b"\x03\xE8\xE2\x82", Err(CloseError::CloseReasonInvalid));
    }
}
