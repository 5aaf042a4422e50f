//! The chaos test: clients change tables at random while servers and the network between them
//! break at random; in the end what the queues delivered must be what the clients saw commit,
//! nothing less and nothing more, in order.
//!
//! | module | owns |
//! |---|---|
//! | `servers`, `pair` | the servers, and the way to the queues; a primary and its standby |
//! | `tables`, `schema` | what is captured: names, and making the tables and reading them |
//! | `exchanges` | which table's events go to which exchange, and what becomes of those that it refuses |
//! | `giants` | values that are enormous as text, and who writes them |
//! | `triggers` | what writes in the middle of a statement, and in which order |
//! | `messages` | messages of a client's own: what sends one, what a consumer must find in it |
//! | `clients`, `client` | who changes the tables and sends messages |
//! | `planned_transaction`, `statements` | what a transaction is to do, and that in SQL |
//! | `fault`, `injector`, `failover` | what may go wrong, and how it is injected and healed |
//! | `drain`, `delivery` | taking the messages, and what is kept of one |
//! | `ledger`, `deaths` | what the clients know, and what of it may be gone with a primary |
//! | `gaps`, `timelines` | which events exchanges were told they lack, and which are of a history that is no more |
//! | `verdict`, `replica` | the checks, pure |
//! | `clock`, `latency` | times, and how long events take while nothing is broken |
//! | `monitor`, `report` | what was seen on the way, and what is printed |

mod client;
mod clients;
mod clock;
mod deaths;
mod delivery;
mod drain;
mod exchanges;
mod failover;
mod fault;
mod gaps;
mod giants;
mod injector;
mod latency;
mod ledger;
mod messages;
mod monitor;
mod pair;
mod planned_transaction;
mod replica;
mod report;
mod schema;
mod servers;
mod statements;
mod tables;
mod timelines;
mod triggers;
mod verdict;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clients::{Account, CLIENTS, Clients, SENDER, WRITER_OF_GIANTS};
use deaths::Deaths;
use drain::Drain;
use fault::{Fault, Lane};
use injector::Injector;
use latency::{Latency, Span};
use ledger::Ledger;
use monitor::Observed;
pub use pair::Replication;
pub use report::Report;
use servers::Servers;
use verdict::Verdict;

use crate::dice::Dice;
use crate::end_signal::EndSignal;
use crate::wait::wait_until;

/// After the last fault is healed, until everything is confirmed and drained. A worker that
/// failed starts again after 5 s, a broker that did not answer is asked again after up to 30 s.
const SETTLING: Duration = Duration::from_secs(120);

/// In this part of a run nothing breaks, and events are timed: without the client of enormous values, and then in
/// as long a time with it.
const CALM: u32 = 10;

/// The longest that each of the two lasts.
const LONGEST_CALM: Duration = Duration::from_secs(30);

/// The tag of the last transaction: when it has arrived, everything has.
const LAST: &str = "last";

/// What a run is to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How long clients work and faults happen.
    pub duration: Duration,
    /// Decides the statements and the faults. Their interleaving it cannot decide.
    pub seed: u64,
    /// Whether the worker speaks TLS to its broker.
    pub tls: bool,
    /// Whether there is a standby, which is promoted now and then.
    pub replication: Replication,
}

/// Everything that happened until the clients and the faults came to their end.
struct History {
    ledger: Ledger,
    errors: BTreeMap<String, usize>,
    faults: BTreeMap<Fault, usize>,
    /// Without and with the client of enormous values.
    calm: [Span; 2],
    findings: Vec<String>,
    deaths: Deaths,
}

/// What the lanes have to tell in the end.
#[derive(Debug, Default)]
struct Injected {
    faults: BTreeMap<Fault, usize>,
    findings: Vec<String>,
    deaths: Deaths,
}

/// Runs it.
///
/// # Panics
/// If a server does not come up again, or the stream does not go on when everything is healed.
pub fn run(plan: Plan) -> Report {
    let way = if plan.tls { ", over TLS" } else { "" };
    let standby = plan.replication.name();
    eprintln!("chaos test: seed {}, {} s{way}{standby}", plan.seed, plan.duration.as_secs());
    let servers = Servers::start(plan.tls, plan.replication);
    let drains = Servers::queues().map(Drain::new);
    let (end_signal, settled) = (EndSignal::default(), EndSignal::default());
    let (mut history, observed) = thread::scope(|scope| {
        let _give = GiveOnDrop(&settled);
        for drain in &drains {
            let (broker, settled) = (servers.broker(), &settled);
            scope.spawn(move || drain.run(&broker, settled));
        }
        let monitor = scope.spawn(|| monitor::watch(&servers, &settled));
        let history = run_clients_and_faults(&servers, &drains, &end_signal, plan);
        settle(&servers, &drains);
        settled.give();
        let observed: Observed = monitor.join().unwrap_or_default();
        (history, observed)
    });
    let report = judge(&servers, &drains, &mut history, observed, plan);
    if !report.is_clean() {
        servers.bed.print_logs_once();
    }
    report
}

