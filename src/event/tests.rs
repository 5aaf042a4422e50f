mod split;

use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::lsn::Lsn;
use crate::place::{Place, TableFile};

fn decode(payload: Vec<u8>) -> Result<Event, DecodeError> {
    Event::decode(payload, &mut Names::default())
}

fn place() -> Place {
    let file = TableFile { tablespace: 1663, database: 5, number: 16_384 };
    Place { file, block: 9, offset: 2 }
}

fn head() -> EventHead {
    EventHead {
        command_id: 7,
        first_lsn: Lsn(0x1234),
        place: Some(place()),
        operation: Operation::Update,
        exchange: "pg-messaging".into(),
        routing_key: "cdc.article.update".into(),
        database: "blog".into(),
        schema: "public".into(),
        table: "blog_articles \u{1F980}".into(),
        lossy: true,
        oversize: Some(20_000_000),
        key: None,
        second: None,
    }
}

fn payload() -> Vec<u8> {
    let mut bytes = Vec::new();
    head().encode_into(&mut bytes);
    bytes.extend_from_slice(b"{}");
    bytes
}

#[test]
fn comes_back_as_it_was_written() {
    let event = decode(payload()).unwrap();
    assert_eq!(event.head, head());
    assert_eq!(event.content, Content::Body(b"{}".to_vec()));
    let key = ChangeKey {
        command_id: 7,
        trace: Trace::NewVersion,
        place: Some(place()),
        is_of_layout_1: false,
        is_split: false,
    };
    assert_eq!(ChangeKey::of(&payload()), key);
    let key = Some(Rc::new(r#"["id"]"#.to_owned()));
    let plain = EventHead { place: None, lossy: false, oversize: None, key, ..head() };
    let mut bytes = Vec::new();
    plain.encode_into(&mut bytes);
    assert_eq!(decode(bytes).unwrap().head, plain);
}

#[test]
fn every_operation_has_a_code_of_its_own() {
    for operation in [
        Operation::Insert,
        Operation::Update,
        Operation::Delete,
        Operation::Truncate,
        Operation::Split,
        Operation::Published,
        Operation::PublishedRow,
        Operation::Gap,
        Operation::Timeline,
    ] {
        assert_eq!(Operation::from_code(operation.code()), Some(operation));
    }
    assert_eq!(Operation::from_code(0), None);
}

#[test]
fn what_is_cut_off_or_unknown_is_an_error_and_never_a_panic() {
    let whole = payload();
    let head_length = whole.len() - 2;
    for length in 0..head_length {
        assert_eq!(decode(whole[..length].to_vec()), Err(DecodeError::Truncated));
    }
    let exchange = fields::HEAD + 2 + Place::SIZE + 2;
    for (at, value, error) in [
        (0, 9, DecodeError::Version(9)),
        (1, 99, DecodeError::Operation(99)),
        (fields::HEAD, 9, DecodeError::Field(9)),
        // What a second message says, of which there is none.
        (fields::HEAD, 11, DecodeError::Field(11)),
        (exchange, 0xFF, DecodeError::NotUtf8),
    ] {
        let mut bytes = whole.clone();
        bytes[at] = value;
        assert_eq!(decode(bytes), Err(error));
    }
    let none = ChangeKey { command_id: 0, place: None, ..ChangeKey::of(&whole) };
    assert_eq!(ChangeKey::of(&[2, 2, 3]), none);
}

/// The head's fixed part, then one more field, then the rest.
fn with_field(tag: u8) -> Vec<u8> {
    let mut bytes = payload();
    let mut field = Vec::new();
    fields::put_field(&mut field, tag, b"news");
    bytes.splice(fields::HEAD..fields::HEAD, field);
    bytes
}

#[test]
fn a_field_of_a_later_version_is_passed_over_only_if_it_says_so() {
    let event = decode(with_field(0x3F | fields::MAY_BE_IGNORED)).unwrap();
    assert_eq!(event.head, head());
    let error = decode(with_field(0x3F)).unwrap_err();
    assert_eq!(error.to_string(), "field 63 is unknown");
    // Its place in the transaction is known all the same.
    assert_eq!(ChangeKey::of(&with_field(0x3F)), ChangeKey::of(&payload()));
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.as_chunks().0.iter().map(byte).collect()
}

/// As pg_waldump shows what 0.1.0 wrote for an UPDATE of a row (1, 'a') to (1, 'b').
const ROWS_OF_0_1_0: &str = "
    01 01 02 00 01 00 00 00 F8 AF 55 01 00 00 00 00 0C 00 70 67 2D 6D 65 73 73 61 67 69 6E 67 0F 00
    63 64 63 2E 69 74 65 6D 2E 75 70 64 61 74 65 08 00 70 6F 73 74 67 72 65 73 06 00 70 75 62 6C 69
    63 01 00 74 05 29 D3 90 65 7A 04 03 00 00 00 00 01 1C 00 00 00 00 00 00 00 07 00 00 00 00 04 00
    69 74 65 6D 01 00 00 00 02 00 04 05 00 22 69 64 22 3A 09 04 00 22 76 22 3A 00 01 00 00 00 05 61
    00 01 00 00 00 05 62";

#[test]
fn what_0_1_0_wrote_is_still_read() {
    let payload = bytes(ROWS_OF_0_1_0);
    let key = ChangeKey {
        command_id: 1,
        trace: Trace::NewVersion,
        place: None,
        is_of_layout_1: true,
        is_split: false,
    };
    assert_eq!(ChangeKey::of(&payload), key);
    let event = decode(payload.clone()).unwrap();
    let expected = EventHead {
        command_id: 1,
        first_lsn: Lsn(0x0155_AFF8),
        place: None,
        operation: Operation::Update,
        exchange: "pg-messaging".into(),
        routing_key: "cdc.item.update".into(),
        database: "postgres".into(),
        schema: "public".into(),
        table: "t".into(),
        lossy: false,
        oversize: None,
        key: None,
        second: None,
    };
    assert_eq!(event.head, expected);
    let Content::Images(images) = event.content else { panic!("it is a body") };
    assert_eq!((images.timestamp, images.limit), (0x0003_047A_6590_D329, 16 << 20));
    assert_eq!((images.shape().len(), images.prerendered()), (28, &b""[..]));
    let row = |bytes| Some(Image { has_nulls: false, bytes });
    assert_eq!(images.old_row(), row(b"\0\x01\0\0\0\x05a"));
    assert_eq!(images.new_row(), row(b"\0\x01\0\0\0\x05b"));
    for length in 0..payload.len() - 1 {
        let _ = ChangeKey::of(&payload[..length]);
        let cut = decode(payload[..length].to_vec());
        assert!(cut.is_err() || length > 120, "{length}: {cut:?}");
    }
}

/// As 0.1.0 would write the event of [`payload`].
fn payload_of_0_1_0(flags: u8) -> Vec<u8> {
    let EventHead { exchange, routing_key, database, schema, table, .. } = head();
    let mut bytes = vec![1, 0, 2, flags, 7, 0, 0, 0, 0x34, 0x12, 0, 0, 0, 0, 0, 0];
    if flags & 2 != 0 {
        bytes.extend_from_slice(&20_000_000u64.to_le_bytes());
    }
    for name in [exchange, routing_key, database, schema, table] {
        bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
        bytes.extend_from_slice(name.as_bytes());
    }
    bytes.extend_from_slice(b"{}");
    bytes
}

#[test]
fn bodies_flags_and_errors_of_0_1_0_are_still_understood() {
    let old = EventHead { place: None, key: None, ..head() };
    for (flags, head) in [(3, old.clone()), (0, EventHead { lossy: false, oversize: None, ..old })]
    {
        let event = decode(payload_of_0_1_0(flags)).unwrap();
        assert_eq!(event, Event { head, content: Content::Body(b"{}".to_vec()) });
    }
    for (at, value, error) in [
        (1, 9, DecodeError::Codec(9)),
        (2, 9, DecodeError::Operation(9)),
        (18, 0xFF, DecodeError::NotUtf8),
    ] {
        let mut bytes = payload_of_0_1_0(0);
        bytes[at] = value;
        assert_eq!(decode(bytes), Err(error));
    }
    for length in 0..payload_of_0_1_0(3).len() - 2 {
        let cut = payload_of_0_1_0(3)[..length].to_vec();
        assert_eq!(decode(cut), Err(DecodeError::Truncated));
    }
}

/// Written down byte by byte, so that no change of the code changes what is in the WAL unnoticed.
#[test]
fn the_layout_that_is_written_stays_what_it_is() {
    let expected = "
        02 02 07000000 3412000000000000
        01 12 7F060000 05000000 00400000 09000000 0200
        02 0C 70672D6D6573736167696E67 03 12 6364632E61727469636C652E757064617465
        04 04 626C6F67 05 06 7075626C6963 06 12 626C6F675F61727469636C657320F09FA680
        07 00 08 08 002D310100000000
        40 7B7D";
    assert_eq!(payload(), bytes(expected));
}

#[test]
fn the_prefix_cannot_be_given_in_sql() {
    assert!(EVENT_PREFIX[..EVENT_PREFIX.len() - 1].contains(&0));
    assert_eq!(EVENT_PREFIX.last(), Some(&0));
}

fn images(head: &EventHead, start: &ImagesStart<'_>) -> Vec<u8> {
    let EventHead { command_id, first_lsn, place, operation, lossy, oversize, .. } = *head;
    let (codec, exchange) = (Codec::Images, &*head.exchange);
    let names = EncodedNames::new(&head.routing_key, &head.database, &head.schema, &head.table);
    let mut bytes = Vec::new();
    HeadStart {
        codec,
        command_id,
        first_lsn,
        place,
        operation,
        exchange,
        lossy,
        oversize,
        key: None,
        made: None,
        second: None,
    }
    .encode_into(&names, &mut bytes);
    start.encode_into(&mut bytes);
    bytes.extend_from_slice(start.prerendered);
    for image in [start.old, start.new].into_iter().flatten() {
        bytes.extend_from_slice(image.bytes);
    }
    bytes
}

fn message(start: &PropertiesStart<'_>, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    HeadStart {
        codec: Codec::Message,
        command_id: 7,
        first_lsn: Lsn(0x1234),
        place: None,
        operation: Operation::Published,
        exchange: "pg-messaging",
        lossy: false,
        oversize: None,
        key: None,
        made: None,
        second: None,
    }
    .encode_into(&EncodedNames::of_message("order.placed", "shop"), &mut bytes);
    start.encode_into(&mut bytes);
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn a_message_comes_back_as_it_was_written_and_says_when_that_was() {
    let start = PropertiesStart { user: "app", time: Some(5), ..PropertiesStart::default() };
    let bytes = message(&start, b"\0\xFF@");
    let key = ChangeKey::of(&bytes);
    assert_eq!((key.command_id, key.trace, key.place), (7, Trace::Itself, None));
    assert_eq!(time_of_message(&bytes), Some(5));
    assert_eq!((time_of_message(&payload()), time_of_message(&[])), (None, None));
    for length in 0..bytes.len() - 3 {
        let _ = (ChangeKey::of(&bytes[..length]), time_of_message(&bytes[..length]));
        assert_eq!(decode(bytes[..length].to_vec()), Err(DecodeError::Truncated));
    }
    let Event { head, content } = decode(bytes).unwrap();
    assert_eq!((&*head.routing_key, &*head.database, &*head.table), ("order.placed", "shop", ""));
    let properties = Properties { user: "app".into(), time: Some(5), ..Properties::default() };
    assert_eq!(content, Content::Message(Box::new(properties), b"\0\xFF@".to_vec()));
}

fn any_head() -> impl Strategy<Value = EventHead> {
    let operation = prop_oneof![
        Just(Operation::Insert),
        Just(Operation::Update),
        Just(Operation::Split),
        Just(Operation::Delete),
        Just(Operation::Truncate),
        Just(Operation::Published),
        Just(Operation::PublishedRow),
        Just(Operation::Gap),
        Just(Operation::Timeline),
    ];
    let place = any::<Option<([u32; 4], u16)>>().prop_map(|numbers| {
        numbers.map(|([tablespace, database, number, block], offset)| Place {
            file: TableFile { tablespace, database, number },
            block,
            offset,
        })
    });
    let second = proptest::option::of((".{0,80}", any::<Option<u64>>()));
    let numbers = (any::<u32>(), any::<u64>(), any::<Option<u64>>(), any::<bool>(), place, second);
    let texts = (".{0,80}", ".{0,80}", ".{0,30}", ".{0,30}", ".{0,30}");
    (operation, numbers, texts).prop_map(|(operation, numbers, texts)| EventHead {
        command_id: numbers.0,
        first_lsn: Lsn(numbers.1),
        operation,
        exchange: texts.0.into(),
        routing_key: texts.1.into(),
        database: texts.2.into(),
        schema: texts.3.into(),
        table: texts.4.into(),
        lossy: numbers.3,
        oversize: numbers.2,
        key: None,
        place: numbers.4,
        second: numbers
            .5
            .map(|(routing_key, oversize)| Second { routing_key: routing_key.into(), oversize }),
    })
}

proptest! {
    #[test]
    fn every_event_comes_back_as_it_was_written(
        head in any_head(),
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = Vec::new();
        head.encode_into(&mut bytes);
        bytes.extend_from_slice(&body);
        let key = ChangeKey::of(&bytes);
        prop_assert_eq!((key.command_id, key.place), (head.command_id, head.place));
        prop_assert!(!key.is_of_layout_1);
        prop_assert_eq!(key.is_split, head.operation == Operation::Split);
        prop_assert_eq!(decode(bytes), Ok(Event { head, content: Content::Body(body) }));
    }

    #[test]
    fn rows_come_back_as_they_were_written(
        head in any_head(),
        numbers in (any::<i64>(), any::<u32>()),
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 4),
        rows in any::<[Option<bool>; 2]>(),
    ) {
        let image = |n: usize| {
            rows[n].map(|has_nulls| Image { has_nulls, bytes: &parts[2 + n] })
        };
        let (old, new) = (image(0), image(1));
        let start = ImagesStart {
            timestamp: numbers.0,
            limit: numbers.1 as usize,
            shape: &parts[0],
            prerendered: &parts[1],
            old,
            new,
        };
        let bytes = images(&head, &start);
        let key = ChangeKey::of(&bytes);
        prop_assert_eq!((key.command_id, key.place), (head.command_id, head.place));
        prop_assert!(!key.is_of_layout_1);
        let event = decode(bytes).unwrap();
        prop_assert_eq!(event.head, EventHead { second: None, ..head });
        let Content::Images(images) = event.content else { panic!("it is a body") };
        prop_assert_eq!((images.timestamp, images.limit), (start.timestamp, start.limit));
        prop_assert_eq!((images.shape(), images.prerendered()), (start.shape, start.prerendered));
        prop_assert_eq!((images.old_row(), images.new_row()), (old, new));
    }

    #[test]
    fn a_damaged_event_is_an_error_or_another_event_but_never_a_panic(
        head in any_head(),
        damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..8),
        length in any::<usize>(),
    ) {
        let image = Some(Image { has_nulls: true, bytes: b"row" });
        let (shape, prerendered) = (b"shape".as_slice(), b"prerendered".as_slice());
        let (timestamp, limit) = (1, 1);
        let start = ImagesStart { timestamp, limit, shape, prerendered, old: image, new: image };
        let mut bytes = images(&head, &start);
        for (at, value) in damage {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        bytes.truncate(length % (bytes.len() + 1));
        let _ = ChangeKey::of(&bytes);
        match decode(bytes) {
            Ok(Event { head, content: Content::Body(body) }) => {
                let mut again = Vec::new();
                head.encode_into(&mut again);
                again.extend_from_slice(&body);
                let content = Content::Body(body);
                prop_assert_eq!(decode(again), Ok(Event { head, content }));
            }
            Ok(Event { content: Content::Images(images), .. }) => {
                let _ = (images.shape(), images.prerendered(), images.old_row(), images.new_row());
            }
            Ok(Event { content: Content::Message(..) | Content::Bodies(..), .. }) | Err(_) => {}
        }
    }
}
