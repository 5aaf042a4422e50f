//! Events that make two messages.

use super::*;
use crate::bytes::put_number;

fn bodies(start: &HeadStart<'_>, first: &[u8], second: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    start.encode_into(&EncodedNames::of_table("blog", "public", "articles"), &mut bytes);
    put_number(&mut bytes, first.len() as u64);
    bytes.extend_from_slice(first);
    bytes.extend_from_slice(second);
    bytes
}

#[test]
fn an_event_that_makes_two_messages_says_so_and_holds_what_each_of_them_says() {
    let start = HeadStart {
        codec: Codec::Bodies,
        command_id: 7,
        first_lsn: Lsn(0x1234),
        place: Some(place()),
        operation: Operation::Split,
        exchange: "pg-messaging",
        lossy: false,
        oversize: Some(1),
        key: None,
        made: Some("acme.delete"),
        second: Some(("globex.insert", Some(2))),
    };
    let first = b"{}".repeat(100);
    let whole = bodies(&start, &first, b"{...}");
    let key = ChangeKey::of(&whole);
    assert_eq!((key.command_id, key.trace, key.place), (7, Trace::NewVersion, Some(place())));
    assert_eq!((key.is_split, key.messages(), is_split(&whole)), (true, 2, true));
    let Event { head, content } = decode(whole.clone()).unwrap();
    assert_eq!(content, Content::Bodies(first.clone(), b"{...}".to_vec()));
    assert_eq!((&*head.routing_key, head.oversize), ("acme.delete", Some(1)));
    let second = Second { routing_key: "globex.insert".into(), oversize: Some(2) };
    assert_eq!((head.second, &*head.table), (Some(second), "articles"));
    for length in 0..whole.len() - b"{...}".len() {
        assert_eq!(decode(whole[..length].to_vec()), Err(DecodeError::Truncated));
    }
    assert!(!is_split(&payload()) && !is_split(&[]) && !is_split(&[1, 9]));
    assert_eq!(ChangeKey::of(&payload()).messages(), 1);
    // The lengths of the two can be none at all.
    let empty = bodies(&HeadStart { second: Some(("", None)), ..start }, b"", b"");
    assert_eq!(decode(empty).unwrap().content, Content::Bodies(Vec::new(), Vec::new()));
}
