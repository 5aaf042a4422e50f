//! Brokers of the list in amqp.host that are not there, or do not answer.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use pg_test::{DEADLINE, Proxy, Testbed, wait_until};

use crate::helpers::*;

/// Takes connections and says nothing, as the machine of a process that is frozen does.
struct Mute {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Mute {
    fn new() -> Mute {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        // Until this process ends.
        thread::spawn(move || {
            let mut taken = Vec::new();
            for stream in listener.incoming() {
                taken.push(stream);
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Mute { port, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A bed whose worker waits for a broker that does not answer, for longer than the test lasts, and knows of a second one
/// at this port.
fn bed_with_a_mute(dead: &Mute) -> (Testbed, Proxy) {
    let bed = Testbed::private(&["amqp.connect_timeout = 10min"]);
    let proxy = Proxy::start(bed.rabbitmq.port());
    bed.postgres.set("amqp.host", &format!("127.0.0.1:{}, 127.0.0.1:{}", dead.port, proxy.port()));
    wait_until("the first broker is tried", DEADLINE, || (dead.connections() == 1).then_some(()));
    (bed, proxy)
}

#[test]
fn a_reload_while_a_broker_does_not_answer_goes_on_to_the_next_one() {
    let dead = Mute::new();
    let (bed, _proxy) = bed_with_a_mute(&dead);
    let fixture = bed.scene("reloaded");
    let mut client = fixture.client();
    make_blog(&mut client);
    // Who waits for an answer goes on; who streams stays where he is.
    for (id, heartbeat) in [(1, "29s"), (2, "28s")] {
        bed.postgres.set("amqp.heartbeat", heartbeat);
        run(&mut client, &format!("INSERT INTO blog_articles VALUES ({id})"));
        assert_eq!(ids(&published_so_far(&fixture, &mut client)).last(), Some(&id));
    }
    assert_eq!(dead.connections(), 1);
}

#[test]
fn a_broker_that_did_not_answer_is_not_tried_again_while_another_one_is_there() {
    let dead = Mute::new();
    let (bed, proxy) = bed_with_a_mute(&dead);
    let fixture = bed.scene("dead_host");
    let mut client = fixture.client();
    make_blog(&mut client);
    bed.postgres.set("amqp.heartbeat", "29s");
    for id in 1..=5 {
        run(&mut client, &format!("INSERT INTO blog_articles VALUES ({id})"));
        assert_eq!(ids(&published_so_far(&fixture, &mut client)).last(), Some(&id));
        proxy.cut();
    }
    run(&mut client, "INSERT INTO blog_articles VALUES (6)");
    assert_eq!(ids(&published_so_far(&fixture, &mut client)).last(), Some(&6));
    assert_eq!(dead.connections(), 1);
}
