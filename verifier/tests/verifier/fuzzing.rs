//! The fuzz targets without a fuzzer: every vector, and altered copies of each. They may refuse, they may not panic. A fuzzer with
//! coverage finds more: `make fuzz`.

use std::{fs, path::Path};

use ed25519_dalek::rand_core::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

#[path = "../../fuzz/forms.rs"]
mod forms;

/// Altered copies of each vector, for each target.
const COPIES: usize = 24;

#[test]
fn altered_vectors_are_refused_and_never_panic() {
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let vectors: Vec<Vec<u8>> = fs::read_dir(Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("vectors"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| fs::read(path).unwrap())
        // One that is large says no more, and takes most of the time.
        .filter(|vector| vector.len() < 200_000)
        .collect();
    assert!(vectors.len() > 200, "the vectors are there");
    for vector in &vectors {
        each(vector);
        for _ in 0..COPIES {
            let other = &vectors[random.next_u64() as usize % vectors.len()];
            each(&altered(vector, other, &mut random));
        }
    }
}

fn each(bytes: &[u8]) {
    forms::answer(bytes);
    forms::evidence(bytes);
    forms::files(bytes);
    forms::texts(bytes);
}

fn altered(vector: &[u8], other: &[u8], random: &mut TestRng) -> Vec<u8> {
    let mut bytes = vector.to_vec();
    for _ in 0..=random.next_u32() % 4 {
        if bytes.is_empty() {
            bytes.push(0);
        }
        let at = random.next_u64() as usize % bytes.len();
        match random.next_u32() % 6 {
            0 => bytes[at] ^= 1 << (random.next_u32() % 8),
            1 => bytes[at] = random.next_u32() as u8,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.next_u32() as u8),
            4 => drop(bytes.drain(at..(at + 1 + random.next_u64() as usize % 16).min(bytes.len()))),
            _ => {
                let from = random.next_u64() as usize % other.len().max(1);
                bytes.splice(at..at, other.iter().skip(from).take(64).copied());
            }
        }
    }
    bytes
}
