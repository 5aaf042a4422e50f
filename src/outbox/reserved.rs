//! Words that are not a user's to say: a consumer believes them. Pure.

/// What the AMQP property `type` says of messages that are not a user's own.
const KINDS: [&str; 12] = [
    "insert",
    "update",
    "delete",
    "truncate",
    "snapshot",
    "snapshot-begin",
    "snapshot-end",
    "ddl",
    "checksum",
    "sequence",
    "gap",
    "timeline",
];

/// Headers that the worker sets, or will.
const HEADERS: [&str; 27] = [
    "application",
    "commit_lsn",
    "commit_timeline",
    "commit_ts",
    "context",
    "damaged",
    "database",
    "encoding",
    "json_null",
    "key",
    "origin",
    "oversize",
    "prev_commit",
    "published",
    "refused",
    "resent",
    "root_schema",
    "root_table",
    "schema",
    "snapshot",
    "snapshot_chunk",
    "table",
    "truncated",
    "tx_seq",
    "tx_size",
    "user",
    "xid",
];

/// What the broker says of dead letters, and how their headers begin. It reads them again, and closes the channel
/// where they are not as it writes them.
const DEATH: &str = "x-death";
const DEATHS: [&str; 2] = ["x-first-death-", "x-last-death-"];

/// The first word of the routing keys of what the worker says of the stream.
const FIRST_WORD: &str = "amqp_cdc";

/// How routing keys begin by which the broker's default exchange finds the connection of a consumer that waits for
/// an answer. Where the rest makes no sense to RabbitMQ 3.10, its channel fails.
const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to";

/// Whether it is a type of messages that are not a user's own, however its letters are written.
pub fn is_kind(kind: &str) -> bool {
    // A letter may have more than one way back.
    let folded = [kind.to_lowercase(), kind.to_uppercase().to_lowercase()];
    folded.iter().any(|kind| KINDS.contains(&kind.as_str()))
}

/// The types, for a hint.
pub fn kinds() -> String {
    KINDS.join(", ")
}

/// The headers, for a detail.
pub fn headers() -> String {
    HEADERS.join(", ")
}

/// Whether a header of this name is the worker's to set.
pub fn is_header(name: &str) -> bool {
    HEADERS.contains(&name)
}

/// Whether a header of this name is the broker's to set.
pub fn is_header_of_the_broker(name: &str) -> bool {
    name == DEATH || DEATHS.iter().any(|beginning| name.starts_with(beginning))
}

/// Whether messages with this routing key are about the stream.
pub fn is_routing_key(key: &str) -> bool {
    key.strip_prefix(FIRST_WORD).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether the broker reads a routing key otherwise than as one.
pub fn is_routing_key_of_the_broker(key: &str) -> bool {
    key.starts_with(DIRECT_REPLY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Operation;
    use crate::stream::gap;

    #[test]
    fn no_type_of_ours_can_be_said_in_any_letters() {
        let ours = [
            Operation::Insert,
            Operation::Update,
            Operation::Delete,
            Operation::Truncate,
            Operation::Gap,
            Operation::Timeline,
        ];
        assert!(ours.iter().all(|operation| is_kind(operation.as_str())));
        for kind in ["GAP", "Snapshot-Begin", "\u{17F}napshot", "t\u{131}meline", "chec\u{212A}sum"]
        {
            assert!(is_kind(kind), "{kind}");
        }
        for kind in ["message", "", "gaps", "order.insert", Operation::Published.as_str()] {
            assert!(!is_kind(kind), "{kind}");
        }
    }

    #[test]
    fn headers_are_reserved_by_their_exact_names() {
        for name in ["published", "xid", "tx_seq", "resent", "snapshot", "refused"] {
            assert!(is_header(name), "{name}");
        }
        assert!(!["Published", "tenant", "", "x-death"].into_iter().any(is_header));
        for name in ["x-death", "x-first-death-queue", "x-last-death-reason"] {
            assert!(is_header_of_the_broker(name), "{name}");
        }
        assert!(!is_header_of_the_broker("x-delay"));
        assert!(HEADERS.is_sorted());
    }

    #[test]
    fn routing_keys_of_ours_begin_with_our_name() {
        assert!([gap::ROUTING_KEY, "amqp_cdc.timeline"].into_iter().all(is_routing_key));
        assert!(is_routing_key_of_the_broker("amq.rabbitmq.reply-to.g2dk"));
        assert!(!is_routing_key_of_the_broker("amq.rabbitmq.trace"));
        assert!(["amqp_cdc", "amqp_cdc.", "amqp_cdc.x"].into_iter().all(is_routing_key));
        assert!(
            !["amqp_cdcs.gap", "x.amqp_cdc.gap", "", "AMQP_CDC.gap"]
                .into_iter()
                .any(is_routing_key)
        );
    }
}
