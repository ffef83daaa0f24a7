//! Commands that wait for a place in the pipeline, in arrival order.
//!
//! A command that has a row or a condition of its own (idempotency mark, expected version, data key) gets a record of
//! its own. Of a kind that shares records, others that wait are decided one after another on the growing state, and
//! their events make one record: so a hot entity commits as many commands as come while a record is under way, instead
//! of as many as its pipeline has places.

use super::too_large::count_too_large;
use super::{Command, Driver, Now, Output, Source, Step, WaiterId};
use crate::actors::door::AskError;
use crate::types::kind::{At, Decided};
use crate::types::limits::{ENTITY_COMMANDS_WAITING_MAX, RECORD_COMMANDS_MAX, RECORD_EVENTS_BYTES_MAX};
use crate::types::record::Erasure;

impl Driver {
    /// Takes its place behind the others; `advance` decides it when the pipeline has room.
    pub(super) fn on_command(&mut self, command: Command, out: &mut Vec<Output>) {
        if self.waiting.len() >= ENTITY_COMMANDS_WAITING_MAX {
            out.push(Output::Answer(command.waiter, Err(AskError::Overloaded { retry_after_secs: 1 })));
            return;
        }
        self.waiting.push_back(command);
    }

    /// Decides what waits while there is room.
    pub(super) fn take_waiting(&mut self, now: Now, out: &mut Vec<Output>) {
        while self.can_take()
            && let Some(command) = self.waiting.pop_front()
        {
            if !self.may_share(&command) {
                self.decide_alone(command, now, out);
                continue;
            }
            let mut together = vec![command];
            while together.len() < RECORD_COMMANDS_MAX && self.waiting.front().is_some_and(|next| self.may_share(next))
            {
                together.extend(self.waiting.pop_front());
            }
            self.decide_together(together, now, out);
        }
    }

    fn may_share(&self, command: &Command) -> bool {
        let plain = command.idempotency.is_none() && command.if_version.is_none() && command.new_key.is_none();
        plain && self.committed.shares_records()
    }

    fn decide_alone(&mut self, command: Command, now: Now, out: &mut Vec<Output>) {
        if let Some(expected) = command.if_version
            && expected != self.speculative_version
        {
            let version = self.speculative_version;
            self.reply(command.waiter, Err(AskError::VersionMoved { version }), out);
            return;
        }
        let at = At { now: now.wall, command_id: command.command_id };
        match self.state().decide(&command.bytes, &at) {
            Ok(Decided::Events { events, erase }) => {
                let vault = erase.vault_change(command.new_key);
                let source = Source::Callers(vec![command.waiter]);
                self.propose(Step { events, vault, at, idempotency: command.idempotency, source }, now, out);
            }
            Ok(Decided::Unchanged) => self.reply(command.waiter, Ok(()), out),
            Ok(Decided::Rejected(rejection)) => {
                let version = self.speculative_version;
                self.reply(command.waiter, Err(AskError::Rejected { rejection, version }), out);
            }
            Err(_) => self.reply(command.waiter, Err(AskError::Malformed), out),
        }
    }

    /// Each is decided on the state that those before it lead to. What changes nothing is answered behind the record. What
    /// does not fit into it begins another; what fits into none is refused, and those behind it do not see it.
    fn decide_together(&mut self, commands: Vec<Command>, now: Now, out: &mut Vec<Output>) {
        let first = At { now: now.wall, command_id: commands[0].command_id };
        let mut ahead = self.state().fork();
        let (mut steps, mut waiters, mut replies, mut gathered) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for Command { waiter, bytes, command_id, .. } in commands {
            match ahead.decide(&bytes, &At { now: now.wall, command_id }) {
                Ok(Decided::Events { events, .. }) if events.len() > RECORD_EVENTS_BYTES_MAX => {
                    count_too_large();
                    replies.push((waiter, Err(AskError::TooLarge)));
                }
                Ok(Decided::Events { events, erase: Erasure::Nothing }) if ahead.evolve(&events).is_ok() => {
                    gathered += events.len();
                    if gathered > RECORD_EVENTS_BYTES_MAX {
                        gathered = events.len();
                        let full = (std::mem::take(&mut steps), std::mem::take(&mut waiters));
                        self.propose_shared(full, (first, now), out);
                    }
                    steps.push(events);
                    waiters.push(waiter);
                }
                Ok(Decided::Events { .. }) => {
                    out.push(Output::Corrupt { what: "events of a shared record" });
                    return;
                }
                Ok(Decided::Unchanged) => replies.push((waiter, Ok(()))),
                Ok(Decided::Rejected(rejection)) => {
                    let version = self.speculative_version;
                    replies.push((waiter, Err(AskError::Rejected { rejection, version })));
                }
                Err(_) => replies.push((waiter, Err(AskError::Malformed))),
            }
        }
        if !steps.is_empty() {
            self.propose_shared((steps, waiters), (first, now), out);
        }
        for (waiter, answer) in replies {
            self.reply(waiter, answer, out);
        }
    }

    fn propose_shared(
        &mut self,
        (steps, waiters): (Vec<Vec<u8>>, Vec<WaiterId>),
        (at, now): (At, Now),
        out: &mut Vec<Output>,
    ) {
        let Ok(events) = self.state().join(&steps) else {
            out.push(Output::Corrupt { what: "events of a shared record" });
            return;
        };
        let (vault, source) = (Erasure::Nothing.vault_change(None), Source::Callers(waiters));
        self.propose(Step { events, vault, at, idempotency: None, source }, now, out);
    }
}
