//! The harness keeps its promises, without the extension: servers start, stop and crash with their
//! data kept; messages arrive whole; waits end; nothing outlives the test process.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use pg_test::{DEADLINE, Postgres, Queue, RabbitMq, Shutdown, Testbed, send_signal, wait_until};

#[test]
fn postgres_keeps_committed_data_through_a_crash_and_a_shutdown() {
    let postgres = Postgres::create(&[]);
    let count = || -> i64 {
        postgres.connect("postgres").query_one("SELECT count(*) FROM kept", &[]).unwrap().get(0)
    };
    let mut client = postgres.connect("postgres");
    client.batch_execute("CREATE TABLE kept AS SELECT 1 AS one").unwrap();

    postgres.restart(Shutdown::Immediate);
    assert!(client.batch_execute("SELECT 1").is_err(), "the old session is gone");
    assert_eq!(count(), 1);

    postgres.restart(Shutdown::Fast);
    assert_eq!(count(), 1);
    assert!(postgres.log().contains("automatic recovery in progress"), "it did crash");
}

#[test]
fn postgres_takes_configuration_and_encoding_from_the_caller() {
    let postgres = Postgres::create_with(&["--encoding=LATIN1"], &["work_mem = '5MB'"]);
    let show = |name: &str| -> String {
        let mut client = postgres.connect("postgres");
        client.query_one(&format!("SHOW {name}"), &[]).unwrap().get(0)
    };
    assert_eq!(show("server_encoding"), "LATIN1");
    assert_eq!(show("work_mem"), "5MB");
    assert_eq!(show("fsync"), "off");

    postgres.set("work_mem", "7MB");
    assert_eq!(show("work_mem"), "7MB");
    postgres.reset("work_mem");
    assert_eq!(show("work_mem"), "5MB");
}

#[test]
fn a_standby_follows_and_takes_over_when_promoted() {
    let primary = Postgres::create(&["work_mem = '5MB'"]);
    run(&primary, "CREATE TABLE kept AS SELECT 1 AS one");
    let standby = primary.standby("follower", &["work_mem = '6MB'"]);
    assert_ne!(standby.port(), primary.port());
    assert!(ask::<bool>(&standby, "SELECT pg_is_in_recovery()"));
    assert_eq!(ask::<String>(&standby, "SELECT current_setting('work_mem')"), "6MB");
    let names = "SELECT string_agg(application_name, ',') FROM pg_stat_replication";
    assert_eq!(ask::<String>(&primary, names), "follower");

    run(&primary, "INSERT INTO kept VALUES (2)");
    wait_until("the standby has the row", DEADLINE, || {
        (ask::<i64>(&standby, "SELECT count(*) FROM kept") == 2).then_some(())
    });
    standby.restart(Shutdown::Fast);
    assert!(ask::<bool>(&standby, "SELECT pg_is_in_recovery()"));

    primary.stop(Shutdown::Immediate);
    standby.promote();
    run(&standby, "INSERT INTO kept VALUES (3)");
    assert_eq!(timeline(&standby), 2);
    drop(primary);
    assert_eq!(ask::<i64>(&standby, "SELECT count(*) FROM kept"), 3);
}

#[test]
fn a_primary_that_was_shut_down_can_follow_the_one_that_took_over() {
    let old = Postgres::create(&[]);
    run(&old, "CREATE TABLE kept AS SELECT 1 AS one");
    let new = old.standby("follower", &[]);
    old.stop(Shutdown::Fast);
    new.promote();
    run(&new, "INSERT INTO kept VALUES (2)");
    old.follow(&new, "former");
    wait_until("the old primary has the row", DEADLINE, || {
        (ask::<i64>(&old, "SELECT count(*) FROM kept") == 2).then_some(())
    });
    assert!(ask::<bool>(&old, "SELECT pg_is_in_recovery()"));
}

