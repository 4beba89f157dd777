//! The wire contract: frames, verification, encoding.