/// Lets the threads that wait for it end when the scope is left by a panic.
struct GiveOnDrop<'a>(&'a EndSignal);

impl Drop for GiveOnDrop<'_> {
    fn drop(&mut self) {
        self.0.give();
    }
}

/// Clients work, at first undisturbed, and then faults happen until the time is up and everything is healed.
fn run_clients_and_faults(
    servers: &Servers,
    drains: &[Drain],
    end_signal: &EndSignal,
    plan: Plan,
) -> History {
    let clients = Clients::new(servers, plan.seed, end_signal);
    let injected = Mutex::new(Injected::default());
    let (began, calm) = (Instant::now(), (plan.duration / CALM).min(LONGEST_CALM));
    let (accounts, calm): (Vec<Account>, _) = thread::scope(|scope| {
        let _give = GiveOnDrop(end_signal);
        let clients = &clients;
        let work = |number| scope.spawn(move || client::work(clients, number));
        let mut working: Vec<_> = (0..CLIENTS).chain([SENDER]).map(work).collect();
        let pass = |time| _ = end_signal.comes_within(time);
        // What everybody does for the first time takes longer.
        pass(calm / 2);
        let without = Span::of(|| pass(calm));
        working.push(work(WRITER_OF_GIANTS));
        let with = Span::of(|| pass(calm));
        wait_until("what was timed has arrived", SETTLING, || {
            with.is_over(&drains[0].received().deliveries).then_some(())
        });
        for (lane, number) in [(Lane::Broker, 101), (Lane::Network, 102), (Lane::Postgres, 103)] {
            let injector = Injector::new(servers, end_signal, Dice::new(plan.seed, number));
            let injected = &injected;
            let longest_rest = lane.longest_rest(plan.duration);
            scope.spawn(move || inject_faults(injector, lane, longest_rest, began, injected));
        }
        pass(plan.duration.saturating_sub(began.elapsed()));
        end_signal.give();
        let join =
            |client: thread::ScopedJoinHandle<'_, Account>| client.join().expect("a client failed");
        (working.into_iter().map(join).collect(), [without, with])
    });
    let (ledger, errors) = close_books(accounts, &clients);
    let Injected { faults, findings, deaths } =
        injected.into_inner().unwrap_or_else(PoisonError::into_inner);
    History { ledger, errors, faults, calm, findings, deaths }
}

/// Injects one lane's faults, dealt like cards: each kind comes once before any comes again.
fn inject_faults(
    mut injector: Injector<'_>,
    lane: Lane,
    longest_rest: u64,
    began: Instant,
    injected: &Mutex<Injected>,
) {
    // A panic here, a server that does not come up, ends the run.
    let _give = GiveOnDrop(injector.end_signal);
    loop {
        for fault in lane.deal(injector.servers, &mut injector.dice) {
            let rest = injector.dice.time(200, longest_rest);
            if injector.end_signal.comes_within(rest) {
                return;
            }
            let at = began.elapsed().as_secs_f64();
            let took_place = injector.inject(fault);
            let until = began.elapsed().as_secs_f64();
            eprintln!(
                "{at:6.1} s to {until:6.1} s: {}{}",
                fault.name(),
                if took_place { "" } else { " (not done)" }
            );
            let mut injected = injected.lock().unwrap_or_else(PoisonError::into_inner);
            injected.findings.append(&mut injector.findings);
            injected.deaths.0.append(&mut injector.deaths.0);
            if took_place {
                *injected.faults.entry(fault).or_default() += 1;
            }
        }
    }
}

fn close_books(accounts: Vec<Account>, clients: &Clients<'_>) -> (Ledger, BTreeMap<String, usize>) {
    let mut ledger = Ledger::default();
    let mut errors: BTreeMap<String, usize> = BTreeMap::new();
    for account in accounts {
        account.transactions.into_iter().for_each(|transaction| ledger.enter(transaction));
        account.autonomous.into_iter().for_each(|message| ledger.enter_autonomous(message));
        for (message, message_id) in account.message_ids {
            ledger.enter_message_id(message, message_id);
        }
        for (code, times) in account.errors {
            *errors.entry(code).or_default() += times;
        }
    }
    clients.leave().into_iter().for_each(|transaction| ledger.enter(transaction));
    (ledger, errors)
}

