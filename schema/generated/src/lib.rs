//! Code that `cargo xtask gen` makes from the `.fbs` files (schema/README.md); nothing here is written by hand
//! but this file.
//!
//! Rooms other than `schema` do not use it: `schema` verifies bytes and hands out plain structs.
#![allow(unsafe_code, missing_docs, rust_2018_idioms, unused_imports, clippy::all, clippy::pedantic)]
#![allow(clippy::unwrap_used, clippy::cast_lossless, clippy::needless_pass_by_value)]
#![allow(clippy::semicolon_if_nothing_returned)]

// The file stays as flatc writes it, so that a comparison with a fresh run is byte by byte.
#[rustfmt::skip]
mod tidegate_generated;

pub use tidegate_generated::tidegate::*;
