//! Gathers started attempts of one shard and one template, so that they leave in one call. Sans I/O: permits and
//! attempts go in, groups come out.
//!
//! | what happens | group |
//! |---|---|
//! | an attempt comes and it is the `most`th of its group | goes |
//! | an attempt comes, or a permit is used otherwise, and no other permit of the shard is out | all of the shard go |
//! | an attempt comes and others of its shard are under way | waits for them |
//! | a group has waited for as long as the shell allows | goes |
//!
//! So a lone attempt waits for nobody. Invariants: what comes in goes out once, in the order in which it came; a group
//! is of one shard and one template and holds at most `most`.

use crate::types::call::Template;
use crate::types::ids::ShardId;
use std::collections::BTreeMap;

/// Names a group that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupNumber(pub u64);

/// Groups that go now, and the one that has just begun to wait.
#[derive(Debug, PartialEq, Eq)]
pub struct Gathered<T> {
    pub groups: Vec<Vec<T>>,
    pub waits: Option<GroupNumber>,
}

struct Group<T> {
    number: GroupNumber,
    members: Vec<T>,
}

/// The attempts that wait for company.
pub struct Gather<T> {
    most: usize,
    /// Permits that are out and whose attempt has not come, by shard.
    expected: BTreeMap<ShardId, usize>,
    groups: BTreeMap<(ShardId, Template), Group<T>>,
    numbers: u64,
}

