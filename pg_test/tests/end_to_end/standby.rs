//! Standbys, promotions and restored backups: the stream goes on where the WAL says that it was.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::thread;
use std::time::Duration;

use pg_test::{
    DEADLINE, Fixture, Message, Postgres, Shutdown, Testbed, insert_lsn, send_signal, wait_until,
};
use postgres::Client;

use crate::helpers::{
    ask, first_deliveries, ids, is_change, lsn, make_blog, published_so_far, replace_worker, run,
    shown_restart, wait_until_read, wait_until_replayed, wait_until_saved,
};

/// The end of a recovery removes what the slot would have retained; this keeps it.
const KEEP_WAL: &str = "wal_keep_size = 1GB";

const GOES_ON: &str = "stream goes on from";

/// Whether a log, or an error, tells of events that are lost.
fn tells_of_loss(text: &str) -> bool {
    text.contains("events are lost")
}

#[test]
fn nothing_is_announced_before_the_synchronous_standby_has_it() {
    let bed = Testbed::private(&[]);
    let fixture = bed.scene("synchronous");
    let mut client = fixture.client();
    make_blog(&mut client);
    let standby = bed.postgres.standby("follower", &[]);
    make_synchronous(&bed.postgres, "follower");
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    assert_eq!(ids(&fixture.consumer.wait_for_events(1)), [1]);

    standby.stop(Shutdown::Fast);
    let writer = write_and_wait(&fixture, &mut client, 2);
    let nothing_was_published = |client: &mut Client| {
        wait_until_all_is_read(client);
        let published: i64 = ask(client, "SELECT events_published FROM amqp.status");
        assert_eq!(published, 1);
        assert_eq!(fixture.consumer.next_within(Duration::from_millis(300)), None);
    };
    nothing_was_published(&mut client);
    // A new worker, which finds the commit in the WAL, knows no better.
    replace_worker(&mut client);
    nothing_was_published(&mut client);

    standby.start();
    assert_eq!(ids(&fixture.consumer.wait_for_events(1)), [2]);
    assert!(writer.join().expect("the writer panicked"), "the commit failed");
}

/// PostgreSQL forgets who waited: after its recovery the transaction is visible at once.
#[test]
fn a_crash_of_the_primary_does_not_announce_what_the_synchronous_standby_never_got() {
    let bed = Testbed::private(&[]);
    let fixture = bed.scene("synchronous_crash");
    let mut client = fixture.client();
    make_blog(&mut client);
    let standby = bed.postgres.standby("follower", &[]);
    make_synchronous(&bed.postgres, "follower");
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    // So that the crash does not bring it back.
    wait_until_saved(&mut client, &fixture.consumer.wait_for_events(1)[0]);
    standby.stop(Shutdown::Fast);
    let _writer = write_and_wait(&fixture, &mut client, 2);
    bed.postgres.restart(Shutdown::Immediate);
    let mut client = fixture.client();
    wait_until_all_is_read(&mut client);
    let event = fixture.consumer.next_within(Duration::from_millis(300));
    assert_eq!(event.map(|event| ids(&[event])), None, "the standby does not have it");
    standby.start();
    assert_eq!(ids(&fixture.consumer.wait_for_events(1)), [2]);
}

/// The standby has it on disk, but the row is invisible to everybody until the standby has applied it.
#[test]
fn nothing_is_announced_that_others_do_not_see_though_the_standby_has_it() {
    let bed = Testbed::private(&["synchronous_commit = remote_apply"]);
    let fixture = bed.scene("remote_apply");
    let mut client = fixture.client();
    make_blog(&mut client);
    let standby = bed.postgres.standby("follower", &[]);
    make_synchronous(&bed.postgres, "follower");
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    assert_eq!(ids(&fixture.consumer.wait_for_events(1)), [1]);

    let mut follower = standby.connect("postgres");
    run(&mut follower, "SELECT pg_wal_replay_pause()");
    let writer = write_and_wait(&fixture, &mut client, 2);
    wait_until("the standby has it on disk", DEADLINE, || {
        let query = "SELECT flush_lsn >= pg_current_wal_flush_lsn() FROM pg_stat_replication";
        ask::<bool>(&mut client, query).then_some(())
    });
    wait_until_read(&mut client, "the worker has read everything");
    assert_eq!(fixture.consumer.next_within(Duration::from_millis(300)), None);
    run(&mut follower, "SELECT pg_wal_replay_resume()");
    assert_eq!(ids(&fixture.consumer.wait_for_events(1)), [2]);
    assert!(writer.join().expect("the writer panicked"), "the commit failed");
}

