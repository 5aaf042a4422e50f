//! The window, message by message.

use super::*;

fn message(id: &str) -> Message {
    Message {
        exchange: Default::default(),
        routing_key: Default::default(),
        body: Vec::new(),
        message_id: id.to_owned(),
        timestamp: 0,
        kind: "insert",
        headers: Vec::new(),
        ..Message::default()
    }
}

fn send(window: &mut Window) -> Option<(String, Option<ResendReason>)> {
    window.send_next().map(|(message, resent)| (message.message_id.clone(), resent))
}

#[test]
fn what_is_unconfirmed_is_sent_again_in_order_and_says_so() {
    let mut window = Window::default();
    for id in ["a", "b", "c", "d"] {
        window.push(message(id));
    }
    for id in ["a", "b", "c"] {
        assert_eq!(send(&mut window), Some((id.to_owned(), None)));
    }
    assert_eq!(window.confirm_oldest().unwrap().message.message_id, "a");
    window.rewind(ResendReason::Nack);
    assert_eq!(window.in_flight(), 0);
    assert_eq!(send(&mut window), Some(("b".to_owned(), Some(ResendReason::Nack))));
    assert_eq!(send(&mut window), Some(("c".to_owned(), Some(ResendReason::Nack))));
    assert_eq!(send(&mut window), Some(("d".to_owned(), None)));
    assert_eq!(send(&mut window), None);
}

#[test]
fn what_an_earlier_life_may_have_sent_says_so_until_more_is_known() {
    let mut window = Window::default();
    window.push(Message { resent: Some(ResendReason::Restart), ..message("a") });
    assert_eq!(send(&mut window), Some(("a".to_owned(), Some(ResendReason::Restart))));
    window.rewind(ResendReason::Reconnect);
    assert_eq!(send(&mut window), Some(("a".to_owned(), Some(ResendReason::Reconnect))));
}

fn window(sent: &[&str]) -> Window {
    let mut window = Window::default();
    window.begin();
    for id in sent {
        window.push(message(id));
        send(&mut window);
    }
    window
}

/// Takes what is answered without a gap.
fn settle(window: &mut Window) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Some((answer, _)) = window.oldest_answered() {
        answers.push(answer);
        window.confirm_oldest();
    }
    answers
}

#[test]
fn an_answer_counts_when_all_before_it_have_one() {
    use Answer::{Confirmed, Refused};
    let mut window = window(&["a", "b", "c", "d", "e"]);
    window.answer(2, false, Confirmed);
    window.answer(4, false, Refused);
    assert_eq!(settle(&mut window), []);
    window.answer(1, false, Confirmed);
    assert_eq!(settle(&mut window), [Confirmed, Confirmed]);
    // Up to the fifth, of which the fourth has its answer.
    window.answer(5, true, Confirmed);
    assert_eq!(settle(&mut window), [Confirmed, Refused, Confirmed]);
    assert_eq!(window.in_flight(), 0);
}

#[test]
fn answers_to_what_is_not_in_flight_are_passed_over() {
    use Answer::Confirmed;
    let mut window = window(&["a", "b"]);
    window.answer(7, false, Confirmed);
    assert_eq!(settle(&mut window), []);
    window.rewind(ResendReason::Reconnect);
    send(&mut window);
    // They were published first and second, and are the third and the fourth now.
    window.answer(2, true, Confirmed);
    assert_eq!(settle(&mut window), []);
    window.answer(3, false, Confirmed);
    assert_eq!(settle(&mut window), [Confirmed]);
    send(&mut window);
    for tag in [0, 5, u64::MAX] {
        window.answer(tag, true, Confirmed);
        assert_eq!(settle(&mut window), []);
    }
    window.answer(4, true, Confirmed);
    assert_eq!(settle(&mut window), [Confirmed]);
}

#[test]
fn a_message_that_was_returned_is_not_confirmed() {
    use Answer::{Confirmed, Returned};
    let mut window = window(&["a", "b", "c"]);
    window.mark_returned("", "b");
    window.mark_returned("elsewhere", "a");
    window.mark_returned("", "unknown");
    window.answer(3, true, Confirmed);
    assert_eq!(settle(&mut window), [Confirmed, Returned, Confirmed]);
    let mut window = self::window(&["a"]);
    window.mark_returned("", "a");
    window.rewind(ResendReason::Reconnect);
    send(&mut window);
    window.answer(2, false, Confirmed);
    assert_eq!(settle(&mut window), [Confirmed]);
}

#[test]
fn only_what_was_sent_can_be_confirmed() {
    let mut window = Window::default();
    window.push(message("a"));
    assert!(window.confirm_oldest().is_none());
    window.send_next();
    assert!(window.confirm_oldest().is_some());
    assert!(window.confirm_oldest().is_none());
}

