//! From an event in the stream to the message that the broker gets: its name for ever (message_id),
//! its properties and headers.

use crate::event::Event;
use crate::pg::timeline::Timelines;
use crate::pg::{output, server};
use crate::publisher::{HeaderValue, Message};
use crate::stream::NextEvent;

/// Seconds from 1970-01-01 to 2000-01-01, PostgreSQL's epoch.
const POSTGRES_EPOCH: i64 = 946_684_800;

/// Names events for ever, and makes messages of them.
pub struct Naming {
    system_identifier: u64,
    timelines: Timelines,
    /// The last commit time and its text.
    commit_time: (i64, String),
}

impl Naming {
    /// For this server, with the history of its timeline.
    pub fn new(timelines: Timelines) -> Naming {
        Naming {
            system_identifier: server::system_identifier(),
            timelines,
            commit_time: (i64::MIN, String::new()),
        }
    }

    /// The message of an event.
    ///
    /// # Errors
    ///
    /// What is wrong with the event's bytes: another version of the extension wrote them.
    pub fn message(&mut self, next: NextEvent) -> Result<Message, String> {
        let lsn = next.recorded.lsn;
        let event = Event::decode(&next.recorded.payload)
            .map_err(|error| format!("event at {lsn} cannot be read: {error}"))?;
        let text = HeaderValue::Text;
        let number = |n: u64| HeaderValue::Number(n as i64);
        let mut headers = vec![
            ("database", text(event.head.database)),
            ("schema", text(event.head.schema)),
            ("table", text(event.head.table)),
            ("xid", number(u64::from(next.xid))),
            ("commit_lsn", text(next.commit_lsn.to_string())),
            ("commit_ts", text(self.commit_time_text(next.commit_time))),
            ("tx_seq", number(next.tx_seq)),
            ("tx_size", number(next.tx_size)),
        ];
        if event.head.lossy {
            headers.push(("encoding", text("lossy".to_owned())));
        }
        Ok(Message {
            exchange: event.head.exchange,
            routing_key: event.head.routing_key,
            body: event.body,
            message_id: format!("{}/{}/{lsn}", self.system_identifier, self.timelines.of(lsn)),
            timestamp: (next.commit_time.div_euclid(1_000_000) + POSTGRES_EPOCH).max(0) as u64,
            kind: event.head.operation.as_str(),
            headers,
        })
    }

    fn commit_time_text(&mut self, time: i64) -> String {
        if self.commit_time.0 != time {
            self.commit_time = (time, output::json_timestamp(time));
        }
        self.commit_time.1.clone()
    }
}
