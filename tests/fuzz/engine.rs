//! Seeded mutation of sound inputs, for every fuzz target: those of `tests/fuzz` and those beside crate-private codecs.
//!
//! Each case is made of (target, seed, number) alone, so one that fails is repeated alone. By default a target runs a
//! fixed number of cases, the same ones each time. By hand:
//!
//! ```text
//! FUZZ_SECONDS=600 FUZZ_SEED=7 cargo test --test fuzz             # each target for ten minutes
//! FUZZ_SEED=7 FUZZ_CASE=1234 cargo test --test fuzz <target>      # one case again
//! ```
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// Longest input that a mutation makes, in bytes.
const INPUT_BYTES_MAX: usize = 64 << 10;
/// Mutations of one case, at most.
const MUTATIONS_MAX: u64 = 6;
const SEED_DEFAULT: u64 = 1;

/// SplitMix64.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x005E_ED0F_BAD1_DEA5)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number of `0..bound`; 0 when the bound is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { ((self.next() >> 8) % bound as u64) as usize }
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn byte(&mut self) -> u8 {
        // What codecs trip over: edges of signs and lengths, markers of bincode's and LEB128's numbers, braces and quotes.
        const EDGES: [u8; 18] =
            [0, 1, 2, 0x7e, 0x7f, 0x80, 0x81, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff, b'"', b'{', b'\\', b'%', b'-'];
        if self.below(2) == 0 { *self.pick(&EDGES) } else { self.next() as u8 }
    }
}

/// Lengths that lie, as the codecs of this product write lengths: bincode's markers, LEB128, and fixed widths.
const LIES: [&[u8]; 12] = [
    &[0xfb, 0xff, 0xff],
    &[0xfc, 0xff, 0xff, 0xff, 0x7f],
    &[0xfc, 0x00, 0x00, 0x40, 0x00],
    &[0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xfd, 0x00, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0x80, 0x80, 0x80, 0x02],
    &[0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0x1f, 0x00],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    &[0x80, 0, 0, 0, 0, 0, 0, 0],
];

/// One target: its sound inputs, and the pieces that mutations put into them.
pub struct Target<'a> {
    /// As the test function is called; also part of each case's seed.
    pub name: &'a str,
    /// What repeats it: `--test fuzz` or `--lib`.
    pub place: &'a str,
    pub corpus: Vec<Vec<u8>>,
    pub dictionary: &'a [&'a str],
    /// Cases of an ordinary run.
    pub cases: u64,
}

#[allow(clippy::disallowed_methods, reason = "the settings of a run by hand come from the environment")]
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

#[allow(clippy::disallowed_methods, reason = "a run by hand is as long as it was told")]
fn clock() -> Instant {
    Instant::now()
}

impl Target<'_> {
    /// Runs the cases. `check` panics for an input that breaks a property; it also gets the case's chance.
    pub fn run(&self, check: impl Fn(&[u8], &mut Rng)) {
        assert!(!self.corpus.is_empty(), "a target begins with sound inputs");
        let seed = setting("FUZZ_SEED").unwrap_or(SEED_DEFAULT);
        if let Some(case) = setting("FUZZ_CASE") {
            return self.one(seed, case, &check);
        }
        let began = clock();
        let long = setting("FUZZ_SECONDS").map(Duration::from_secs);
        let more = |case: u64| long.map_or(case < self.cases, |long| began.elapsed() < long);
        let mut case = 0;
        while more(case) {
            self.one(seed, case, &check);
            case += 1;
        }
        println!("fuzz {}: seed {seed}, {case} cases", self.name);
    }

    fn one(&self, seed: u64, case: u64, check: &impl Fn(&[u8], &mut Rng)) {
        let mut rng = Rng::new(seed ^ fold(self.name.as_bytes()) ^ case.wrapping_mul(0xD1B5_4A32_D192_ED03));
        // The first cases are the sound inputs themselves.
        let sound = usize::try_from(case).ok().and_then(|case| self.corpus.get(case));
        let input = sound.cloned().unwrap_or_else(|| self.mutated(&mut rng));
        let checked = catch_unwind(AssertUnwindSafe(|| check(&input, &mut rng)));
        if let Err(broken) = checked {
            let (name, place) = (self.name, self.place);
            eprintln!("fuzz {name}: case {case} of seed {seed}, {} bytes:\n{}", input.len(), shown(&input));
            eprintln!("again: FUZZ_SEED={seed} FUZZ_CASE={case} cargo test {place} {name}");
            resume_unwind(broken);
        }
    }

    /// A sound input, changed a little or a lot.
    pub fn mutated(&self, rng: &mut Rng) -> Vec<u8> {
        let mut input = rng.pick(&self.corpus).clone();
        for _ in 0..=rng.below(MUTATIONS_MAX as usize) {
            self.mutate(&mut input, rng);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    fn mutate(&self, input: &mut Vec<u8>, rng: &mut Rng) {
        let at = rng.below(input.len() + 1);
        let end = (at + 1 + rng.below(16)).min(input.len());
        match rng.below(11) {
            0 if at < input.len() => input[at] ^= 1 << rng.below(8),
            1 if at < input.len() => input[at] = rng.byte(),
            2 => input.truncate(at),
            3 => insert(input, at, &[rng.byte()]),
            4 => insert(input, at, LIES[rng.below(LIES.len())]),
            5 => {
                let lie = *rng.pick(&LIES);
                let covered = (at + lie.len()).min(input.len());
                input.splice(at..covered, lie.iter().copied());
            }
            6 if at < end => drop(input.drain(at..end)),
            7 if at < end => {
                let piece = input[at..end].to_vec();
                let times = 1 + rng.below(40);
                (0..times).for_each(|_| insert(input, at, &piece));
            }
            8 => {
                let other = rng.pick(&self.corpus);
                let from = rng.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            9 if !self.dictionary.is_empty() => insert(input, at, rng.pick(self.dictionary).as_bytes()),
            _ => (0..=rng.below(8)).for_each(|_| insert(input, at, &[rng.byte()])),
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    if input.len() + piece.len() <= INPUT_BYTES_MAX {
        input.splice(at..at, piece.iter().copied());
    }
}

fn fold(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// As text where it is text, else in hexadecimal; cut where it is long.
fn shown(input: &[u8]) -> String {
    let cut = &input[..input.len().min(2_048)];
    match std::str::from_utf8(cut) {
        Ok(text) => format!("{text:?}"),
        Err(_) => cut.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// The lines of a corpus file; `#` begins a remark.
pub fn lines(text: &str) -> Vec<Vec<u8>> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.as_bytes().to_vec()).collect()
}

/// A mutated text: what is not UTF-8 becomes replacement characters.
pub fn text_of(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}
