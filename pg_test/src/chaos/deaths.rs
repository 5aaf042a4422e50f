//! Which transactions may be gone though their clients were told that they committed: the last ones of a primary that
//! died, whose standby did not have them yet. Pure.

use std::time::Instant;

/// When a client asked for a commit, and when it was told of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Commit {
    pub asked: Instant,
    pub told: Instant,
}

/// When a primary was dead whose standby may have lacked something.
#[derive(Debug, Default)]
pub(super) struct Deaths(pub Vec<Instant>);

/// What became of the commits before each death.
#[derive(Debug, Default)]
pub(super) struct Losses(Vec<Loss>);

#[derive(Debug)]
struct Loss {
    death: Instant,
    /// When the last commit was asked for that the standby had.
    survived: Option<Instant>,
}

impl Deaths {
    /// These commits survived all of them.
    pub fn survived_by(&self, commits: &[Commit]) -> Losses {
        let loss = |&death: &Instant| {
            let before = commits.iter().filter(|commit| commit.told <= death);
            Loss { death, survived: before.map(|commit| commit.asked).max() }
        };
        Losses(self.0.iter().map(loss).collect())
    }
}

impl Losses {
    /// Whether this one may be gone: none survived the death that came next that was asked for when this one was
    /// told of already. A standby has the WAL up to a point, and what commits later is behind that.
    pub fn allow(&self, commit: Commit) -> bool {
        let next =
            self.0.iter().filter(|loss| loss.death >= commit.told).min_by_key(|loss| loss.death);
        next.is_some_and(|loss| loss.survived.is_none_or(|asked| asked <= commit.told))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_last_ones_before_a_death_may_be_gone() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let commit = |asked, told| Commit { asked: at(asked), told: at(told) };
        let deaths = Deaths(vec![at(20), at(50)]);
        let losses = deaths.survived_by(&[commit(1, 2), commit(10, 12), commit(30, 31)]);
        // It was on its way together with the last that survived.
        assert!(losses.allow(commit(9, 11)) && losses.allow(commit(15, 16)));
        assert!(!losses.allow(commit(8, 9)));
        assert!(losses.allow(commit(40, 41)) && !losses.allow(commit(25, 26)));
        // Nobody died after it.
        assert!(!losses.allow(commit(60, 61)));
        assert!(!Deaths::default().survived_by(&[]).allow(commit(1, 2)));
    }
}
