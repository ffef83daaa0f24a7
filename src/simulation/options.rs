//! Swarm options: which faults a seed brings. Printed with the seed, so that a run can be read and repeated.

use crate::simulation::dice::Dice;
use std::fmt;

/// Everything that can go wrong, by the name under which it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultClass {
    Kill,
    PowerCut,
    /// All nodes lose their power in one moment.
    Blackout,
    Pause,
    Partition,
    OneWayCut,
    Flap,
    FrameDrop,
    FrameDouble,
    FrameDelay,
    SlowDisk,
    DiskError,
    DiskFull,
    SlowApplier,
    Transfer,
    Amnesia,
    Move,
    BitFlip,
    ClockSkew,
    ClockJump,
    AcceptThenTimeout,
    AcceptThenError,
    Throttle,
    SlowProvider,
    Refusal,
    Unreachable,
    LateTruth,
    LateCapture,
    LostAnswer,
}

impl FaultClass {
    pub const ALL: [Self; 29] = [
        Self::Kill,
        Self::PowerCut,
        Self::Blackout,
        Self::Pause,
        Self::Partition,
        Self::OneWayCut,
        Self::Flap,
        Self::FrameDrop,
        Self::FrameDouble,
        Self::FrameDelay,
        Self::SlowDisk,
        Self::DiskError,
        Self::DiskFull,
        Self::SlowApplier,
        Self::Transfer,
        Self::Amnesia,
        Self::Move,
        Self::BitFlip,
        Self::ClockSkew,
        Self::ClockJump,
        Self::AcceptThenTimeout,
        Self::AcceptThenError,
        Self::Throttle,
        Self::SlowProvider,
        Self::Refusal,
        Self::Unreachable,
        Self::LateTruth,
        Self::LateCapture,
        Self::LostAnswer,
    ];

    /// As reports name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::PowerCut => "power_cut",
            Self::Blackout => "blackout",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::OneWayCut => "one_way_cut",
            Self::Flap => "flap",
            Self::FrameDrop => "frame_drop",
            Self::FrameDouble => "frame_double",
            Self::FrameDelay => "frame_delay",
            Self::SlowDisk => "slow_disk",
            Self::DiskError => "disk_error",
            Self::DiskFull => "disk_full",
            Self::SlowApplier => "slow_applier",
            Self::Transfer => "transfer",
            Self::Amnesia => "amnesia",
            Self::Move => "move",
            Self::BitFlip => "bit_flip",
            Self::ClockSkew => "clock_skew",
            Self::ClockJump => "clock_jump",
            Self::AcceptThenTimeout => "accept_then_timeout",
            Self::AcceptThenError => "accept_then_error",
            Self::Throttle => "throttle",
            Self::SlowProvider => "slow_provider",
            Self::Refusal => "refusal",
            Self::Unreachable => "unreachable",
            Self::LateTruth => "late_truth",
            Self::LateCapture => "late_capture",
            Self::LostAnswer => "lost_answer",
        }
    }

    /// Begun by the schedule of faults, one at a time. The others strike single frames, calls and answers.
    #[must_use]
    pub fn is_scheduled(self) -> bool {
        match self {
            Self::FrameDrop
            | Self::FrameDouble
            | Self::FrameDelay
            | Self::LateTruth
            | Self::LateCapture
            | Self::LostAnswer => false,
            Self::Kill
            | Self::PowerCut
            | Self::Blackout
            | Self::Pause
            | Self::Partition
            | Self::OneWayCut
            | Self::Flap
            | Self::SlowDisk
            | Self::DiskError
            | Self::DiskFull
            | Self::SlowApplier
            | Self::Transfer
            | Self::Amnesia
            | Self::Move
            | Self::BitFlip
            | Self::ClockSkew
            | Self::ClockJump
            | Self::AcceptThenTimeout
            | Self::AcceptThenError
            | Self::Throttle
            | Self::SlowProvider
            | Self::Refusal
            | Self::Unreachable => true,
        }
    }
}

