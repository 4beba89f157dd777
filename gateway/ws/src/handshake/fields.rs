//! The field lines of a head that `httparse` has accepted, walked again without a table on the heap.

/// Name and value of each field line in `head`; values are without the white space around them. A request or status line
/// may come out too, under a name with a space in it, which is nobody's.
pub(super) fn fields(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    head.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((line[..colon].trim_ascii(), line[colon + 1..].trim_ascii()))
    })
}

/// The values of all fields called `name`, whatever their case.
pub(super) fn values<'a>(head: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
    fields(head).filter(move |(field, _)| field.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
}

/// The value of the only field called `name`: `Ok(None)` without one.
///
/// # Errors
/// There are several.
pub(super) fn single<'a>(head: &'a [u8], name: &str) -> Result<Option<&'a [u8]>, Repeated> {
    let mut values = values(head, name);
    let first = values.next();
    if values.next().is_some() { Err(Repeated) } else { Ok(first) }
}

/// A field that may stand once stands several times.
pub(super) struct Repeated;

/// The members of the comma-separated lists in all fields called `name`; empty members are left out (RFC 9110, 5.6.1).
pub(super) fn list<'a>(head: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
    values(head, name)
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// Whether a list field holds `member`, whatever its case.
pub(super) fn list_holds(head: &[u8], name: &str, member: &str) -> bool {
    list(head, name).any(|found| found.eq_ignore_ascii_case(member.as_bytes()))
}

/// Whether `text` is a token (RFC 9110, 5.6.2): not empty, no separators, no white space, no controls.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty()
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// Whether `text` may stand in a field value that we write: visible characters and spaces, so nothing that ends a line.
pub(super) fn is_field_text(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}