#[test]
fn a_backup_holds_what_was_committed_while_it_was_made() {
    let original = Postgres::create(&[]);
    let copy = original.backup_while(&["work_mem = '6MB'"], || {
        run(&original, "CREATE TABLE kept AS SELECT 1 AS one");
    });
    run(&original, "INSERT INTO kept VALUES (2)");
    copy.start();
    assert_eq!(ask::<i64>(&copy, "SELECT count(*) FROM kept"), 1);
    assert_eq!(ask::<i64>(&original, "SELECT count(*) FROM kept"), 2);
    assert_eq!(ask::<String>(&copy, "SELECT current_setting('work_mem')"), "6MB");
    assert_eq!(timeline(&copy), 1);
}

#[test]
fn a_backup_recovers_from_an_archive_to_a_new_timeline() {
    let archiving = "archive_command = 'mkdir -p ../archive && cp %p ../archive/%f'";
    let original = Postgres::create(&["archive_mode = on", archiving]);
    let restore = format!("restore_command = 'cp {}/archive/%f %p'", original.folder().display());
    let copy = original.backup(&[&restore]);
    run(&original, "CREATE TABLE kept AS SELECT 1 AS one");
    original.stop(Shutdown::Fast);
    copy.start_from_archive();
    assert_eq!(ask::<i64>(&copy, "SELECT count(*) FROM kept"), 1);
    assert_eq!(timeline(&copy), 2);
}

#[test]
fn psql_line_works_as_it_stands() {
    let postgres = Postgres::create(&[]);
    let line = format!("{} -Atc 'SELECT 6 * 7'", postgres.psql_line("postgres"));
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "42");
}

