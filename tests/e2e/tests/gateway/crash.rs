//! The gateway is killed, again and again: what it acknowledged is there, and nothing else but what was sent.

use crate::lives::Lives;
use crate::stop::verify_log;
use tidegate_tests_e2e::limits::cycles;
use tidegate_tests_e2e::{Scene, Setup};

/// How often it is killed.
const KILLS: usize = 20;

#[test]
fn what_was_acknowledged_survives_kills_on_one_shard() {
    survive(&[1], 1);
}

#[test]
fn what_was_acknowledged_survives_kills_on_four_shards() {
    survive(&[4], 4);
}

#[test]
fn what_was_acknowledged_survives_kills_with_changing_numbers_of_shards() {
    survive(&[4, 1, 2, 3], 4);
}

#[track_caller]
fn survive(shards: &[u16], last: u16) {
    let scene = Scene::new();
    let data = scene.path().join("data");
    let mut lives = Lives::new(&scene);
    let kills = cycles(KILLS);
    for life in 0..kills {
        let setup = Setup::new(&data, shards[life % shards.len()]);
        lives.live(&setup, life + 1 == kills, || {});
    }
    verify_log(&data);
    lives.prove(&Setup::new(&data, last));
}
