//! What goes wrong with the leader, one trial after the other, and what is held against what afterwards.

use std::fmt::Write;
use std::time::{Duration, Instant};

use pg_test::{send_signal, wait_until};
use postgres::Client;
use serde_json::{Value, json};

use super::books::{Rows, Verdict};
use super::cluster::Cluster;
use super::collector::Collector;
use super::ledger::{Ledger, Outcome, Transaction};
use super::member::Member;
use super::settings::{self, DATABASE, TTL};
use super::writers::Writers;
use crate::report::Report;

/// For what writers do while everything works, and for what ends with Patroni's next round.
const PATIENCE: Duration = Duration::from_secs(60);

/// So many transactions are to be acknowledged before anything happens, and after it.
const ENOUGH: usize = 100;

/// So many writers, half of which ask the one member first.
const WRITERS: usize = 6;

/// All of them, with what is known of the whole run.
pub struct Trials<'a> {
    pub cluster: &'a Cluster,
    pub collector: &'a Collector,
    seed: u64,
    ledger: Ledger,
    lines: Vec<Line>,
    findings: Vec<String>,
}

/// What a trial came to.
struct Line {
    what: String,
    /// Transactions that were acknowledged.
    acknowledged: usize,
    /// Of them, gone with the old leader; published by it, and struck out; lost, and told by a gap.
    gone: usize,
    struck_out: usize,
    late: usize,
    told_lost: usize,
    /// Of the whole run so far: lost, invented, out of order and so on.
    findings: usize,
    /// Until something came of the new leader.
    taken_over: Option<Duration>,
}

/// What happens in a trial, and when that was.
type Fault = fn(&Trials<'_>, &mut Writers) -> Instant;

const SWITCHOVER: (&str, Fault) = ("switchover", switch_over);
const POSTMASTER: (&str, Fault) =
    ("postmaster killed (-9), started and promoted again by Patroni", kill_postmaster);
const KILLED: (&str, Fault) =
    ("leader killed (-9), Patroni and PostgreSQL, and started again", kill_leader);
const FROZEN: (&str, Fault) = (
    "leader frozen (SIGSTOP), Patroni and PostgreSQL, and woken once there is another",
    freeze_leader,
);
const TWO: (&str, Fault) = (
    "Patroni of the leader frozen, PostgreSQL not: two primaries until it is woken",
    freeze_patroni,
);
const ANEW: (&str, Fault) = ("replica reinitialised, and switchover to it", reinitialize);

/// How the cluster is set, and what happens to it then.
pub struct Way {
    name: &'static str,
    change: fn() -> Value,
    /// Nobody is told of a commit, and nothing is published, before the other member has it; nothing may be gone then.
    is_synchronous: bool,
    /// Nothing that is gone may come after the new leader has said so.
    is_single: bool,
    faults: &'static [(&'static str, Fault)],
}

/// One after the other.
pub const WAYS: &[Way] = &[
    Way {
        name: "synchronous",
        change: || json!({"synchronous_mode": true}),
        is_synchronous: true,
        is_single: false,
        faults: &[SWITCHOVER, POSTMASTER, KILLED, FROZEN, TWO, ANEW],
    },
    Way {
        name: "asynchronous",
        change: || json!({"synchronous_mode": false}),
        is_synchronous: false,
        is_single: false,
        faults: &[SWITCHOVER, POSTMASTER, KILLED, FROZEN, TWO, ANEW],
    },
    Way {
        name: "asynchronous, `amqp.single_publisher = on`",
        change: || json!({"postgresql": {"parameters": {"amqp.single_publisher": "on"}}}),
        is_synchronous: false,
        is_single: true,
        faults: &[KILLED, FROZEN, TWO],
    },
    Way {
        name: "",
        change: || json!({"postgresql": {"parameters": {"amqp.single_publisher": null}}}),
        is_synchronous: false,
        is_single: false,
        faults: &[],
    },
];

