//! Harm from a seed: whatever is flipped, zeroed, cut or removed.

use super::{Made, check_repaired, make};
use std::fs::File;
use std::ops::Range;

/// Bits that are flipped in each segment of 64 KiB.
const FLIPS: [u64; 3] = [200, 100, 30];

/// Numbers from a seed (splitmix64, Steele and others, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below.max(1)
    }
}

fn harm_at_random(made: &Made, random: &mut Random) {
    let of = made.used[random.next(made.used.len() as u64) as usize];
    let Ok(bytes) = std::fs::metadata(made.path(of)).map(|metadata| metadata.len()) else { return };
    match random.next(10) {
        0 => std::fs::remove_file(made.path(of)).unwrap(),
        1 => File::options().write(true).open(made.path(of)).unwrap().set_len(random.next(bytes)).unwrap(),
        2..=4 => {
            let sector = random.next(bytes / 512) * 512;
            made.write(of, sector, &vec![0; 512 * (1 + random.next(6) as usize)]);
        }
        5 => _ = std::fs::remove_file(made.dir.join("MANIFEST")),
        _ => (0..1 + random.next(20))
            .for_each(|_| made.write(of, random.next(bytes), &[random.next(256) as u8])),
    }
}

/// The seeds to run; `TIDEGATE_REPAIR_SEED` runs one.
fn seeds(usual: Range<u64>) -> Range<u64> {
    match std::env::var("TIDEGATE_REPAIR_SEED") {
        Ok(seed) => seed.parse().map(|seed: u64| seed..seed + 1).unwrap(),
        Err(_) => usual,
    }
}

/// Whatever is flipped, zeroed, cut or removed at random.
#[test]
fn any_harm_is_repaired() {
    for seed in seeds(0..12) {
        println!("seed {seed}");
        let mut random = Random(seed);
        let made = make(random.next(2) == 0, random.next(3) == 0);
        (0..1 + random.next(8)).for_each(|_| harm_at_random(&made, &mut random));
        check_repaired(&made);
    }
}

/// Up to two hundred flipped bits in every segment: lengths and tables of batches rot together, so that many records in a row are one
/// lost stretch, though some of them would still read well alone. The chains of users were left linked to these, the copy failed
/// its verification, and `--dry-run` had said that all was well.
#[test]
fn many_flipped_bits_in_every_segment_are_repaired() {
    for seed in seeds(0..9) {
        println!("seed {seed}");
        let mut random = Random(1000 + seed);
        let made = make(random.next(2) == 0, random.next(3) == 0);
        for &of in &made.used {
            let path = made.path(of);
            let mut bytes = std::fs::read(&path).unwrap();
            for _ in 0..FLIPS[seed as usize % FLIPS.len()] {
                let at = random.next(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << random.next(8);
            }
            std::fs::write(path, bytes).unwrap();
        }
        check_repaired(&made);
    }
}
