//! The one source of chance of a run: SplitMix64 from the seed. The vault draws its keys from a stream of its own, which a
//! function without an argument has to reach.

use std::cell::Cell;

thread_local! {
    static SECRETS: Cell<u64> = const { Cell::new(0) };
}

/// Chance, from a seed.
pub struct Dice(u64);

impl Dice {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x0B07_A91D_5EED_0001)
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        roll(&mut self.0)
    }

    /// A number of `0..bound`; 0 when the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { (self.roll() >> 16) % bound }
    }

    /// A number of `from..to`; `from` when there is none.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from))
    }

    /// True in `of` of 1,000 cases.
    pub fn per_mille(&mut self, of: u64) -> bool {
        self.below(1_000) < of
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { Some(from[usize::try_from(self.below(from.len() as u64)).unwrap_or(0)]) }
    }

    /// Sixteen bytes, for ids and hashes.
    pub fn id(&mut self) -> [u8; 16] {
        let (high, low) = (self.roll(), self.roll());
        ((u128::from(high) << 64) | u128::from(low)).to_be_bytes()
    }
}

fn roll(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Begins the vault's stream of this thread anew.
pub fn seed_secrets(seed: u64) {
    SECRETS.set(seed ^ 0x5EC2_E750_0000_0000);
}

/// What the vault draws its keys with in a run.
pub fn fill_secret(bytes: &mut [u8]) {
    SECRETS.with(|secrets| {
        let mut state = secrets.get();
        for part in bytes.chunks_mut(8) {
            let rolled = roll(&mut state).to_le_bytes();
            part.copy_from_slice(&rolled[..part.len()]);
        }
        secrets.set(state);
    });
}
