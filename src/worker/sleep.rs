//! How the worker sleeps when nothing is left to do. Pure.

use std::time::Duration;

/// Longest sleep: what other tables write into the WAL wakes nobody, but must not be retained.
pub const LONGEST: Duration = Duration::from_secs(5);

/// How long commits are left unread, after some were read, while they could not be published anyhow: many at
/// once cost less than each by itself.
const NAP: Duration = Duration::from_millis(100);

/// How long many commits gather unread, instead of each waking the worker, while the broker is busy with
/// earlier ones anyhow.
const GATHERING: Duration = Duration::from_millis(1);

/// Shortest time between two looks at what wakes nobody.
const SHORTEST_POLL: Duration = Duration::from_millis(1);

/// What the decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// When the position is to be looked at again, if it is.
    pub next_save: Option<Duration>,
    /// Whether something is awaited that wakes nobody when it happens.
    pub must_poll: bool,
    /// The time of the last sleep if that was so then, or zero.
    pub poll: Duration,
    /// Within about twice that, an asynchronous commit is on disk.
    pub longest_poll: Duration,
    /// Whether enough is read, so that no commit matters until confirms make room.
    pub is_ahead: bool,
    /// Whether commits were announced since the WAL was read before.
    pub has_read_commits: bool,
    /// Whether a commit could be published at once.
    pub can_publish: bool,
    /// Whether they come so thick that not each is to wake the worker.
    pub commits_are_many: bool,
    /// Whether the broker has something to confirm.
    pub has_unconfirmed: bool,
}

/// How to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sleep {
    /// At most this long.
    pub longest: Duration,
    /// [`Facts::poll`] of the next decision.
    pub poll: Duration,
    /// Whether the next commit ends it.
    pub awaits_commits: bool,
}

/// What is best with these facts.
pub fn decide(facts: Facts) -> Sleep {
    let poll = if facts.must_poll {
        (facts.poll * 2).clamp(SHORTEST_POLL, facts.longest_poll.max(SHORTEST_POLL))
    } else {
        Duration::ZERO
    };
    let mut longest = facts.next_save.map_or(LONGEST, |due| due.min(LONGEST));
    if facts.must_poll {
        longest = longest.min(poll);
    }
    let awaits_commits = if facts.is_ahead {
        false
    } else if facts.has_read_commits && !facts.can_publish {
        longest = longest.min(NAP);
        false
    } else if facts.commits_are_many && facts.has_unconfirmed {
        longest = longest.min(GATHERING);
        false
    } else {
        true
    };
    Sleep { longest, poll, awaits_commits }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// A worker that has nothing to do and a broker that is there.
    const IDLE: Facts = Facts {
        next_save: None,
        must_poll: false,
        poll: Duration::ZERO,
        longest_poll: MS_200,
        is_ahead: false,
        has_read_commits: false,
        can_publish: true,
        commits_are_many: false,
        has_unconfirmed: false,
    };
    const MS_200: Duration = Duration::from_millis(200);

    #[test]
    fn each_case_has_its_sleep() {
        let table = [
            ("idle", IDLE, 5000, 0, true),
            ("a position to save", Facts { next_save: Some(MS(700)), ..IDLE }, 700, 0, true),
            ("polls at once", Facts { must_poll: true, ..IDLE }, 1, 1, true),
            ("polls less and less", Facts { must_poll: true, poll: MS(8), ..IDLE }, 16, 16, true),
            (
                "but not too rarely",
                Facts { must_poll: true, poll: MS(150), ..IDLE },
                200,
                200,
                true,
            ),
            ("ahead", Facts { is_ahead: true, has_read_commits: true, ..IDLE }, 5000, 0, false),
            ("live", Facts { has_read_commits: true, ..IDLE }, 5000, 0, true),
            (
                "no broker, commits",
                Facts { has_read_commits: true, can_publish: false, ..IDLE },
                100,
                0,
                false,
            ),
            ("no broker, no commits", Facts { can_publish: false, ..IDLE }, 5000, 0, true),
            (
                "many commits, a busy broker",
                Facts { commits_are_many: true, has_unconfirmed: true, ..IDLE },
                1,
                0,
                false,
            ),
            (
                "many commits, an idle broker",
                Facts { commits_are_many: true, ..IDLE },
                5000,
                0,
                true,
            ),
        ];
        for (name, facts, longest, poll, awaits_commits) in table {
            let expected = Sleep { longest: MS(longest), poll: MS(poll), awaits_commits };
            assert_eq!(decide(facts), expected, "{name}");
        }
    }
}