/// Ends what is still prepared, and waits until everything has arrived.
fn settle(servers: &Servers, drains: &[Drain]) {
    let mut session = servers.connect();
    let prepared = session.query("SELECT gid FROM pg_prepared_xacts ORDER BY gid", &[]);
    for (number, row) in prepared.expect("could not list prepared transactions").iter().enumerate()
    {
        // One that is there again after a failover its client may know as rolled back.
        let is_certain = servers.replication != Replication::Asynchronous;
        let verb = if is_certain && number % 2 == 0 { "COMMIT" } else { "ROLLBACK" };
        let statement = format!("{verb} PREPARED '{}'", row.get::<_, &str>(0));
        session.batch_execute(&statement).expect("could not end a prepared transaction");
    }
    // Exchanges that are there again are asked at once whether they take messages, and told what they lack.
    servers.primary().reload();
    servers.wait_until_confirmed(SETTLING);
    let last = format!("INSERT INTO {} VALUES ('{LAST}', '{LAST}#end')", tables::JOURNAL);
    session.batch_execute(&last).expect("could not write the last transaction");
    servers.wait_until_confirmed(SETTLING);
    for drain in drains {
        let queue = drain.queue.name();
        wait_until(&format!("the {queue} queue is drained"), SETTLING, || {
            let is_drained = drain.has_seen(LAST) && servers.broker().message_count(queue) == 0;
            is_drained.then_some(())
        });
    }
}

fn judge(
    servers: &Servers,
    drains: &[Drain],
    history: &mut History,
    observed: Observed,
    plan: Plan,
) -> Report {
    let mut session = servers.connect();
    let source = schema::rows(&mut session).expect("could not read the tables");
    let tags = schema::tags(&mut session, &source).expect("could not read the signatures");
    let ledger = &mut history.ledger;
    ledger.enter(last_transaction());
    let contradictions = ledger.resolve(&tags, &history.deaths);
    let mut broken = std::mem::take(&mut history.findings);
    broken.extend(servers.lost_places());
    let promotions = servers.pair.as_ref().map(|_| pair::promotions(servers.primary()));
    let promotions = promotions.unwrap_or_default();
    for drain in drains {
        let differences = drain.received().switches.differences(&promotions);
        let queue = drain.queue.name();
        broken
            .extend(differences.iter().map(|difference| format!("the {queue} queue {difference}")));
    }
    // That of the first queue: the others' differ by what RabbitMQ does with them.
    let latencies = history
        .calm
        .map(|span| Latency::within(span, &drains[0].received().deliveries, WRITER_OF_GIANTS));
    let verdicts = drains.iter().map(|drain| {
        let verdict = Verdict::on(&drain.received(), ledger, &source);
        (drain.queue.name().to_owned(), verdict)
    });
    Report {
        verdicts: verdicts.collect(),
        seed: plan.seed,
        tls: plan.tls,
        replication: plan.replication,
        ran: plan.duration,
        faults: std::mem::take(&mut history.faults),
        committed: ledger.committed().count(),
        rolled_back: ledger.rolled_back(),
        resolved: ledger.resolved(),
        promotions: promotions.len(),
        undone: ledger.undone(),
        events: ledger.committed().map(|transaction| transaction.changes.len()).sum(),
        midway: ledger.committed().map(|transaction| transaction.midway).sum(),
        messages: ledger
            .committed()
            .flat_map(|transaction| &transaction.changes)
            .filter(|change| messages::is_message(change))
            .count(),
        autonomous: ledger.autonomous().fold([0, 0], |[sent, unknown], (_, must_be_sent)| {
            if must_be_sent { [sent + 1, unknown] } else { [sent, unknown + 1] }
        }),
        longest_message: drains.iter().map(|drain| drain.received().longest).max().unwrap_or(0),
        errors: std::mem::take(&mut history.errors),
        giants: ledger.committed().flat_map(|transaction| &transaction.changes).fold(
            [0, 0],
            |[whole, keys_only], change| match giants::is_keys_only(&change.table, &change.key) {
                true => [whole, keys_only + 1],
                false => [whole + usize::from(change.table == tables::ENORMOUS), keys_only],
            },
        ),
        latencies,
        observed,
        broken,
        contradictions,
    }
}

fn last_transaction() -> ledger::Transaction {
    let change = ledger::Change {
        table: tables::JOURNAL.to_owned(),
        operation: "insert".to_owned(),
        key: LAST.to_owned(),
        stamp: format!("{LAST}#end"),
    };
    let (tag, changes) = (LAST.to_owned(), vec![change]);
    let outcome = ledger::Outcome::Committed;
    ledger::Transaction { tag, changes, midway: 0, outcome, commit: None }
}
