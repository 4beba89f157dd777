//! Verification of a body, once, with limits tightened to the frame, and the checks that a table's types cannot
//! say: integers below 2^53, known values, lengths.

use crate::error::DecodeError;
use crate::limits::{VERIFIER_APPARENT_FACTOR, VERIFIER_DEPTH_MAX, VERIFIER_TABLES_MAX};
use flatbuffers::{Follow, Vector, Verifiable, VerifierOptions};
use tidegate_ids::INTEGER_MAX;

/// Verifies a body as a root of the given table.
pub(crate) fn root<'a, T>(body: &'a [u8]) -> Result<T::Inner, DecodeError>
where
    T: Follow<'a> + Verifiable + 'a,
{
    let options = VerifierOptions {
        max_depth: VERIFIER_DEPTH_MAX,
        max_tables: VERIFIER_TABLES_MAX,
        max_apparent_size: body.len().saturating_mul(VERIFIER_APPARENT_FACTOR),
        ignore_missing_null_terminator: true,
    };
    flatbuffers::root_with_opts::<T>(&options, body).or(Err(DecodeError::Malformed))
}

/// An integer that a browser can hold.
pub(crate) const fn integer(value: u64, field: &'static str) -> Result<u64, DecodeError> {
    if value > INTEGER_MAX { Err(DecodeError::IntegerTooLarge(field)) } else { Ok(value) }
}

/// A vector of integers that a browser can hold, of a bounded count.
pub(crate) fn integers(
    vector: Option<Vector<'_, u64>>,
    count_max: usize,
    field: &'static str,
) -> Result<(), DecodeError> {
    let Some(vector) = vector else { return Ok(()) };
    count(vector.len(), count_max, field)?;
    vector.iter().try_for_each(|value| integer(value, field).map(|_| ()))
}

/// A bounded count of items or bytes.
pub(crate) const fn count(value: usize, max: usize, field: &'static str) -> Result<(), DecodeError> {
    if value > max { Err(DecodeError::TooLarge(field)) } else { Ok(()) }
}

/// A bounded piece of bytes; an absent one is empty.
pub(crate) fn bytes<'a>(
    vector: Option<Vector<'a, u8>>,
    bytes_max: usize,
    field: &'static str,
) -> Result<&'a [u8], DecodeError> {
    let bytes = vector.map_or(&[][..], |vector| vector.bytes());
    count(bytes.len(), bytes_max, field)?;
    Ok(bytes)
}