/// Inserts the row in a session that then waits for the synchronous standby.
#[track_caller]
fn write_and_wait(fixture: &Fixture<'_>, client: &mut Client, id: i32) -> thread::JoinHandle<bool> {
    let mut writer = fixture.client();
    let pid: i32 = ask(&mut writer, "SELECT pg_backend_pid()");
    let writer = thread::spawn(move || {
        writer.batch_execute(&format!("INSERT INTO blog_articles VALUES ({id})")).is_ok()
    });
    wait_until("the writer waits for the standby", DEADLINE, || {
        let query = format!(
            "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'SyncRep'"
        );
        ask::<bool>(client, &query).then_some(())
    });
    writer
}

/// Has commits wait for this standby, and returns when they do.
#[track_caller]
fn make_synchronous(primary: &Postgres, standby: &str) {
    primary.set("synchronous_standby_names", standby);
    let mut client = primary.connect("postgres");
    wait_until("the standby is synchronous", DEADLINE, || {
        let query = "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'";
        ask::<bool>(&mut client, query).then_some(())
    });
    // It is the checkpointer that tells sessions to wait; it takes the setting before this.
    run(&mut client, "CHECKPOINT");
}

/// Waits until the worker that runs now has done what it can with everything that is on disk now.
#[track_caller]
fn wait_until_all_is_read(client: &mut Client) {
    // An end that no earlier worker has read to.
    run(client, "SELECT pg_switch_wal()");
    wait_until_read(client, "the worker has read everything");
}

/// The copy has no slot: pg_basebackup leaves them out.
#[test]
fn a_restored_backup_goes_on_at_the_last_recorded_position() {
    let bed = Testbed::private(&[]);
    let mut fixture = bed.scene("restored");
    let mut client = fixture.client();
    make_blog(&mut client);
    let copy = bed.postgres.backup_while(&[KEEP_WAL], || {
        run(&mut client, "INSERT INTO blog_articles VALUES (1)");
        wait_until_saved(&mut client, &fixture.consumer.wait_for_events(1)[0]);
        bed.rabbitmq.stop();
        run(&mut client, "INSERT INTO blog_articles VALUES (2), (3)");
        run(&mut client, "BEGIN; INSERT INTO blog_articles VALUES (4); PREPARE TRANSACTION 'p'");
    });
    run(&mut client, "INSERT INTO blog_articles VALUES (5)");
    bed.postgres.stop(Shutdown::Immediate);

    copy.start();
    bed.rabbitmq.start();
    fixture.consume_again();
    let mut client = copy.connect(&fixture.database);
    run(&mut client, "COMMIT PREPARED 'p'");
    run(&mut client, "INSERT INTO blog_articles VALUES (6)");
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(ids(&events), [2, 3, 4, 6], "{}", copy.log());
    assert!(events.iter().all(|event| place(event).0 == 1));
    assert!(copy.log().contains(GOES_ON) && !tells_of_loss(&copy.log()), "{}", copy.log());
}

#[test]
fn a_backup_recovered_from_an_archive_goes_on_at_the_last_recorded_position() {
    let archiving = "archive_command = 'mkdir -p ../archive && cp %p ../archive/%f'";
    let bed = Testbed::private(&["archive_mode = on", archiving]);
    let mut fixture = bed.scene("archive");
    let mut client = fixture.client();
    make_blog(&mut client);
    let archive = bed.postgres.folder().join("archive");
    let restore = format!("restore_command = 'cp {}/%f %p'", archive.display());
    let copy = bed.postgres.backup(&[&restore, KEEP_WAL]);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    wait_until_saved(&mut client, &fixture.consumer.wait_for_events(1)[0]);
    bed.rabbitmq.stop();
    let unconfirmed = leave_unconfirmed(&mut client, fixture.client());
    wait_until_archived(&mut client);
    bed.postgres.stop(Shutdown::Immediate);

    copy.start_from_archive();
    bed.rabbitmq.start();
    fixture.consume_again();
    let mut client = copy.connect(&fixture.database);
    assert_goes_on(&fixture, &copy, &mut client, unconfirmed);
}

