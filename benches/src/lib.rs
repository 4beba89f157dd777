//! Benchmarks with their controls.