/// A breakage built in on purpose, in the simulator's own host, to prove that the checkers see. The three of the shard core,
/// the one of the driver and those of the neighbours (`defects`) exist in builds with debug assertions only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Defect {
    #[default]
    None,
    /// The host answers its client when the record is proposed.
    AckBeforeCommit,
    /// The host says "durable" before it is.
    SkipFsync,
    /// The core offers raft what was queued behind a refused proposal.
    GoOnAfterDrop,
    /// The core leads again under the claim of an earlier term.
    KeepOldClaim,
    /// The core answers its leader before its own disk has answered.
    SendBeforePersisted,
    /// The call is made when its permit comes, not when its record is applied.
    SendBeforeRecord,
    /// The first byte is written however late it is.
    LateFirstByte,
    /// A timeout is taken for a refusal, so that another channel follows.
    AnotherChannel,
    /// An earlier try with an unknown outcome is forgotten.
    PriorForgotten,
    /// Every try goes out under a key of its own.
    KeyRenewed,
    /// A refund is asked for twice, under two keys.
    RefundTwice,
    /// The rows of idempotency keys are not looked at.
    ForgetDedup,
    /// What has left memory is not woken again.
    DropTimer,
    /// Timers fire by the leader's own clock.
    OwnClock,
    /// Personal data is stored as it is.
    SealOpen,
    /// A follower leaves an entry out.
    SkipEntry,
    /// A node without its disk comes back under its old id.
    SameIdAgain,
    /// The driver says no before what it decided on is applied.
    RefuseEarly,
    /// What a provider refuses for now is asked again at once, without a record and without end.
    UnboundedRetry,
    /// A node that its shard was moved away from goes on answering for it.
    HostAfterMove,
    /// An entity that did not answer another one in time is said to have refused.
    UnknownIsNo,
    /// A shipment is said to be taken back that nobody took back.
    UnshipClaimed,
    /// A refund of an order is said to be made that nobody asked for.
    RefundClaimed,
    /// An area does not look who has the seats.
    SeatTwice,
    /// Seats are said to be released that nobody released.
    SeatsKept,
    /// A queue lets in more than there is room for.
    RoomForAll,
    /// A campaign grants again what is on its way.
    CouponTooMany,
    /// A part of a campaign gets twice its share.
    PartShareTwice,
    /// A part of a campaign does not know its whole: its coupons are its own, so a member gets one of each part.
    CouponOfEachPart,
    /// A member is told that all coupons are gone when those of one part are.
    OnePartAsked,
    /// A stock gives what it does not have.
    StockBelowZero,
    /// Units are said to be released that nobody released.
    StockKept,
    /// A wallet holds what is not in it.
    WalletBelowZero,
    /// A wallet books what was captured for it twice.
    ChargedTwice,
    /// A node that does not lead answers what needs no record, from what it has applied so far.
    FollowerAnswers,
}

impl Defect {
    pub const ALL: [Self; 35] = [
        Self::AckBeforeCommit,
        Self::SkipFsync,
        Self::GoOnAfterDrop,
        Self::KeepOldClaim,
        Self::SendBeforePersisted,
        Self::SendBeforeRecord,
        Self::LateFirstByte,
        Self::AnotherChannel,
        Self::PriorForgotten,
        Self::KeyRenewed,
        Self::RefundTwice,
        Self::ForgetDedup,
        Self::DropTimer,
        Self::OwnClock,
        Self::SealOpen,
        Self::SkipEntry,
        Self::SameIdAgain,
        Self::RefuseEarly,
        Self::UnboundedRetry,
        Self::HostAfterMove,
        Self::UnknownIsNo,
        Self::UnshipClaimed,
        Self::RefundClaimed,
        Self::SeatTwice,
        Self::SeatsKept,
        Self::RoomForAll,
        Self::CouponTooMany,
        Self::PartShareTwice,
        Self::CouponOfEachPart,
        Self::OnePartAsked,
        Self::StockBelowZero,
        Self::StockKept,
        Self::WalletBelowZero,
        Self::ChargedTwice,
        Self::FollowerAnswers,
    ];

    /// By the name of its variant, `None` too.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::None]).find(|defect| format!("{defect:?}") == name)
    }
}

