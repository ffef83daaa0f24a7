//! Who of a queue is in, by numbers alone: so many a second, so many at one time, each for so long.
//!
//! The rate is kept by the instant up to which admissions are paid for; a second of it may be saved up. A batch is who was
//! admitted within a second: they pass together, and a bit for each says who has left before. A batch that everybody has
//! left is dropped.

use crate::domain::show::Admission;
use crate::domain::ticket::QueueNumber;
use crate::types::codec;
use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};

/// How long an admitted number may choose and buy.
pub const ADMITTED_FOR: Millis = Millis::from_mins(10);
/// Numbers in all batches, at most: with the entries within `STATE_BYTES_MAX`.
pub const NUMBERS_KEPT_MAX: u64 = 150_000;
/// Numbers that are passed over, at most; what is beyond is admitted for nobody.
const VOID_MAX: usize = 256;
/// Span of one batch, and what of the rate may be saved up.
const BATCH: Millis = Millis::from_secs(1);
/// The timer lets people in at most this often.
const TICK_PAUSE: Millis = Millis(200);

/// Who is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    pub admission: Admission,
    /// The last that entered.
    last: QueueNumber,
    /// Up to here all are admitted, or have passed.
    admitted: QueueNumber,
    /// In microseconds: admissions up to this instant are used up.
    paid_until_us: i64,
    admitted_at: Timestamp,
    batches: VecDeque<Batch>,
    /// Numbers that wait and that no ticket holds.
    void: BTreeSet<QueueNumber>,
    /// Admitted and neither left nor passed, as of the last change.
    active: u32,
}

/// Who was admitted within a second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Batch {
    first: QueueNumber,
    count: u32,
    at: Timestamp,
    active: u32,
    /// A bit for each who has left.
    #[serde(with = "codec::bytes")]
    left: Vec<u8>,
}

/// An admission: everyone up to a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    pub upto: QueueNumber,
    pub paid_until_us: i64,
}

/// Where a number stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// `position`: 1 is next.
    Waiting {
        position: u64,
    },
    Admitted {
        until: Timestamp,
    },
    Passed,
}

impl Batch {
    fn end(&self) -> u64 {
        self.first.0 + u64::from(self.count)
    }
    fn until(&self) -> Timestamp {
        self.at + ADMITTED_FOR
    }
    /// The place of a number's bit.
    fn place(&self, number: QueueNumber) -> Option<(usize, u8)> {
        let within = (self.first.0..self.end()).contains(&number.0);
        let offset = usize::try_from(number.0.checked_sub(self.first.0)?).ok().filter(|_| within)?;
        Some((offset / 8, 1 << (offset % 8)))
    }
    fn grow(&mut self, count: u32) {
        self.count += count;
        self.active += count;
        let bytes = usize::try_from(self.count.div_ceil(8)).unwrap_or(usize::MAX);
        self.left.resize(bytes, 0);
    }
}

impl Room {
    pub(super) fn new(admission: Admission) -> Self {
        let paid_until = (admission.opens_at - BATCH).0.saturating_mul(1_000);
        Self {
            admission,
            last: QueueNumber(0),
            admitted: QueueNumber(0),
            paid_until_us: paid_until,
            admitted_at: Timestamp(0),
            batches: VecDeque::new(),
            void: BTreeSet::new(),
            active: 0,
        }
    }