impl<'a> Trials<'a> {
    pub fn new(cluster: &'a Cluster, collector: &'a Collector, seed: u64) -> Trials<'a> {
        Trials {
            cluster,
            collector,
            seed,
            ledger: Ledger::default(),
            lines: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// Sets the cluster so, and has each of these things happen.
    pub fn run_all(&mut self, way: &Way) {
        self.cluster.configure(&(way.change)());
        for &(what, fault) in way.faults {
            self.cluster.wait_until_whole(way.is_synchronous);
            let name = format!("t{}", self.lines.len());
            let mut writers = Writers::new(&name, self.seed + self.lines.len() as u64);
            let [one, two] = &self.cluster.members;
            for number in 0..WRITERS {
                let first = if number % 2 == 0 { one } else { two };
                writers.add(self.cluster.connection_string(first, DATABASE));
            }
            let timeline = timeline_of(&mut self.cluster.connect(DATABASE));
            wait_for_writers(&writers, timeline, ENOUGH);
            let began = fault(self, &mut writers);
            let leader = self.cluster.leader();
            let now = timeline_of(&mut leader.connect(DATABASE));
            let so_far = if now == timeline { writers.acknowledged_on(now) } else { 0 };
            wait_for_writers(&writers, now, so_far + ENOUGH);
            self.enter(writers.end());
            self.cluster.wait_until_whole(way.is_synchronous);
            let began = (now != timeline).then_some((now, began));
            let what = format!("{}: {what}", way.name);
            let verdict = self.close(&what, &name, began);
            if way.is_synchronous && verdict.gone.len() + verdict.struck_out.len() > 0 {
                self.findings.push(format!("{what}: gone: {:?}", verdict.gone));
            }
            let own = format!("{name}-");
            if way.is_single && verdict.late.iter().any(|tag| tag.starts_with(&own)) {
                self.findings.push(format!("{what}: two published: {:?}", verdict.late));
            }
        }
    }

    pub fn enter(&mut self, ledger: Ledger) {
        ledger.all().for_each(|transaction| self.ledger.enter(transaction.clone()));
    }

    /// How many trials there were.
    pub fn count(&self) -> usize {
        self.lines.len()
    }

    /// Ends a trial: waits until everything has come, and holds the books against the leader's tables. `began`: the
    /// timeline that began, and when the fault happened.
    pub fn close(&mut self, what: &str, name: &str, began: Option<(u64, Instant)>) -> Verdict {
        let mut client = self.cluster.connect(DATABASE);
        end_prepared(&mut client);
        let last = format!("{name}-last");
        write(&mut client, &last);
        self.ledger.enter(Transaction {
            tag: last.clone(),
            keys: Vec::new(),
            outcome: Outcome::Unknown,
        });
        wait_until("everything has come", PATIENCE, || {
            self.collector.collected().books.has(&last).then_some(())
        });
        let rows = rows(&mut client);
        let collected = self.collector.collected();
        let verdict = collected.books.judge(&rows, &self.ledger);
        let own = format!("{name}-");
        let of_this = |tag: &&String| tag.starts_with(&own);
        let found = verdict.findings();
        let line = Line {
            what: what.to_owned(),
            acknowledged: self
                .ledger
                .acknowledged()
                .filter(|(transaction, _)| of_this(&&transaction.tag))
                .count(),
            gone: verdict.gone.iter().filter(of_this).count(),
            struck_out: verdict.struck_out.iter().filter(of_this).count(),
            late: verdict.late.iter().filter(of_this).count(),
            told_lost: verdict.told_lost.iter().filter(of_this).count(),
            findings: found.iter().map(|(_, found)| found.len()).sum(),
            taken_over: began.and_then(|(timeline, at)| {
                Some(collected.began.get(&timeline)?.saturating_duration_since(at))
            }),
        };
        for (kind, found) in found {
            let told = found.iter().take(5).map(|finding| format!("{what}: {kind}: {finding}"));
            self.findings.extend(told);
        }
        eprintln!("{}", line.text());
        self.lines.push(line);
        verdict
    }

    /// Notes what was not as promised.
    pub fn find(&mut self, finding: String) {
        self.findings.push(finding);
    }

    pub fn report(self) -> Report {
        let mut table = format!(
            "Patroni of Debian 12, two members, etcd; `ttl` {TTL} s, `loop_wait` 1 s, `wal_keep_size` {} MB; \
             {WRITERS} sessions write to whoever takes writes, half of them ask the one member first. \
             Transactions:\n\n",
            settings::KEPT
        );
        table += "| what happens | acknowledged | gone with the old leader | published by it, struck out by \
                  `timeline` | of these, after the new leader's first | lost, told by a `gap` | **lost, invented, out of order, torn or diverged** | until \
                  something came of the new leader |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n";
        self.lines.iter().for_each(|line| _ = writeln!(table, "{}", line.text()));
        if !self.findings.is_empty() {
            for member in &self.cluster.members {
                let log = member.log();
                let lines: Vec<_> = log.lines().collect();
                let end = &lines[lines.len().saturating_sub(300)..];
                eprintln!("--- member {}'s log ---\n{}", member.name, end.join("\n"));
            }
        }
        Report { table, findings: self.findings }
    }
}

impl Line {
    fn text(&self) -> String {
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            self.what,
            self.acknowledged,
            self.gone,
            self.struck_out,
            self.late,
            self.told_lost,
            self.findings,
            self.taken_over.map(seconds).unwrap_or_default()
        )
    }
}