#[test]
fn a_promoted_standby_goes_on_at_the_last_recorded_position() {
    let bed = Testbed::private(&[]);
    let fixture = bed.scene("promoted");
    let mut client = fixture.client();
    make_blog(&mut client);
    let standby = bed.postgres.standby("follower", &[]);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    wait_until_saved(&mut client, &fixture.consumer.wait_for_events(1)[0]);
    // The primary still sends what follows, and never learns that it arrived.
    send_signal(bed.rabbitmq.pid(), "STOP");
    let unconfirmed = leave_unconfirmed(&mut client, fixture.client());
    let mut reader = standby.connect(&fixture.database);
    wait_until_replayed(&mut reader, unconfirmed.wal.end);
    assert_eq!(ask::<String>(&mut reader, "SELECT state FROM amqp.status"), "standby");
    bed.postgres.stop(Shutdown::Immediate);

    standby.promote();
    send_signal(bed.rabbitmq.pid(), "CONT");
    assert_goes_on(&fixture, &standby, &mut reader, unconfirmed);
}

/// The first primary's slot is that of its first life: what it says must still be true.
#[test]
fn a_switchover_and_back_loses_nothing() {
    let bed = Testbed::private(&[KEEP_WAL]);
    let mut fixture = bed.scene("switchover");
    let mut client = fixture.client();
    make_blog(&mut client);
    let other = bed.postgres.standby("other", &[]);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    wait_until_saved(&mut client, &fixture.consumer.wait_for_events(1)[0]);
    bed.postgres.stop(Shutdown::Fast);

    other.promote();
    let mut client = other.connect(&fixture.database);
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    // The first message tells of the timeline.
    let second = fixture.consumer.wait_for_events(2).split_off(1);
    assert_eq!((ids(&second), place(&second[0]).0), (vec![2], 2));
    bed.rabbitmq.stop();
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    bed.postgres.follow(&other, "first");
    wait_until_replayed(&mut fixture.client(), insert_lsn(&mut client));
    other.stop(Shutdown::Fast);

    bed.postgres.promote();
    bed.rabbitmq.start();
    fixture.consume_again();
    let mut client = fixture.client();
    run(&mut client, "INSERT INTO blog_articles VALUES (4)");
    let mut events = published_so_far(&fixture, &mut client);
    events.retain(|event| is_change(event) && event.message_id != second[0].message_id);
    assert_eq!(ids(&events), [3, 4]);
    assert_eq!((place(&events[0]).0, place(&events[1]).0), (2, 3));
    assert!(!tells_of_loss(&bed.postgres.log()), "{}", bed.postgres.log());
}

/// Without `wal_keep_size` the checkpoint at the end of the recovery removes the WAL of the backup
/// before any worker can run.
#[test]
fn a_restored_backup_whose_wal_is_gone_says_that_events_are_lost() {
    let bed = Testbed::private(&[]);
    let fixture = bed.scene("restored_lost");
    let mut client = fixture.client();
    make_blog(&mut client);
    let copy = bed.postgres.backup_while(&[], || {
        run(&mut client, "INSERT INTO blog_articles VALUES (1)");
        wait_until_saved(&mut client, &fixture.consumer.wait_for_events(1)[0]);
        send_signal(bed.rabbitmq.pid(), "STOP");
        run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    });
    bed.postgres.stop(Shutdown::Immediate);
    copy.start();
    assert_says_lost(&copy, &fixture.database);
    send_signal(bed.rabbitmq.pid(), "CONT");
}

/// A standby's restartpoints know nothing of the primary's slot, and this one has none of its own.
#[test]
fn a_promoted_standby_whose_wal_is_gone_says_that_events_are_lost() {
    promote_without_wal(|_standby| {});
}

/// It was made before the primary had amqp_cdc, and has its place in the WAL alone to know of it.
#[test]
fn a_standby_older_than_the_first_start_says_so_too() {
    promote_without_wal(|standby| {
        fs::remove_file(standby.data_dir().join("amqp_cdc.started")).unwrap();
    });
}

fn promote_without_wal(prepare: impl FnOnce(&Postgres)) {
    let bed = Testbed::private_with(&["--wal-segsize=1"], &["max_wal_size = 2MB"]);
    let fixture = bed.scene("promoted_lost");
    let mut client = fixture.client();
    make_blog(&mut client);
    let standby = bed.postgres.standby("follower", &["amqp.standby_slot = off"]);
    prepare(&standby);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    wait_until_saved(&mut client, &fixture.consumer.wait_for_events(1)[0]);
    send_signal(bed.rabbitmq.pid(), "STOP");
    let mut reader = standby.connect(&fixture.database);
    let oldest = "SELECT min(name) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'";
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    let unconfirmed: String = ask(&mut client, "SELECT pg_walfile_name(pg_current_wal_lsn())");
    wait_until("the standby has removed the event's WAL", DEADLINE, || {
        run(&mut client, "SELECT pg_switch_wal(); CHECKPOINT");
        run(&mut reader, "CHECKPOINT");
        (ask::<String>(&mut reader, oldest) > unconfirmed).then_some(())
    });
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    wait_until("the standby has replayed it", DEADLINE, || {
        let query = "SELECT count(*) = 1 FROM blog_articles WHERE id = 3";
        ask::<bool>(&mut reader, query).then_some(())
    });
    bed.postgres.stop(Shutdown::Immediate);
    standby.promote();
    assert_says_lost(&standby, &fixture.database);
    send_signal(bed.rabbitmq.pid(), "CONT");
}