impl<T> Gather<T> {
    /// Groups of up to `most`; of one, nothing waits.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most: most.max(1), expected: BTreeMap::new(), groups: BTreeMap::new(), numbers: 0 }
    }

    /// A permit for an attempt of the shard was granted; one [`Gather::left`] or [`Gather::came`] follows.
    pub fn granted(&mut self, shard: ShardId) {
        *self.expected.entry(shard).or_default() += 1;
    }

    /// A permit was given back, or is used for something that is not gathered.
    pub fn left(&mut self, shard: ShardId) -> Vec<Vec<T>> {
        self.one_less(shard);
        self.settled(shard)
    }

    /// An attempt came with its permit.
    pub fn came(&mut self, shard: ShardId, template: Template, member: T) -> Gathered<T> {
        self.one_less(shard);
        let numbers = &mut self.numbers;
        let group = self.groups.entry((shard, template)).or_insert_with(|| {
            *numbers += 1;
            Group { number: GroupNumber(*numbers), members: Vec::new() }
        });
        let begins = group.members.is_empty();
        group.members.push(member);
        let (number, full) = (group.number, group.members.len() >= self.most);
        let mut groups = Vec::new();
        if full {
            groups.extend(self.groups.remove(&(shard, template)).map(|group| group.members));
        }
        groups.extend(self.settled(shard));
        let waits = (begins && self.groups.get(&(shard, template)).is_some_and(|group| group.number == number))
            .then_some(number);
        Gathered { groups, waits }
    }

    /// The group has waited for long enough; nothing when it has gone.
    pub fn overdue(&mut self, number: GroupNumber) -> Option<Vec<T>> {
        let of = self.groups.iter().find(|(_, group)| group.number == number).map(|(of, _)| *of)?;
        self.groups.remove(&of).map(|group| group.members)
    }

    fn one_less(&mut self, shard: ShardId) {
        if let Some(count) = self.expected.get_mut(&shard) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.expected.remove(&shard);
            }
        }
    }

    /// All groups of a shard of which nothing more is under way.
    fn settled(&mut self, shard: ShardId) -> Vec<Vec<T>> {
        if self.expected.contains_key(&shard) {
            return Vec::new();
        }
        let of: Vec<_> = self.groups.keys().filter(|(of, _)| *of == shard).copied().collect();
        of.into_iter().filter_map(|of| self.groups.remove(&of)).map(|group| group.members).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIFT: Template = Template::GiftArrived;
    const ONE: ShardId = ShardId(1);
    const TWO: ShardId = ShardId(2);

    fn granted(most: usize, shards: &[ShardId]) -> Gather<u32> {
        let mut gather = Gather::new(most);
        shards.iter().for_each(|shard| gather.granted(*shard));
        gather
    }

    #[test]
    fn a_lone_attempt_goes_at_once() {
        let mut gather = granted(100, &[ONE, TWO]);
        let gathered = gather.came(ONE, GIFT, 1);
        assert_eq!(gathered, Gathered { groups: vec![vec![1]], waits: None });
    }

    #[test]
    fn an_attempt_waits_for_those_of_its_shard_and_for_no_others() {
        let mut gather = granted(100, &[ONE, ONE, ONE, TWO]);
        assert_eq!(gather.came(ONE, GIFT, 1), Gathered { groups: vec![], waits: Some(GroupNumber(1)) });
        assert_eq!(gather.came(ONE, GIFT, 2), Gathered { groups: vec![], waits: None });
        assert_eq!(gather.left(ONE), vec![vec![1, 2]], "the third gave its permit back");
        assert_eq!(gather.overdue(GroupNumber(1)), None);
    }

    #[test]
    fn a_group_goes_when_it_is_full_or_has_waited_for_long_enough() {
        let mut gather = granted(2, &[ONE; 5]);
        gather.came(ONE, GIFT, 1);
        assert_eq!(gather.came(ONE, GIFT, 2), Gathered { groups: vec![vec![1, 2]], waits: None });
        let third = gather.came(ONE, GIFT, 3);
        assert_eq!(third, Gathered { groups: vec![], waits: Some(GroupNumber(2)) });
        assert_eq!(gather.overdue(GroupNumber(2)), Some(vec![3]));
        assert_eq!(gather.came(ONE, GIFT, 4).waits, Some(GroupNumber(3)), "the fifth is under way");
    }

    #[test]
    fn templates_do_not_mix() {
        let mut gather = granted(100, &[ONE; 2]);
        gather.came(ONE, GIFT, 1);
        let gathered = gather.came(ONE, Template::ExpiresInDays, 2);
        assert_eq!(gathered.groups, vec![vec![1], vec![2]]);
    }

    proptest! {
        #[test]
        fn what_comes_goes_once_in_order_and_in_groups_of_one_shard(
            most in 1usize..6, steps in prop::collection::vec((0u16..3, 0u8..6), 1..200),
        ) {
            let mut gather = Gather::new(most);
            let (mut out, mut came, mut waiting) = (Vec::new(), 0u32, Vec::new());
            let mut open = [0u32; 3];
            for (shard, step) in steps {
                let place = usize::from(shard);
                let shard = ShardId(shard);
                match step {
                    0 | 1 => {
                        gather.granted(shard);
                        open[place] += 1;
                    }
                    2 if open[place] > 0 => {
                        open[place] -= 1;
                        out.extend(gather.left(shard));
                    }
                    3 | 4 if open[place] > 0 => {
                        open[place] -= 1;
                        came += 1;
                        let gathered = gather.came(shard, GIFT, (shard, came));
                        waiting.extend(gathered.waits);
                        out.extend(gathered.groups);
                    }
                    _ => out.extend(waiting.pop().and_then(|number| gather.overdue(number))),
                }
                for group in &out {
                    prop_assert!(group.len() <= most && group.iter().all(|(of, _)| *of == group[0].0));
                    prop_assert!(group.windows(2).all(|pair| pair[0].1 < pair[1].1));
                }
            }
            for (place, open) in open.into_iter().enumerate() {
                let shard = ShardId(u16::try_from(place).unwrap());
                (0..open).for_each(|_| out.extend(gather.left(shard)));
            }
            out.extend(waiting.into_iter().filter_map(|number| gather.overdue(number)));
            let mut gone: Vec<u32> = out.into_iter().flatten().map(|(_, number)| number).collect();
            gone.sort_unstable();
            prop_assert_eq!(gone, (1..=came).collect::<Vec<_>>());
        }
    }
}
