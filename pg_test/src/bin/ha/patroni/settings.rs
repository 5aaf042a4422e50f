//! What Patroni is told: a member's own configuration, and what the cluster has in common, as an operator of ours
//! would write it (docs/high-availability.md).

use std::path::Path;

use serde_json::{Value, json};

/// Seconds until a leader that gives no sign of life is one no more. As short as Patroni works with here: 30 is usual.
pub const TTL: u64 = 8;

/// The database that everybody works in.
pub const DATABASE: &str = "ha";

/// The exchange that the worker publishes to.
pub const EXCHANGE: &str = "ha-patroni";

/// What `wal_keep_size` is, in MB: the least that Patroni takes.
pub const KEPT: u64 = 16;

/// Where a member's parts are.
#[derive(Debug)]
pub struct Local<'a> {
    pub name: &'a str,
    pub etcd: u16,
    pub rest: u16,
    pub postgres: u16,
    pub folder: &'a Path,
    pub programs: &'a Path,
}

/// The configuration of a member, with that of the cluster, which the first member makes. JSON is YAML, too.
pub fn of_member(local: &Local<'_>, broker: u16) -> Value {
    let address = |port: u16| format!("127.0.0.1:{port}");
    let path = |name: &str| local.folder.join(name).display().to_string();
    let user = json!({"username": "postgres"});
    json!({
        "scope": "pg_test",
        "name": local.name,
        "restapi": {"listen": address(local.rest), "connect_address": address(local.rest)},
        // Not etcd3: by that, a Patroni before 3.0.3 that wakes takes the lock back, whoever has it (patroni#2689).
        "etcd": {"hosts": address(local.etcd)},
        "bootstrap": {
            "dcs": of_cluster(broker),
            "initdb": [
                {"encoding": "UTF8"}, {"locale": "C"}, {"auth": "trust"}, {"wal-segsize": "1"}, "no-sync",
            ],
            "pg_hba": [
                "local all all trust",
                "host all all 127.0.0.1/32 trust",
                "host replication all 127.0.0.1/32 trust",
            ],
        },
        "postgresql": {
            "listen": address(local.postgres),
            "connect_address": address(local.postgres),
            "data_dir": path("data"),
            "bin_dir": local.programs.display().to_string(),
            "pgpass": path("pgpass"),
            "authentication": {"superuser": user, "replication": user, "rewind": user},
            "parameters": {
                "unix_socket_directories": local.folder.display().to_string(),
                "fsync": "off",
                "logging_collector": "off",
            },
            "remove_data_directory_on_diverged_timelines": true,
        },
    })
}

/// `ignore_slots`: Patroni leaves our slot alone.
pub fn ignored_slots() -> Value {
    json!([{"name": "amqp_cdc", "type": "physical"}])
}

fn of_cluster(broker: u16) -> Value {
    json!({
        "ttl": TTL,
        "loop_wait": 1,
        "retry_timeout": 3,
        "maximum_lag_on_failover": 100 << 20,
        "synchronous_mode": true,
        "ignore_slots": ignored_slots(),
        "postgresql": {
            "use_pg_rewind": true,
            "use_slots": true,
            "parameters": {
                "shared_preload_libraries": "amqp_cdc",
                "amqp.host": "127.0.0.1",
                "amqp.port": broker,
                "amqp.exchange": EXCHANGE,
                "wal_log_hints": "on",
                "max_prepared_transactions": 50,
                "max_connections": 100,
                "wal_keep_size": format!("{KEPT}MB"),
                "min_wal_size": "8MB",
                "max_wal_size": "16MB",
                "checkpoint_timeout": "30s",
                "log_line_prefix": "%m [%p] %b ",
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// What an operator reads is what is tried.
    #[test]
    fn the_documentation_has_what_is_tried() {
        let document = include_str!("../../../../../docs/high-availability.md");
        let words = "ignore_slots:\n  - name: amqp_cdc\n    type: physical\n";
        assert!(document.contains(words));
        assert_eq!(ignored_slots(), json!([{"name": "amqp_cdc", "type": "physical"}]));
        let local = Local {
            name: "one",
            etcd: 1,
            rest: 2,
            postgres: 3,
            folder: Path::new("/f"),
            programs: Path::new("/b"),
        };
        assert_eq!(of_member(&local, 4)["postgresql"]["data_dir"], "/f/data");
    }
}
