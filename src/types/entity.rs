//! The pure core: an entity kind as `decide`, `evolve` and `wants`, and the adapter that gives the runtime its bytes.

use crate::types::call::{CallOutcome, CallRequest, Report};
use crate::types::codec::{self, CodecError};
use crate::types::effect::{Effects, Slot};
use crate::types::ids::{EntityKey, EntityKind};
use crate::types::kind::{At, AttemptStart, Counted, Decided, Kind, Live};
use crate::types::level::{FIRST_LEVEL, FeatureLevel};
use crate::types::record::{Erasure, Sealed};
use serde::{Serialize, de::DeserializeOwned};
use std::marker::PhantomData;

/// What a command leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<E> {
    /// Nothing to write when empty: the state already is what the command asks for.
    pub events: Vec<E>,
    /// What the same record destroys.
    pub erase: Erasure,
}

impl<E> Decision<E> {
    #[must_use]
    pub fn events(events: Vec<E>) -> Self {
        Self { events, erase: Erasure::Nothing }
    }
    #[must_use]
    pub fn unchanged() -> Self {
        Self { events: Vec::new(), erase: Erasure::Nothing }
    }
}

/// An entity kind. `State::default()` is the entity that does not exist yet.
pub trait Entity: 'static {
    type State: Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static;
    type Command: Serialize + DeserializeOwned;
    type Event: Serialize + DeserializeOwned;
    type Rejection: Serialize + DeserializeOwned;
    const KIND: EntityKind;
    const PREFIX: &'static str;
    /// The feature level that knows it: below, a build beside this one may not, and none is made.
    const SINCE: FeatureLevel = FIRST_LEVEL;
    /// Whether commands that wait for one another may be decided into one record: for a kind that many callers command
    /// at once, and whose answers do not depend on what exactly was committed with them.
    const SHARES_RECORDS: bool = false;

    /// # Errors
    /// The business refusal; nothing changes.
    fn decide(
        key: EntityKey,
        state: &Self::State,
        command: Self::Command,
        at: &At,
    ) -> Result<Decision<Self::Event>, Self::Rejection>;
    /// Total: cannot fail, knows every event ever written.
    fn evolve(state: &mut Self::State, event: &Self::Event);
    /// What the state wants, in slot order.
    fn wants(key: EntityKey, state: &Self::State) -> Effects;
    /// The state as a caller is told it: the whole, or what is left when working lists are taken out of a large one.
    fn answer(state: &Self::State) -> Vec<u8> {
        codec::encode(state)
    }
    /// As [`Live::outcome`]: for kinds whose success is counted.
    fn outcome(_state: &Self::State) -> Option<Counted> {
        None
    }
    fn sealed(state: &Self::State) -> Option<&Sealed>;
    fn request(key: EntityKey, state: &Self::State, slot: Slot, personal: Option<&[u8]>) -> Option<CallRequest>;
    fn timer_command(slot: Slot) -> Self::Command;
    fn attempt_command(start: AttemptStart) -> Self::Command;
    fn outcome_command(outcomes: Vec<(Slot, CallOutcome)>) -> Self::Command;
    fn report_command(report: Report) -> Self::Command;
    fn describe(event: &Self::Event) -> serde_json::Value;
}

/// Registers an [`Entity`] with the runtime.
pub struct Typed<E>(PhantomData<fn() -> E>);

impl<E> Default for Typed<E> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E: Entity> Kind for Typed<E> {
    fn kind(&self) -> EntityKind {
        E::KIND
    }
    fn prefix(&self) -> &'static str {
        E::PREFIX
    }
    fn since(&self) -> FeatureLevel {
        E::SINCE
    }
    fn load(&self, key: EntityKey, state: Option<&[u8]>) -> Result<Box<dyn Live>, CodecError> {
        let state = match state {
            Some(bytes) => codec::decode(bytes)?,
            None => E::State::default(),
        };
        Ok(Box::new(TypedLive::<E> { key, state }))
    }
}

struct TypedLive<E: Entity> {
    key: EntityKey,
    state: E::State,
}

impl<E: Entity> Live for TypedLive<E> {
    fn decide(&self, command: &[u8], at: &At) -> Result<Decided, CodecError> {
        let command: E::Command = codec::decode(command)?;
        Ok(match E::decide(self.key, &self.state, command, at) {
            Ok(decision) if decision.events.is_empty() => Decided::Unchanged,
            Ok(decision) => Decided::Events { events: codec::encode(&decision.events), erase: decision.erase },
            Err(rejection) => Decided::Rejected(codec::encode(&rejection)),
        })
    }
    fn evolve(&mut self, events: &[u8]) -> Result<(), CodecError> {
        let events: Vec<E::Event> = codec::decode(events)?;
        for event in &events {
            E::evolve(&mut self.state, event);
        }
        Ok(())
    }
    fn wants(&self) -> Effects {
        E::wants(self.key, &self.state)
    }
    fn encode(&self) -> Vec<u8> {
        codec::encode(&self.state)
    }
    fn answer(&self) -> Vec<u8> {
        E::answer(&self.state)
    }
    fn shares_records(&self) -> bool {
        E::SHARES_RECORDS
    }
    fn outcome(&self) -> Option<Counted> {
        E::outcome(&self.state)
    }
    fn join(&self, steps: &[Vec<u8>]) -> Result<Vec<u8>, CodecError> {
        let steps: Result<Vec<Vec<E::Event>>, CodecError> = steps.iter().map(|events| codec::decode(events)).collect();
        Ok(codec::encode(&steps?.into_iter().flatten().collect::<Vec<E::Event>>()))
    }
    fn fork(&self) -> Box<dyn Live> {
        Box::new(TypedLive::<E> { key: self.key, state: self.state.clone() })
    }
    fn sealed(&self) -> Option<Sealed> {
        E::sealed(&self.state).cloned()
    }
    fn request(&self, slot: Slot, personal: Option<&[u8]>) -> Option<CallRequest> {
        E::request(self.key, &self.state, slot, personal)
    }
    fn timer_command(&self, slot: Slot) -> Vec<u8> {
        codec::encode(&E::timer_command(slot))
    }
    fn attempt_command(&self, start: AttemptStart) -> Vec<u8> {
        codec::encode(&E::attempt_command(start))
    }
    fn outcome_command(&self, outcomes: Vec<(Slot, CallOutcome)>) -> Vec<u8> {
        codec::encode(&E::outcome_command(outcomes))
    }
    fn report_command(&self, report: Report) -> Vec<u8> {
        codec::encode(&E::report_command(report))
    }
    fn describe(&self, events: &[u8]) -> Result<Vec<serde_json::Value>, CodecError> {
        let events: Vec<E::Event> = codec::decode(events)?;
        Ok(events.iter().map(E::describe).collect())
    }
}
