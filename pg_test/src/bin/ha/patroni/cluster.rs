//! The cluster: two members, and the etcd in which they agree who leads.

use std::time::Duration;

use pg_test::wait_until;
use postgres::Client;
use serde_json::{Value, json};

use super::etcd::Etcd;
use super::member::{Member, connection_string};

/// For what Patroni does in its own time: a lock runs out, a member is rewound or made anew.
const PATIENCE: Duration = Duration::from_secs(120);

/// Both members.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: a Patroni without etcd has lost its leader.
    pub members: [Member; 2],
    _etcd: Etcd,
}

impl Cluster {
    /// Starts both members, and returns when the second streams from the first, and is synchronous.
    pub fn start(broker: u16) -> Cluster {
        let etcd = Etcd::start();
        let members = ["one", "two"].map(|name| Member::start(name, etcd.port(), broker));
        let cluster = Cluster { members, _etcd: etcd };
        cluster.wait_until_whole(true);
        cluster
    }

    /// The member that leads, once there is one.
    #[track_caller]
    pub fn leader(&self) -> &Member {
        wait_until("somebody leads", PATIENCE, || self.members.iter().find(|member| member.leads()))
    }

    /// The other one.
    pub fn other(&self, member: &Member) -> &Member {
        let [one, two] = &self.members;
        if std::ptr::eq(one, member) { two } else { one }
    }

    /// Waits until this member leads.
    #[track_caller]
    pub fn wait_for_leader(&self, member: &Member) {
        let what = format!("member {} leads", member.name);
        wait_until(&what, PATIENCE, || member.leads().then_some(()));
    }

    /// Waits until there is a leader, and the other one streams from it, on the same timeline.
    #[track_caller]
    pub fn wait_until_whole(&self, is_synchronous: bool) {
        let sync_state = if is_synchronous { "sync" } else { "async" };
        wait_until("both members are well", PATIENCE, || {
            let leader = self.members.iter().find(|member| member.leads())?;
            let mut client = leader.try_connect("postgres")?;
            let query = "SELECT coalesce(string_agg(state || ' ' || sync_state, ','), '') \
                 FROM pg_stat_replication WHERE application_name = $1";
            let row = client.query_one(query, &[&self.other(leader).name]).ok()?;
            let is_there = row.get::<_, String>(0) == format!("streaming {sync_state}");
            // What Patroni itself knows of them.
            let known = leader.ask("/cluster")?.json()?;
            let members = known["members"].as_array()?;
            let role = if is_synchronous { "sync_standby" } else { "replica" };
            let is_known = members.iter().any(|member| member["role"] == role);
            let timelines: Vec<_> = members.iter().map(|member| &member["timeline"]).collect();
            let [one, two] = timelines[..] else { return None };
            (is_there && is_known && one == two).then_some(())
        });
    }

    /// Waits until the leader knows that this member streams from it.
    #[track_caller]
    pub fn wait_until_streams(&self, replica: &Member) {
        wait_until("the replica streams", PATIENCE, || {
            let mut client = self.other(replica).try_connect("postgres")?;
            let query = "SELECT count(*) > 0 FROM pg_stat_replication \
                 WHERE application_name = $1 AND state = 'streaming'";
            let row = client.query_one(query, &[&replica.name]).ok()?;
            let is_running = replica.ask("/replica")?.status == 200;
            (row.get::<_, bool>(0) && is_running).then_some(())
        });
    }

    /// Has the other member take over, in good order.
    #[track_caller]
    pub fn switch_over(&self) {
        let leader = self.leader();
        let next = self.other(leader);
        let order = json!({"leader": leader.name, "candidate": next.name}).to_string();
        // It is refused until Patroni knows that the other one is synchronous again.
        wait_until("the switchover is taken on", PATIENCE, || {
            let answer = leader.order("POST", "/switchover", &order)?;
            (answer.status == 200).then_some(())
        });
        self.wait_for_leader(next);
    }

    /// Makes a replica anew from the leader.
    #[track_caller]
    pub fn reinitialize(&self, member: &Member) {
        let answer = member.order("POST", "/reinitialize", r#"{"force": true}"#);
        let answer = answer.unwrap_or_else(|| panic!("{} does not answer", member.name));
        assert_eq!(answer.status, 200, "{}", answer.body);
        wait_until("the member is being made anew", PATIENCE, || {
            let state = member.ask("/patroni")?.json()?;
            (state["state"] != "running").then_some(())
        });
    }

    /// Changes what the cluster has in common, and waits until both members have read that.
    #[track_caller]
    pub fn configure(&self, change: &Value) {
        let answer = self.leader().order("PATCH", "/config", &change.to_string());
        assert_eq!(answer.map(|answer| answer.status), Some(200), "{change}");
    }

    /// How to connect to whoever takes writes; this member is asked first.
    pub fn connection_string(&self, first: &Member, database: &str) -> String {
        connection_string(&[first.postgres(), self.other(first).postgres()], database)
    }

    /// A session with the leader.
    #[track_caller]
    pub fn connect(&self, database: &str) -> Client {
        self.leader().connect(database)
    }
}