/// Where faults are not dense, single things meet them so many times less often.
const SPARSE: u64 = 10;
/// What a run takes beside its minutes with faults, and the most gifts that are reserved in an hour.
pub const QUIET_MINUTES: u64 = 57;
const GIFTS_PER_HOUR_MAX: u64 = 3_600;

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    /// Simulated minutes with faults, before everything heals.
    pub minutes: u64,
    /// Voters that found the group.
    pub voters: u64,
    /// Gifts that are reserved in an hour.
    pub gifts_per_hour: u64,
    /// Mean time between two scheduled faults, in seconds.
    pub fault_every_s: u64,
    /// Single frames, calls and answers meet something often; else a tenth as often.
    pub dense: bool,
    /// Requests that go to any node, in thousandths; the others go to one that leads.
    pub strays: u64,
    pub faults: Vec<FaultClass>,
    /// Logs are kept so short that a follower that lags gets a snapshot.
    pub short_logs: bool,
    /// So little may be uncommitted that raft refuses entries.
    pub tight: bool,
    /// Sends by Kakao that may share a call; 1: each alone. With more, calls to it that get lost may arrive late.
    pub batch_max: usize,
    /// Broken on purpose: what is in an open batch is repeated alone.
    pub batches_forgotten: bool,
    pub defect: Defect,
}

impl Options {
    /// The options of a seed: each fault class is on in six cases of ten, and in one seed of six faults are dense. Over
    /// the whole run, its quiet end included, there are about 1,100 gifts an hour, as far as that goes.
    #[must_use]
    pub fn of_seed(seed: u64, minutes: u64) -> Self {
        let dense = seed.is_multiple_of(6);
        let gifts = (1_100 * (minutes + QUIET_MINUTES) / (minutes + 2)).min(GIFTS_PER_HOUR_MAX);
        let mut dice = Dice::new(seed ^ 0x0415_0115);
        let faults = FaultClass::ALL.into_iter().filter(|_| dice.per_mille(600)).collect();
        Self {
            seed,
            minutes,
            voters: [3, 3, 1, 3, 5, 3, 3, 3][usize::try_from(seed % 8).unwrap_or(0)],
            gifts_per_hour: dice.between(gifts * 9 / 10, gifts * 11 / 10),
            fault_every_s: if dense { dice.between(25, 60) } else { dice.between(60, 120) },
            dense,
            strays: 60,
            faults,
            short_logs: dice.per_mille(500),
            tight: dice.per_mille(300),
            batch_max: 1,
            batches_forgotten: false,
            defect: Defect::None,
        }
    }

    /// Everything at once and often, for the seeded defects.
    #[must_use]
    pub fn harsh(seed: u64, minutes: u64, defect: Defect) -> Self {
        // Nothing but moves, so that one that was moved away is not killed before it answers; each leaves a node behind.
        let moves = defect == Defect::HostAfterMove;
        // Followers that are behind, and clients that ask them.
        let lags = defect == Defect::FollowerAnswers;
        let faults = match (moves, lags) {
            (true, _) => vec![FaultClass::Move],
            (false, true) => vec![FaultClass::SlowApplier, FaultClass::Partition],
            (false, false) => FaultClass::ALL.to_vec(),
        };
        Self {
            seed,
            minutes,
            voters: 3,
            gifts_per_hour: 1_500,
            fault_every_s: if moves { 90 } else { 8 },
            dense: true,
            strays: if lags { 300 } else { 60 },
            faults,
            short_logs: true,
            tight: seed.is_multiple_of(2),
            batch_max: 1,
            batches_forgotten: false,
            defect,
        }
    }

    #[must_use]
    pub fn has(&self, class: FaultClass) -> bool {
        self.faults.contains(&class)
    }

    /// Answers between nodes that are lost where any are, in ten-thousandths.
    #[must_use]
    pub fn lost_answers(&self) -> u64 {
        300 / if self.dense { 1 } else { SPARSE }
    }

    /// Whether something single meets a class that strikes so many of 1,000 where faults are dense.
    pub fn strikes(&self, class: FaultClass, per_mille: u64, dice: &mut Dice) -> bool {
        self.has(class) && dice.below(if self.dense { 1_000 } else { 1_000 * SPARSE }) < per_mille
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, minutes, voters, gifts_per_hour, fault_every_s, dense, short_logs, tight, defect, .. } = self;
        let faults = &self.faults;
        let faults: Vec<&str> = faults.iter().map(|class| class.name()).collect();
        write!(
            f,
            "seed {seed}: {minutes} min, {voters} voters, {gifts_per_hour} gifts/h, a fault every {fault_every_s} s, dense \
             {dense}, short \
             logs {short_logs}, tight {tight}, defect {defect:?}, faults {}",
            faults.join(" ")
        )
    }
}