#[test]
fn what_the_broker_objected_to_is_sent_one_at_a_time() {
    let mut window = Window::default();
    for id in ["a", "b", "c"] {
        window.push(message(id));
    }
    send(&mut window);
    send(&mut window);
    window.suspect_all_in_flight();
    window.rewind(ResendReason::Reconnect);
    for id in ["a", "b"] {
        assert!(window.is_one_at_a_time());
        assert_eq!(send(&mut window).unwrap().0, id);
        window.confirm_oldest();
    }
    assert!(!window.is_one_at_a_time());
}

#[test]
fn only_the_oldest_message_can_be_skipped_and_only_by_its_name() {
    let mut window = Window::default();
    window.push(message("a"));
    window.push(message("b"));
    send(&mut window);
    assert!(window.skip("a").is_none());
    window.rewind(ResendReason::Reconnect);
    assert!(window.skip("b").is_none());
    assert!(window.skip("a").is_some());
    assert_eq!(send(&mut window), Some(("b".to_owned(), None)));
}

fn why() -> Why {
    Why { reason: "gone".into(), is_size: false }
}

#[test]
fn what_is_passed_over_waits_for_those_before_it_and_has_no_tag() {
    use Answer::{Confirmed, PassedOver};
    let mut window = window(&["a"]);
    window.push(message("b"));
    window.pass_over_next(why());
    window.push(message("c"));
    send(&mut window);
    window.push(message("d"));
    window.pass_over_next(why());
    assert_eq!((settle(&mut window), window.in_flight()), (vec![], 4));
    // "c" was the second that was published.
    window.answer(2, false, Confirmed);
    assert_eq!(settle(&mut window), []);
    window.answer(1, false, Confirmed);
    assert_eq!(settle(&mut window), [Confirmed, PassedOver, Confirmed, PassedOver]);
    assert_eq!(window.in_flight(), 0);
}

#[test]
fn what_was_passed_over_is_looked_at_anew_after_a_reconnect_and_was_not_sent() {
    let mut window = window(&["a"]);
    window.push(message("b"));
    window.pass_over_next(why());
    window.rewind(ResendReason::Reconnect);
    window.begin();
    assert_eq!(send(&mut window).unwrap().1, Some(ResendReason::Reconnect));
    assert_eq!(window.oldest_answered().map(|(answer, _)| answer), None);
    assert_eq!(send(&mut window), Some(("b".to_owned(), None)));
}

#[test]
fn a_refused_message_goes_elsewhere_in_its_place_and_nothing_else_is_sent_again() {
    use Answer::{Confirmed, Refused};
    let mut window = window(&["a", "b", "c"]);
    window.answer(1, false, Refused);
    window.redirect_oldest("dead", why());
    assert!(window.is_oldest_due() && window.oldest_answered().is_none());
    let (letter, resent) = window.send_next().unwrap();
    assert_eq!((letter.message_id.as_str(), &*letter.exchange, resent), ("a", "dead", None));
    assert!(!window.is_oldest_due());
    window.answer(3, true, Confirmed);
    assert_eq!(settle(&mut window), []);
    window.push(message("d"));
    send(&mut window);
    window.answer(5, true, Confirmed);
    assert_eq!(settle(&mut window), [Confirmed; 4]);
}

#[test]
fn a_dead_letter_stays_one_after_a_reconnect_until_it_is_revived() {
    let mut window = window(&[]);
    window.push(message("a"));
    window.redirect_next("dead", why());
    send(&mut window);
    window.rewind(ResendReason::Reconnect);
    assert_eq!(&*window.peek_next().unwrap().message.exchange, "dead");
    window.revive();
    let next = window.peek_next().unwrap();
    assert_eq!((&*next.message.exchange, &next.kind), ("", &Kind::Event));
}

#[test]
fn the_announcement_of_a_gap_goes_ahead_of_what_waits_and_is_not_sent_again() {
    let mut window = Window::default();
    window.begin();
    window.push(message("a"));
    window.push(message("b"));
    send(&mut window);
    window.suspect_all_in_flight();
    window.rewind(ResendReason::Reconnect);
    window.insert_gap(message("gap"));
    assert_eq!(send(&mut window).unwrap().0, "gap");
    window.answer(2, false, Answer::Confirmed);
    assert_eq!(window.confirm_oldest().unwrap().kind, Kind::Gap);
    assert!(window.is_one_at_a_time());
    window.insert_gap(message("gap"));
    send(&mut window);
    window.rewind(ResendReason::Reconnect);
    assert_eq!(send(&mut window).unwrap().0, "a");
    window.confirm_oldest();
    assert!(!window.is_one_at_a_time());
}