#[test]
fn a_message_arrives_through_an_exchange() {
    let rabbitmq = broker();
    let broker = rabbitmq.broker();
    broker.declare_exchange("news", "topic");
    let consumer = broker.consume(&Queue::transient("reader").bound_to("news", "cdc.#"));

    broker.publish("news", "cdc.article.insert", br#"{"current": {"id": 1}}"#);

    let events = consumer.wait_for_events(1);
    assert_eq!(events[0].exchange, "news");
    assert_eq!(events[0].routing_key, "cdc.article.insert");
    assert_eq!(events[0].json()["current"]["id"], 1);
    assert_eq!(events[0].delivery_mode, Some(2));
    assert_eq!(events[0].message_id, None);
    assert!(!events[0].redelivered);
    assert_eq!(consumer.next_within(Duration::from_millis(50)), None);
}

#[test]
fn a_marker_ends_what_came_before_it() {
    let broker = broker().broker();
    broker.declare_exchange("marked", "fanout");
    let consumer = broker.consume(&Queue::transient("marked").bound_to("marked", ""));
    for routing_key in ["first", "second", "marker", "third"] {
        broker.publish("marked", routing_key, b"");
    }

    let before = consumer.wait_for_marker("marker");

    let keys: Vec<_> = before.iter().map(|event| event.routing_key.as_str()).collect();
    assert_eq!(keys, ["first", "second"]);
    assert_eq!(consumer.wait_for_events(1)[0].routing_key, "third");
}

#[test]
fn what_one_consumer_took_the_next_does_not_get() {
    let broker = broker().broker();
    let queue = Queue::durable("taken");
    let consumer = broker.consume(&queue);
    broker.publish("", "taken", b"1");
    broker.publish("", "taken", b"2");
    consumer.wait_for_events(2);
    drop(consumer);

    assert_eq!(broker.message_count("taken"), 0);
    broker.publish("", "taken", b"3");
    assert_eq!(broker.consume(&queue).wait_for_events(1)[0].text(), "3");
}

#[test]
fn a_wait_in_vain_tells_what_came_and_where_it_waited() {
    let broker = broker().broker();
    let queue = Queue::transient("in vain");
    let consumer = broker.consume(&queue).with_deadline(Duration::from_millis(300));
    broker.publish("", "in vain", b"");

    let told = panic_message(|| {
        consumer.wait_for_events(2);
    });

    assert!(told.contains("1 of 2 events came") && told.contains("in vain"), "{told}");
    let told = panic_message(|| {
        wait_until("pigs fly", Duration::from_millis(50), || None::<()>);
    });
    assert!(told.contains("pigs fly"), "{told}");
}

#[test]
fn an_unroutable_message_and_a_missing_queue_fail_the_test() {
    let broker = broker().broker();
    broker.declare_exchange("deserted", "topic");
    assert!(broker.has_exchange("deserted") && !broker.has_exchange("nowhere"));
    assert!(panic_message(|| broker.publish("deserted", "lost", b"")).contains("lost"));
    let told = panic_message(|| {
        broker.message_count("missing");
    });
    assert!(told.contains("NOT_FOUND") || told.contains("NOT-FOUND"), "{told}");
}

#[test]
fn rabbitmq_keeps_a_persistent_message_through_a_kill_and_a_stop() {
    let rabbitmq = RabbitMq::create();
    let (broker, port) = (rabbitmq.broker(), rabbitmq.port());
    let queue = Queue::durable("kept");
    broker.declare_queue(&queue);
    broker.publish("", "kept", b"still there");
    assert_eq!(broker.message_count("kept"), 1);
    let listener = broker.consume(&Queue::transient("listener"));
    // That there is such a queue is in a log which is written a moment later.
    rabbitmq.ctl(&["eval", "mnesia:sync_log()."]);

    rabbitmq.kill();
    let told = panic_message(|| {
        listener.wait_for_events(1);
    });
    assert!(told.contains("connection ended"), "{told}");
    rabbitmq.start();
    assert_eq!(broker.message_count("kept"), 1);

    rabbitmq.stop();
    rabbitmq.start();
    assert_eq!(rabbitmq.port(), port);
    assert_eq!(broker.consume(&queue).wait_for_events(1)[0].text(), "still there");
    assert!(rabbitmq.ctl(&["list_vhosts"]).contains('/'));
}

#[test]
fn fixtures_do_not_see_each_other() {
    let bed = Testbed::without_extension(&["work_mem = '5MB'"]);
    let (one, mut other) = (bed.scene("One fixture"), bed.scene("One fixture"));
    assert_ne!(one.database, other.database);

    let row = one
        .client()
        .query_one("SELECT current_database(), current_setting($1)", &[&"amqp.exchange"]);
    let row = row.unwrap();
    assert_eq!(row.get::<_, &str>(0), one.database);
    assert_eq!(row.get::<_, &str>(1), one.exchange);

    one.broker().publish(&one.exchange, "cdc.one", b"");
    other.broker().publish(&other.exchange, "cdc.other", b"");
    assert_eq!(one.consumer.wait_for_events(1)[0].routing_key, "cdc.one");
    assert_eq!(other.consumer.wait_for_events(1)[0].routing_key, "cdc.other");

    bed.rabbitmq.kill();
    bed.rabbitmq.start();
    other.consume_again();
    other.broker().publish(&other.exchange, "cdc.again", b"");
    // A killed broker may have forgotten acknowledgements, so old messages may come once more.
    let before = other.consumer.wait_for_marker("cdc.again");
    assert!(before.iter().all(|event| event.redelivered), "{before:?}");
}

#[test]
fn ports_are_given_out_once() {
    let ports: Vec<_> = (0..50).map(|_| pg_test::ports::free_port()).collect();
    let mut numbers: Vec<_> = ports.iter().map(pg_test::ports::Port::number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), ports.len());
    for number in numbers {
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).expect("nobody listens there");
    }
}

#[test]
fn a_dropped_server_leaves_nothing_behind() {
    let postgres = Postgres::create(&[]);
    let (folder, pid) = (postgres.folder().to_owned(), postgres.pid());
    assert!(folder.exists() && !processes_of(&folder).is_empty());
    drop(postgres);
    assert!(!folder.exists() && has_ended(pid));
}

#[test]
fn nothing_outlives_a_killed_test_process() {
    let mut victim = Victim::start("hold");
    // A stopped worker or postmaster is what fault tests leave behind when they die.
    send_signal(victim.postmaster, "STOP");
    victim.child.kill().unwrap();
    victim.leaves_nothing();
}

#[test]
fn nothing_outlives_a_test_process_that_exits() {
    Victim::start("exit").leaves_nothing();
}