fn switch_over(trials: &Trials<'_>, _writers: &mut Writers) -> Instant {
    let began = Instant::now();
    trials.cluster.switch_over();
    began
}

fn kill_postmaster(trials: &Trials<'_>, _writers: &mut Writers) -> Instant {
    let leader = trials.cluster.leader();
    let killed = leader.postmaster().expect("the leader runs");
    let began = Instant::now();
    send_signal(killed, "KILL");
    wait_until("another postmaster runs", PATIENCE, || {
        leader.postmaster().filter(|&pid| pid != killed)
    });
    trials.cluster.leader();
    began
}

fn kill_leader(trials: &Trials<'_>, writers: &mut Writers) -> Instant {
    let (leader, next) = before_the_end(trials, writers);
    let began = Instant::now();
    leader.kill();
    trials.cluster.wait_for_leader(next);
    work_with(trials, writers, next);
    leader.start_again();
    began
}

fn freeze_leader(trials: &Trials<'_>, writers: &mut Writers) -> Instant {
    let (leader, next) = before_the_end(trials, writers);
    let began = Instant::now();
    leader.freeze();
    trials.cluster.wait_for_leader(next);
    work_with(trials, writers, next);
    leader.thaw();
    began
}

fn freeze_patroni(trials: &Trials<'_>, writers: &mut Writers) -> Instant {
    let leader = trials.cluster.leader();
    let next = trials.cluster.other(leader);
    let patroni = leader.patroni().expect("the leader has a Patroni");
    let began = Instant::now();
    send_signal(patroni, "STOP");
    trials.cluster.wait_for_leader(next);
    work_with(trials, writers, next);
    send_signal(patroni, "CONT");
    began
}

fn reinitialize(trials: &Trials<'_>, _writers: &mut Writers) -> Instant {
    let leader = trials.cluster.leader();
    let replica = trials.cluster.other(leader);
    trials.cluster.reinitialize(replica);
    trials.cluster.wait_until_streams(replica);
    let began = Instant::now();
    trials.cluster.switch_over();
    began
}

/// The leader, which ends soon, and the other one. An asynchronous one does not get what is committed last.
fn before_the_end<'a>(trials: &Trials<'a>, writers: &Writers) -> (&'a Member, &'a Member) {
    let leader = trials.cluster.leader();
    let mut client = leader.connect(DATABASE);
    let query = "SELECT pid FROM pg_stat_replication WHERE sync_state = 'async'";
    let rows = client.query(query, &[]).expect("could not ask for the standbys");
    if !rows.is_empty() {
        rows.iter().for_each(|row| send_signal(row.get::<_, i32>(0) as u32, "STOP"));
        let timeline = timeline_of(&mut client);
        wait_for_writers(writers, timeline, writers.acknowledged_on(timeline) + ENOUGH);
    }
    (leader, trials.cluster.other(leader))
}

/// Sessions work with the new leader, while those of the old one may wait.
fn work_with(trials: &Trials<'_>, writers: &mut Writers, next: &Member) {
    for _ in 0..2 {
        writers.add(trials.cluster.connection_string(next, DATABASE));
    }
    let timeline = timeline_of(&mut next.connect(DATABASE));
    wait_for_writers(writers, timeline, ENOUGH);
}

fn wait_for_writers(writers: &Writers, timeline: u64, count: usize) {
    wait_until(&format!("{count} transactions are made on timeline {timeline}"), PATIENCE, || {
        (writers.acknowledged_on(timeline) >= count).then_some(())
    });
}

/// The one that this server writes to.
pub fn timeline_of(client: &mut Client) -> u64 {
    let query =
        "SELECT ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int";
    let row = client.query_one(query, &[]).expect("could not ask for the timeline");
    row.get::<_, i32>(0) as u64
}

/// A transaction that only signs.
pub fn write(client: &mut Client, tag: &str) {
    let statement = format!("INSERT INTO journal VALUES ('{tag}', '{tag}')");
    client.batch_execute(&statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
}

fn end_prepared(client: &mut Client) {
    let prepared = client.query("SELECT gid FROM pg_prepared_xacts", &[]);
    for row in prepared.expect("could not list prepared transactions") {
        let statement = format!("COMMIT PREPARED '{}'", row.get::<_, &str>(0));
        client.batch_execute(&statement).expect("could not end a prepared transaction");
    }
}

fn rows(client: &mut Client) -> Rows {
    let query =
        "SELECT 'rows', key, stamp FROM rows UNION ALL SELECT 'journal', key, stamp FROM journal";
    let found = client.query(query, &[]).expect("could not read the tables");
    found.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect()
}
