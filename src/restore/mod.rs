//! Whether this server was restored from a backup. Such a one has the settings of the original, its identifier and its
//! broker; it may be the original's successor, or a copy that must not publish. Whoever runs it knows.
//!
//! A standby that is promoted is restored from a backup, too, but it has streamed from a primary since: it takes the
//! stream over. What tells them apart is a [`mark`] in the data directory, which names the backup that this server
//! came from once that is settled: when it streams, or when it publishes. In a backup of this server the mark names
//! another one than the backup's own label does.

mod mark;

use std::path::Path;
use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode;

use crate::delivery::{BrokerSettings, Credentials};
use crate::pg::report::Report;
use crate::pg::server;
use crate::position::Origin;
use mark::{Label, Mark};

/// Of a server that recovers from an archive, up to a target or to its end, and of one that is a standby
/// (xlog.c: `RECOVERY_SIGNAL_FILE`, `STANDBY_SIGNAL_FILE`). The second one counts if both are there.
const RECOVERY_SIGNAL: &str = "recovery.signal";
const STANDBY_SIGNAL: &str = "standby.signal";

/// A server that was restored, and has neither streamed nor published since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    label: Label,
}

/// Between two attempts to note that a standby streams: were it never noted, its promotion after a restart would be
/// taken for a restored server.
const RETRY: Duration = Duration::from_secs(5);

/// When the server starts, and only then: that it recovers from an archive, which is over before a worker may run.
pub fn note_recovery() {
    if Path::new(RECOVERY_SIGNAL).exists() && !Path::new(STANDBY_SIGNAL).exists() {
        write(&Mark::Unsettled);
    }
}

/// While the server is a standby.
#[derive(Debug, Default)]
pub struct Watch {
    is_settled: bool,
    /// When it was to be noted last.
    tried_at: Option<Instant>,
}

impl Watch {
    /// Notes once that it streams.
    pub fn look(&mut self) {
        let is_due = self.tried_at.is_none_or(|tried_at| tried_at.elapsed() >= RETRY);
        if !self.is_settled && is_due && server::has_streamed() {
            self.is_settled = settle(Label::read());
            self.tried_at = Some(Instant::now());
        }
    }
}

/// Whether the server was restored, and it is not settled yet that it publishes. `origin`: how its position was found.
pub fn find(origin: Origin) -> Option<Restored> {
    let (label, mark) = (Label::read(), Mark::read());
    let is_restored = !server::has_streamed() && is_restored(&label, &mark, origin);
    if is_restored {
        return Some(Restored { label });
    }
    settle(label);
    None
}

/// What the files say of a server that has not streamed since it was started.
fn is_restored(label: &Label, mark: &Mark, origin: Origin) -> bool {
    match mark {
        Mark::Unsettled => true,
        Mark::Settled(known) => known != label && !label.is_empty(),
        // Before there were marks. A backup has no slot, and where nothing was captured there is nothing to publish.
        Mark::Missing => !label.is_empty() && !matches!(origin, Origin::Slot | Origin::FirstStart),
    }
}

/// From now on this server, which came from the backup with this label, is one that publishes, or that takes over
/// from one. Whether that is noted.
fn settle(label: Label) -> bool {
    let settled = Mark::Settled(label);
    Mark::read() == settled || write(&settled)
}

/// What is not noted is found again, at worst in a server that publishes already. Whether it is noted.
fn write(mark: &Mark) -> bool {
    let written = mark.write();
    if let Err(error) = &written {
        Report::new(
            PgSqlErrorCode::ERRCODE_IO_ERROR,
            format!("file \"{}\" cannot be written: {error}", mark::FILE),
        )
        .detail("It notes whether this server was restored from a backup.")
        .warn();
    }
    written.is_ok()
}

impl Restored {
    /// It stands still until an operator wants it to publish; a later life of the worker is to know.
    pub fn stand_still(&self, settings: &BrokerSettings) -> String {
        write(&Mark::Unsettled);
        format!(
            "amqp.publish_after_restore is off, and {}; set it on to publish to {}",
            self.words(),
            place(settings)
        )
    }

    /// It publishes, and the log says where to.
    pub fn announce(self, settings: &BrokerSettings) {
        let folder = std::env::current_dir().unwrap_or_default();
        Report::new(
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("{}: it is going to publish to {}", self.words(), place(settings)),
        )
        .detail(format!(
            "Server: port {}, data directory \"{}\", system identifier {}.",
            server::port(),
            folder.display(),
            server::system_identifier()
        ))
        .hint("A copy that must not publish needs another amqp.host, or amqp.publish_after_restore = off, before its first start.")
        .warn();
        settle(self.label);
    }

    fn words(&self) -> String {
        match self.label.name_and_time() {
            Some((name, time)) => {
                format!("this server was restored from backup \"{name}\" of {time}")
            }
            None => "this server was restored from an archive".to_owned(),
        }
    }
}

/// Where messages would go, without a secret.
fn place(settings: &BrokerSettings) -> String {
    let hosts: Vec<String> = settings.addresses.iter().map(ToString::to_string).collect();
    let who = match &settings.credentials {
        Credentials::Password { username, .. } => format!("user \"{username}\""),
        Credentials::Certificate => "its certificate".to_owned(),
    };
    format!("broker {}, virtual host \"{}\", as {who}", hosts.join(", "), settings.vhost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;
    use crate::stream::gap::Gap;

    const LOST: Origin = Origin::Lost(Gap { from: None, to: Lsn(8) });

    fn label(text: &str) -> Label {
        Label(text.to_owned())
    }

    #[test]
    fn a_backup_is_told_by_a_label_that_is_not_the_one_of_the_mark() {
        let (own, other) = (label("own"), label("other"));
        let settled = Mark::Settled(own.clone());
        for origin in [Origin::Slot, Origin::Record, Origin::Beginning, LOST] {
            assert!(is_restored(&other, &settled, origin));
            assert!(!is_restored(&own, &settled, origin));
            assert!(!is_restored(&label(""), &settled, origin));
            // A server that initdb made, whose backup this is.
            assert!(is_restored(&own, &Mark::Settled(label("")), origin));
            assert!(is_restored(&label(""), &Mark::Unsettled, origin));
        }
    }

    #[test]
    fn of_a_server_without_a_mark_the_slot_tells() {
        for origin in [Origin::Record, Origin::Beginning, LOST] {
            assert!(is_restored(&label("own"), &Mark::Missing, origin));
            assert!(!is_restored(&label(""), &Mark::Missing, origin));
        }
        for origin in [Origin::Slot, Origin::FirstStart] {
            assert!(!is_restored(&label("own"), &Mark::Missing, origin));
        }
    }
}
