//! What the broker's answer to a message means for it. Pure.

use super::broker::Unroutable;
use super::failure::{Failure, FailureKind};
use super::message::Why;
use super::policy::{Action, Policies};
use super::unconfirmed::{Answer, Kind, Unconfirmed};

/// What is done with a message that something is known about.
pub enum Verdict {
    /// It is where it belongs, or nobody asked for it.
    Done,
    /// It goes nowhere.
    PassOver(Why),
    /// It goes to the dead-letter exchange.
    Redirect(Why),
    /// The announcement of a gap is tried again later.
    Postpone,
    /// The stream stands still at it.
    Hold(Failure),
}

impl Verdict {
    /// Says what is to be done with the oldest message, which has this answer.
    pub fn on(
        oldest: &Unconfirmed,
        answer: Answer,
        policies: &Policies,
        unroutable: Unroutable,
    ) -> Verdict {
        let policy = policies.of(&oldest.message.exchange);
        let (kind, reason, is_covered) = match (answer, &oldest.kind) {
            (Answer::Confirmed, _) => return Verdict::Done,
            (Answer::PassedOver, _) => {
                return oldest.why.clone().map_or(Verdict::Done, Verdict::PassOver);
            }
            (Answer::Returned, Kind::Event | Kind::Gap)
                if unroutable == Unroutable::Drop && !policy.with_returns =>
            {
                return Verdict::Done;
            }
            (_, Kind::Gap) => return Verdict::Postpone,
            (Answer::Returned, _) => {
                (FailureKind::Returned, "no queue is bound for it", policy.with_returns)
            }
            (Answer::Refused, _) => {
                (FailureKind::Nacked, "broker refused a message (nack)", policy.with_nacks)
            }
        };
        let why = || Why { reason: reason.into(), is_size: false };
        match (&oldest.kind, policy.action) {
            (Kind::Event, Action::Skip) if is_covered => Verdict::PassOver(why()),
            (Kind::Event, Action::DeadLetter) if is_covered => Verdict::Redirect(why()),
            _ => Verdict::Hold(Failure::new(kind, reason).because_of(&oldest.message)),
        }
    }
}