/// Not a test of its own: the process that the two tests above start and see die.
#[test]
fn victim() {
    let Ok(how) = env::var(VICTIM) else { return };
    static SERVERS: LazyLock<(Postgres, RabbitMq)> =
        LazyLock::new(|| (Postgres::create(&[]), RabbitMq::create()));
    let (postgres, rabbitmq) = &*SERVERS;
    println!("{VICTIM} {} {}", postgres.pid(), postgres.folder().display());
    println!("{VICTIM} {} {}", rabbitmq.pid(), rabbitmq.folder().display());
    if how == "exit" {
        process::exit(0);
    }
    loop {
        thread::park();
    }
}

const VICTIM: &str = "PGTEST_VICTIM";

/// A test process with servers, and what is known of them.
struct Victim {
    child: Child,
    postmaster: u32,
    folders: Vec<PathBuf>,
    processes: Vec<u32>,
}

impl Victim {
    fn start(how: &str) -> Victim {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "victim", "--nocapture"])
            .env(VICTIM, how)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The first line may begin with the test runner's own words.
        let told: Vec<(u32, PathBuf)> = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| {
                let mut words = line.split(VICTIM).nth(1)?.split_whitespace();
                Some((words.next()?.parse().ok()?, words.next()?.into()))
            })
            .take(2)
            .collect();
        assert_eq!(told.len(), 2, "the victim did not start its servers");
        let folders: Vec<PathBuf> = told.iter().map(|(_, folder)| folder.clone()).collect();
        let mut processes: Vec<u32> = told.iter().map(|(pid, _)| *pid).collect();
        processes.extend(folders.iter().flat_map(|folder| processes_of(folder)));
        processes.extend(children_of(told[0].0));
        Victim { child, postmaster: told[0].0, folders, processes }
    }

    fn leaves_nothing(mut self) {
        self.child.wait().unwrap();
        for pid in &self.processes {
            wait_until(&format!("process {pid} has ended"), DEADLINE, || {
                has_ended(*pid).then_some(())
            });
        }
        for folder in &self.folders {
            wait_until("the folder is removed", DEADLINE, || (!folder.exists()).then_some(()));
            assert!(processes_of(folder).is_empty());
        }
    }
}

fn run(postgres: &Postgres, statement: &str) {
    postgres.connect("postgres").batch_execute(statement).unwrap();
}

fn ask<T: for<'a> postgres::types::FromSql<'a>>(postgres: &Postgres, query: &str) -> T {
    postgres.connect("postgres").query_one(query, &[]).unwrap().get(0)
}

/// The timeline that the server writes its WAL to.
fn timeline(postgres: &Postgres) -> i64 {
    let name: String = ask(postgres, "SELECT pg_walfile_name(pg_current_wal_lsn())");
    i64::from_str_radix(&name[..8], 16).unwrap()
}

/// The processes whose command line or environment names the folder.
fn processes_of(folder: &Path) -> Vec<u32> {
    let folder = format!("{}/", folder.display());
    let names_it = |path: PathBuf| {
        fs::read(path).is_ok_and(|text| String::from_utf8_lossy(&text).contains(&folder))
    };
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let process = PathBuf::from(format!("/proc/{pid}"));
            names_it(process.join("cmdline")) || names_it(process.join("environ"))
        })
        .collect()
}

/// The postmaster's children overwrite both with what they show in ps.
fn children_of(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Whether a process is gone, or dead and only not collected yet.
fn has_ended(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")),
        Err(_) => true,
    }
}

/// The broker that those tests share which do not stop it.
fn broker() -> &'static RabbitMq {
    static SHARED: LazyLock<RabbitMq> = LazyLock::new(|| {
        let start = Instant::now();
        let rabbitmq = RabbitMq::create();
        println!("RabbitMQ started in {:?}", start.elapsed());
        rabbitmq
    });
    &SHARED
}

fn panic_message(panics: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(panics)).expect_err("it should have panicked");
    payload.downcast_ref::<String>().cloned().unwrap_or_default()
}
