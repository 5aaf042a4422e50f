//! The delivery as the worker steps it, with a broker that is not there or says nothing.

use std::cell::RefCell;
use std::io::Read;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::*;

fn settings(port: u16) -> BrokerSettings {
    BrokerSettings {
        addresses: vec![Address { host: "127.0.0.1".to_owned(), port }],
        vhost: "/".to_owned(),
        credentials: Credentials::Password {
            username: "guest".to_owned(),
            password: Secret::new("guest".to_owned()),
        },
        tls: None,
        exchange_type: "topic".to_owned(),
        connect_timeout: Duration::from_millis(50),
        heartbeat: 30,
        confirm_timeout: Duration::from_secs(30),
        max_in_flight: 2000,
        unroutable: Unroutable::Drop,
        policies: Policies::default(),
        exclusive_queue: None,
    }
}

fn message() -> Message {
    Message {
        exchange: Rc::default(),
        routing_key: Rc::default(),
        body: vec![0; 10],
        message_id: "id".to_owned(),
        timestamp: 0,
        kind: "insert",
        headers: Vec::new(),
        ..Message::default()
    }
}

thread_local! {
    /// Work that a thread never comes to do.
    static HUNG: RefCell<Vec<Box<dyn FnOnce() + Send>>> = const { RefCell::new(Vec::new()) };
}

fn hang(work: Box<dyn FnOnce() + Send>) -> std::io::Result<()> {
    HUNG.with_borrow_mut(|hung| hung.push(work));
    Ok(())
}

/// Steps until a report says this.
fn step_until(delivery: &mut Delivery, is_said: impl Fn(&Update) -> bool) {
    while !delivery.take_updates().iter().any(&is_said) {
        delivery.step(true);
    }
}

fn says(words: &'static str) -> impl Fn(&Update) -> bool {
    move |report| matches!(report, Update::StandingStill { reason, .. } if reason.contains(words))
}

#[test]
fn a_name_look_up_that_hangs_holds_nothing_up_but_the_connection() {
    let mut delivery = Delivery::new(settings(1), hang);
    delivery.publish(message());
    let begin = Instant::now();
    delivery.step(false);
    let until = delivery.wants().until.expect("it waits for no longer than it may");
    assert!(until <= begin + Duration::from_secs(10));
    assert_eq!(delivery.wants().socket, None);
    assert!(delivery.has_unconfirmed() && delivery.has_room_for(10));
    step_until(&mut delivery, says("did not answer within"));
    // An order is heard at once, whatever hangs.
    delivery.stop();
    delivery.step(false);
    assert!(delivery.is_stopped());
}

#[test]
fn a_panic_in_a_session_is_a_failure_that_is_tried_again_and_loses_nothing() {
    fn panic(_: Box<dyn FnOnce() + Send>) -> std::io::Result<()> {
        panic!("no thread, but a bug");
    }
    let mut delivery = Delivery::new(settings(1), panic);
    delivery.publish(message());
    for _ in 0..2 {
        step_until(&mut delivery, says("delivery panicked: no thread, but a bug"));
    }
    assert!(delivery.has_unconfirmed() && !delivery.is_stopped());
    assert_eq!(delivery.done(), Counts::default());
}

#[test]
fn a_broker_that_says_nothing_is_left_after_the_timeout_and_asked_again_later() {
    fn spawn(work: Box<dyn FnOnce() + Send>) -> std::io::Result<()> {
        std::thread::spawn(work);
        Ok(())
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut delivery = Delivery::new(settings(listener.local_addr().unwrap().port()), spawn);
    let mut numbers = Vec::new();
    for _ in 0..2 {
        step_until(&mut delivery, |report| matches!(report, Update::Connecting(_)));
        while delivery.wants().socket.is_none() {
            delivery.step(false);
        }
        let mut peer = listener.accept().unwrap().0;
        numbers.extend(delivery.wants().socket.map(|socket| socket.number));
        step_until(&mut delivery, says("did not answer within 50ms"));
        // It is: what the other side reads ends.
        let _ended = peer.read_to_end(&mut Vec::new());
    }
    assert!(numbers.len() == 2 && numbers[0] != numbers[1], "{numbers:?}");
}
