//! Sizes, charges and fits.

use super::*;

const MIB: u64 = 1 << 20;

fn limits(memlock_bytes: u64) -> Limits {
    Limits { memlock_bytes: Some(memlock_bytes), descriptors: Some(20_000) }
}

/// The two sizes that were measured: twelve rings and forty fit 8 MiB.
#[test]
fn the_charge_is_what_was_measured() {
    let check = |submission_entries, completion_entries, buffers, rings| {
        let config = Config { submission_entries, completion_entries, buffers, ..Config::default() };
        assert_eq!(8 * MIB / config.memory_needed(), rings);
    };
    check(4096, 16_384, 8192, 12);
    check(1024, 4096, 4096, 40);
}

#[test]
fn rings_are_halved_until_they_fit() {
    let check = |memlock, rings, submission, completion, buffers| {
        let config = Config::default().fitted(rings, &limits(memlock)).expect("it fits");
        assert_eq!(
            (config.submission_entries, config.completion_entries, config.buffers),
            (submission, completion, buffers)
        );
        assert_eq!(config.rings, rings);
        assert!(config.memory_needed() * u64::from(rings) <= memlock);
        config.check().expect("a halved configuration is sound");
    };
    check(8 * MIB, 1, 2048, 8192, 2048);
    check(8 * MIB, 4, 2048, 8192, 2048);
    check(8 * MIB, 20, 2048, 8192, 2048);
    check(8 * MIB, 40, 1024, 4096, 1024);
    check(8 * MIB, 64, 512, 2048, 512);
}

#[test]
fn what_cannot_fit_says_what_to_raise() {
    let check = |memlock, rings, kib: u64| {
        let error = Config::default().fitted(rings, &limits(memlock)).expect_err("too little");
        let SetupError::Memlock { limit_bytes, needed_bytes, rings: named } = error else {
            panic!("{error}")
        };
        assert_eq!((limit_bytes, named), (memlock, rings));
        let words = error.to_string();
        assert!(words.contains(&format!("ulimit -l {kib}`")), "{words}");
        assert!(words.contains(&format!("LimitMEMLOCK={kib}K")), "{words}");
        // What it asks for is enough, and a kibibyte less is not.
        assert!(Config::default().fitted(rings, &limits(needed_bytes.div_ceil(1024) * 1024)).is_ok());
        assert!(Config::default().fitted(rings, &limits(needed_bytes - 1024)).is_err());
    };
    check(64 << 10, 1, 87);
    check(64 << 10, 4, 348);
    check(0, 1, 87);
}

#[test]
fn without_a_charge_nothing_is_cut() {
    let none = Limits { memlock_bytes: None, descriptors: None };
    let config = Config::default().fitted(64, &none).expect("nothing to fit");
    assert_eq!(config, Config { rings: 64, ..Config::default() });
}

#[test]
fn slots_are_cut_to_the_descriptors() {
    let few = Limits { memlock_bytes: None, descriptors: Some(1000) };
    assert_eq!(Config::default().fitted(1, &few).expect("it fits").slots, 1000);
}

#[test]
fn a_configuration_that_the_kernel_would_refuse_is_refused_here() {
    let check = |change: fn(&mut Config)| {
        let mut config = Config::default();
        config.check().expect("the default is sound");
        change(&mut config);
        assert!(matches!(config.check(), Err(SetupError::Config(_))));
    };
    check(|config| config.submission_entries = 1000);
    check(|config| config.submission_entries = 1 << 16);
    check(|config| config.submission_entries = 8192);
    check(|config| config.completion_entries = 1 << 17);
    check(|config| config.slots = 0);
    check(|config| config.slots = SLOTS_MAX + 1);
    check(|config| config.buffers = 0);
    check(|config| config.buffers = 100);
    check(|config| config.buffer_bytes = 0);
    check(|config| config.buffer_bytes = BUFFER_BYTES_MAX + 1);
}
