//! Time, without a clock.

use std::time::{Duration, Instant};

use amqp::{Connection, Error, Login, Phase};

use crate::peer::{frame, hear, open_ok, send, start, tune};
use crate::scenario::login;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_idle_connection_has_heartbeats_and_a_silent_one_is_given_up() {
    let begin = Instant::now();
    let deadline = begin + 10 * SECOND;
    let mut amqp = Connection::new(Login { heartbeat: 4, deadline, ..login() }, begin);
    assert_eq!(amqp.wake_at(), Some(deadline));
    hear(&mut amqp, &[start(b""), tune(0, 0, 60), open_ok()].concat()).expect("it is let in");
    // The deadline counts no more, and what waits to be sent is as good as a heartbeat.
    let heard = Instant::now();
    let silent_at = amqp.wake_at().expect("it is to be woken");
    assert!(silent_at <= heard + 8 * SECOND && silent_at > begin + 7 * SECOND);
    send(&mut amqp);
    let sent = Instant::now();
    amqp.sent(0, sent);
    assert_eq!(amqp.wake_at(), Some(sent + 2 * SECOND));
    assert_eq!(amqp.wake(sent + SECOND), Ok(()));
    assert!(amqp.to_send().is_empty());
    assert_eq!(amqp.wake(sent + 2 * SECOND), Ok(()));
    assert_eq!(amqp.to_send(), frame(8, 0, b""));
    assert_eq!(amqp.wake(sent + 3 * SECOND), Ok(()));
    assert_eq!(amqp.to_send().len(), 8, "one is enough");
    // What is not read says nothing of the broker.
    amqp.excuse_silence(sent + 8 * SECOND);
    assert_eq!(amqp.wake(sent + 15 * SECOND), Ok(()));
    assert_eq!(amqp.wake(sent + 16 * SECOND), Err(Error::Silent(8 * SECOND)));
    assert_eq!((amqp.wake(sent + 17 * SECOND), amqp.wake_at()), (Ok(()), None));
}

#[test]
fn a_broker_that_does_not_let_us_in_in_time_is_named_by_how_far_it_went() {
    let begin = Instant::now();
    let deadline = begin + 10 * SECOND;
    let cases: [(&[Vec<u8>], Phase); 3] = [
        (&[], Phase::Greeting),
        (&[start(b"")], Phase::LoggingIn),
        (&[start(b""), tune(0, 0, 0)], Phase::Opening),
    ];
    for (said, phase) in cases {
        let mut amqp = Connection::new(Login { heartbeat: 0, deadline, ..login() }, begin);
        hear(&mut amqp, &said.concat()).expect("it is fine");
        assert_eq!(amqp.wake_at(), Some(deadline));
        assert_eq!(amqp.wake(deadline), Err(Error::NoAnswer(phase)));
    }
}

#[test]
fn a_large_body_goes_piece_by_piece_and_takes_little_memory() {
    let mut amqp = crate::peer::open();
    let body: Vec<u8> = (0..5_000_000u32).map(|number| number as u8).collect();
    amqp.publish(1, &amqp::Publish::default(), body.len() as u64).expect("it is open");
    let (mut rest, mut sent) = (body.as_slice(), Vec::new());
    while !rest.is_empty() || !amqp.to_send().is_empty() {
        rest = &rest[amqp.put_body(rest)..];
        assert!(amqp.to_send().len() <= (64 + 128) * 1024);
        assert!(!amqp.has_room() || rest.is_empty());
        // As a socket would: a part.
        let count = amqp.to_send().len().min(50_000);
        sent.extend_from_slice(&amqp.to_send()[..count]);
        amqp.sent(count, Instant::now());
    }
    assert!(amqp.has_room() && !amqp.is_in_message());
    let (mut received, mut frames) = (Vec::new(), 0);
    let mut bytes = sent.as_slice();
    while !bytes.is_empty() {
        let size = u32::from_be_bytes([bytes[3], bytes[4], bytes[5], bytes[6]]) as usize;
        assert!(size + 8 <= 131_072);
        if bytes[0] == 3 {
            received.extend_from_slice(&bytes[7..7 + size]);
        }
        bytes = &bytes[size + 8..];
        frames += 1;
    }
    assert!(received == body);
    assert!(frames < 60, "{frames}");
}