#[track_caller]
fn assert_says_lost(server: &Postgres, database: &str) {
    let mut client = server.connect(database);
    wait_until("the worker has started", DEADLINE, || {
        let log = server.log();
        let begun = [GOES_ON, "stream begins at"].iter().any(|text| log.contains(text));
        (begun || tells_of_loss(&log)).then_some(())
    });
    assert!(tells_of_loss(&server.log()), "{}", server.log());
    let error: Option<String> = ask(&mut client, "SELECT last_error FROM amqp.status");
    assert!(tells_of_loss(error.as_deref().unwrap_or_default()), "{error:?}");
}

/// What the WAL holds after the last position: row 2, committed; row 3, prepared; row 4, whose
/// transaction is open until the server ends.
struct Unconfirmed {
    wal: Range<u64>,
    _open: Client,
}

fn leave_unconfirmed(client: &mut Client, mut open: Client) -> Unconfirmed {
    let start = insert_lsn(client);
    run(client, "INSERT INTO blog_articles VALUES (2)");
    run(client, "BEGIN; INSERT INTO blog_articles VALUES (3); PREPARE TRANSACTION 'p'");
    run(&mut open, "BEGIN; INSERT INTO blog_articles VALUES (4)");
    let end = insert_lsn(client);
    run(client, "SELECT pg_switch_wal()");
    Unconfirmed { wal: start..end, _open: open }
}

/// Nothing is lost, nothing that died comes, and names stay what they were: of the old timeline for
/// what was written on it.
#[track_caller]
fn assert_goes_on(fixture: &Fixture<'_>, server: &Postgres, client: &mut Client, old: Unconfirmed) {
    run(client, "COMMIT PREPARED 'p'");
    run(client, "INSERT INTO blog_articles VALUES (5)");
    let mut events = published_so_far(fixture, client);
    events.retain(is_change);
    assert_eq!(first_deliveries(&events), [2, 3, 5]);
    for event in &events {
        let is_new = ids(std::slice::from_ref(event)) == [5];
        let (timeline, lsn) = place(event);
        assert_eq!(timeline, if is_new { 2 } else { 1 }, "{event:?}");
        assert_eq!(old.wal.contains(&lsn), !is_new, "{event:?}");
    }
    let names: BTreeSet<_> = events.iter().map(|event| &event.message_id).collect();
    assert_eq!(names.len(), 3, "an event was sent again under another name");
    let log = server.log();
    assert!(log.contains(GOES_ON) && !tells_of_loss(&log), "{log}");
    wait_until("the transaction that died retains nothing", DEADLINE, || {
        (shown_restart(client) >= old.wal.end).then_some(())
    });
}

/// Timeline and LSN of an event, from its message_id.
#[track_caller]
fn place(event: &Message) -> (u32, u64) {
    let id = event.message_id.as_deref().unwrap_or_default();
    let mut parts = id.splitn(3, '/').skip(1);
    let (Some(timeline), Some(at)) = (parts.next(), parts.next()) else { panic!("{event:?}") };
    (timeline.parse().unwrap_or_default(), lsn(at))
}

/// Waits until all WAL that was written so far is in the archive.
#[track_caller]
pub fn wait_until_archived(client: &mut Client) {
    // Something is to be in the file, or there is nothing to switch.
    run(client, "SELECT pg_create_restore_point('archived')");
    let file: String = ask(client, "SELECT pg_walfile_name(pg_current_wal_insert_lsn())");
    run(client, "SELECT pg_switch_wal()");
    wait_until("the WAL is archived", DEADLINE, || {
        let query =
            format!("SELECT coalesce(last_archived_wal >= '{file}', false) FROM pg_stat_archiver");
        ask::<bool>(client, &query).then_some(())
    });
}