    /// Who waits.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.last.0 - self.admitted.0
    }
    /// Who is in, as of the last change.
    #[must_use]
    pub fn active(&self) -> u32 {
        self.active
    }
    /// Who ever entered.
    #[must_use]
    pub fn entered(&self) -> u64 {
        self.last.0
    }
    /// Before how many a number stands, itself included; 0 once it is admitted. Known from the counts alone.
    #[must_use]
    pub fn position(&self, number: QueueNumber) -> u64 {
        number.0.saturating_sub(self.admitted.0)
    }
    /// The number of who comes next.
    pub(super) fn next(&self) -> QueueNumber {
        QueueNumber(self.last.0 + 1)
    }

    /// Without the lists behind the counts.
    pub(super) fn counts(&self) -> Self {
        Self {
            admission: self.admission,
            last: self.last,
            admitted: self.admitted,
            paid_until_us: self.paid_until_us,
            admitted_at: self.admitted_at,
            batches: VecDeque::new(),
            void: BTreeSet::new(),
            active: self.active,
        }
    }

    fn per_admission_us(&self) -> i64 {
        1_000_000 / i64::from(self.admission.per_second.max(1))
    }

    fn active_at(&self, now: Timestamp) -> u32 {
        let gone = self.batches.iter().take_while(|batch| batch.until() <= now);
        self.active - gone.map(|batch| batch.active).sum::<u32>()
    }

    fn kept(&self) -> u64 {
        self.batches.iter().map(|batch| u64::from(batch.count)).sum()
    }

    /// Whom rate and room let in now, `entering` who are about to enter included; `None`: nobody.
    #[must_use]
    pub(super) fn admissible(&self, now: Timestamp, entering: u64) -> Option<Admitted> {
        if now < self.admission.opens_at {
            return None;
        }
        let now_us = now.0.saturating_mul(1_000);
        let paid = self.paid_until_us.max(now_us.saturating_sub(BATCH.0 * 1_000));
        let by_rate = u64::try_from(now_us.saturating_sub(paid) / self.per_admission_us()).unwrap_or(0);
        let by_room = u64::from(self.admission.active_max.saturating_sub(self.active_at(now)));
        let by_size = NUMBERS_KEPT_MAX.saturating_sub(self.kept());
        let count = by_rate.min(by_room).min(by_size).min(self.waiting() + entering);
        let cost = i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(self.per_admission_us());
        let admitted =
            Admitted { upto: QueueNumber(self.admitted.0 + count), paid_until_us: paid.saturating_add(cost) };
        (count > 0).then_some(admitted)
    }

    /// An estimate of how long a number waits: by the rate, and, beyond who finds room now, as if nobody left early.
    #[must_use]
    pub fn eta_seconds(&self, number: QueueNumber, now: Timestamp) -> u64 {
        let position = self.position(number);
        if position == 0 {
            return 0;
        }
        let by_rate = position.div_ceil(u64::from(self.admission.per_second.max(1)));
        let room = u64::from(self.admission.active_max.saturating_sub(self.active));
        let turn = u64::try_from(ADMITTED_FOR.0 / 1_000).unwrap_or(0);
        let by_room = (position.saturating_sub(room) * turn).div_ceil(u64::from(self.admission.active_max.max(1)));
        let opens_in = u64::try_from((self.admission.opens_at - now).0).unwrap_or(0).div_ceil(1_000);
        opens_in + by_rate.max(by_room)
    }

    /// Where a number stands.
    #[must_use]
    pub fn standing(&self, number: QueueNumber, now: Timestamp) -> Standing {
        if number > self.admitted {
            return Standing::Waiting { position: self.position(number) };
        }
        let found = self.batches.iter().find_map(|batch| Some((batch, batch.place(number)?)));
        match found {
            Some((batch, (byte, bit))) if batch.until() > now && batch.left[byte] & bit == 0 => {
                Standing::Admitted { until: batch.until() }
            }
            Some(_) | None => Standing::Passed,
        }
    }

    /// When the timer is wanted: while somebody waits or is in.
    pub(super) fn next_tick(&self) -> Option<Timestamp> {
        let Some(oldest) = self.batches.front() else {
            return (self.waiting() > 0).then(|| self.next_admission());
        };
        if self.waiting() == 0 {
            return self.batches.back().map(Batch::until);
        }
        let has_room = self.active < self.admission.active_max && self.kept() < NUMBERS_KEPT_MAX;
        Some(if has_room { self.next_admission() } else { oldest.until() })
    }

    fn next_admission(&self) -> Timestamp {
        let by_rate = Timestamp((self.paid_until_us.saturating_add(self.per_admission_us())).div_euclid(1_000) + 1);
        by_rate.max(self.admission.opens_at).max(self.admitted_at + TICK_PAUSE)
    }

    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.batches.front().is_some_and(|batch| batch.until() <= now)
    }

    pub(super) fn enter(&mut self) {
        self.last = self.next();
    }

    pub(super) fn sweep(&mut self, now: Timestamp) {
        while self.has_expired(now)
            && let Some(batch) = self.batches.pop_front()
        {
            self.active -= batch.active;
        }
    }

    pub(super) fn admit(&mut self, admitted: Admitted, at: Timestamp) {
        self.sweep(at);
        let first = QueueNumber(self.admitted.0 + 1);
        let count = u32::try_from(admitted.upto.0.saturating_sub(self.admitted.0)).unwrap_or(0);
        match self.batches.back_mut().filter(|batch| batch.end() == first.0 && at < batch.at + BATCH) {
            Some(batch) => batch.grow(count),
            None => {
                let mut batch = Batch { first, count: 0, at, active: 0, left: Vec::new() };
                batch.grow(count);
                self.batches.push_back(batch);
            }
        }
        self.active += count;
        (self.admitted, self.admitted_at, self.paid_until_us) = (admitted.upto, at, admitted.paid_until_us);
        let beyond = self.void.split_off(&QueueNumber(self.admitted.0 + 1));
        for number in std::mem::replace(&mut self.void, beyond) {
            self.leave(number);
        }
    }

    /// The number has left, or no ticket holds it.
    pub(super) fn leave(&mut self, number: QueueNumber) {
        if number > self.admitted {
            if self.void.len() < VOID_MAX {
                self.void.insert(number);
            }
            return;
        }
        let found = self.batches.iter_mut().enumerate().find_map(|(at, batch)| Some((at, batch.place(number)?)));
        let Some((at, (byte, bit))) = found else { return };
        let batch = &mut self.batches[at];
        if batch.left[byte] & bit != 0 {
            return;
        }
        batch.left[byte] |= bit;
        batch.active -= 1;
        self.active -= 1;
        if batch.active == 0 {
            self.batches.remove(at);
        }
    }
}
