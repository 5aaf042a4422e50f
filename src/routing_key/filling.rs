//! A routing key being made, and the two sets of rules for it: the key of a row is made fit ([`Filling::fit`]), never
//! an error of the writer; the key of a message is taken as it is ([`Filling::into_key`]), and checked like that of
//! `amqp.publish`.

use super::sha256::sha256;
use super::word;
use crate::event::MAX_SHORT_STRING;
use crate::memory;
use crate::outbox::reserved;

/// What comes between the beginning of a long key and the hash of the whole. No value can be so written: `~` is
/// not escaped.
const CUT: &str = "%7E";

/// Bytes of the hash that stand in a key, as hexadecimal digits.
const HASH: usize = 16;

/// Bytes of a long key that are kept.
const KEPT: usize = MAX_SHORT_STRING - CUT.len() - 2 * HASH;

/// A key that is not whole yet.
#[derive(Debug, Default)]
pub struct Filling {
    key: String,
    /// Whether a placeholder is all there is: then what it stands for stands as it is.
    is_alone: bool,
    /// Whether a value was null.
    has_null: bool,
}

impl Filling {
    /// Begins a key. `is_alone`: its template is one placeholder alone.
    pub fn new(is_alone: bool) -> Filling {
        Filling { is_alone, ..Filling::default() }
    }

    /// Adds what the trigger's author wrote.
    pub fn add_text(&mut self, text: &str) {
        memory::append_text(&mut self.key, text);
    }

    /// Adds a name of the database's.
    pub fn add_name(&mut self, name: &str) {
        if self.is_alone {
            self.add_text(name);
        } else {
            word::push_escaped(&mut self.key, name);
        }
    }

    /// Adds a value, given its JSON; `None`, and null: nothing.
    pub fn add_value(&mut self, json: Option<&[u8]>) {
        let json = json.unwrap_or(b"null");
        self.has_null |= json.trim_ascii() == b"null";
        self.add_name(&word::text(json));
    }

    /// Whether a value was null, or there was no row that could have it.
    pub fn has_null(&self) -> bool {
        self.has_null
    }

    /// Returns the key as it is, which may be no key at all.
    pub fn into_key(self) -> String {
        self.key
    }

    /// Returns the key as a broker can take it. What only the worker, or the broker, may say gets one character of
    /// it as `%XX`; what is too long is cut, and ends in a hash of the whole.
    pub fn fit(self) -> String {
        let key = harmless(self.key);
        if key.len() <= MAX_SHORT_STRING { key } else { cut(&key) }
    }
}

/// The key, unless it would be taken for one of a message about the stream, or for one that the broker reads.
pub fn harmless(key: String) -> String {
    if !reserved::is_routing_key(&key) && !reserved::is_routing_key_of_the_broker(&key) {
        return key;
    }
    // Without a dot it is the bare word.
    let at = key.find('.').unwrap_or(key.len() - 1);
    let mut harmless = memory::text(&key[..at]);
    word::push_percent(&mut harmless, key.as_bytes()[at]);
    memory::append_text(&mut harmless, &key[at + 1..]);
    harmless
}

/// The beginning of a key that is too long, and a hash of the whole. No character and no `%XX` is cut in two.
fn cut(key: &str) -> String {
    let mut end = key.floor_char_boundary(KEPT);
    if let Some(percent) = key[..end].rfind('%')
        && end - percent < "%XX".len()
    {
        end = percent;
    }
    let mut cut = memory::text(&key[..end]);
    memory::append_text(&mut cut, CUT);
    for byte in &sha256(key.as_bytes())[..HASH] {
        memory::append_text(&mut cut, &format!("{byte:02x}"));
    }
    cut
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn alone(value: &str) -> Filling {
        let mut filling = Filling::new(true);
        filling.add_value(Some(serde_json::to_string(value).unwrap().as_bytes()));
        filling
    }

    #[test]
    fn values_are_words_unless_one_is_all_there_is() {
        let mut filling = Filling::new(false);
        filling.add_text("a.*#%");
        filling.add_name("my.schema");
        filling.add_text(".");
        filling.add_value(Some(br#""b.c""#));
        filling.add_value(Some(b"-1.5"));
        assert!(!filling.has_null());
        assert_eq!(filling.fit(), "a.*#%my%2Eschema.b%2Ec-1%2E5");
        assert_eq!(alone("orders.placed #%").fit(), "orders.placed #%");
    }

    #[test]
    fn null_is_nothing_and_is_known() {
        for json in [None, Some(b"null".as_slice()), Some(b" null ")] {
            let mut filling = Filling::new(false);
            filling.add_text("x.");
            filling.add_value(json);
            assert!(filling.has_null());
            assert_eq!(filling.fit(), "x.");
        }
        assert!(!alone("null").has_null() && !alone("").has_null());
    }

    #[test]
    fn what_is_not_a_rows_to_say_is_said_otherwise() {
        for (value, key) in [
            ("amqp_cdc.gap", "amqp_cdc%2Egap"),
            ("amqp_cdc.", "amqp_cdc%2E"),
            ("amqp_cdc", "amqp_cd%63"),
            ("amqp_cdc.a.b", "amqp_cdc%2Ea.b"),
            ("amq.rabbitmq.reply-to.g1", "amq%2Erabbitmq.reply-to.g1"),
            ("amqp_cdcs.gap", "amqp_cdcs.gap"),
            ("AMQP_CDC.gap", "AMQP_CDC.gap"),
            ("", ""),
        ] {
            assert_eq!(alone(value).fit(), key);
            assert_eq!(alone(value).into_key(), value);
        }
        let mut filling = Filling::new(false);
        filling.add_value(Some(b"\"amqp_cdc\""));
        filling.add_text(".gap");
        assert_eq!(filling.fit(), "amqp_cdc%2Egap");
    }

    #[test]
    fn what_is_too_long_is_cut_and_ends_in_a_hash_of_the_whole() {
        let whole = "x".repeat(255);
        assert_eq!(alone(&whole).fit(), whole);
        // The first half of what sha256sum says.
        let hash = "85e62acd750c4eb56b7b6a1d66dca5bf";
        let key = alone(&"x".repeat(256)).fit();
        assert_eq!(key, format!("{}%7E{hash}", "x".repeat(220)));
        assert_eq!(alone(&"x".repeat(256)).into_key().len(), 256);
    }

    #[test]
    fn no_character_and_no_escape_is_cut_in_two() {
        let beginning = |text: String| alone(&text).fit().split("%7E").next().unwrap().to_owned();
        for (before, character, kept) in [
            (219, "ü", 219),
            (218, "ü", 220),
            (218, "\u{1F600}", 218),
            (218, "%2E", 218),
            (217, "%2E", 220),
        ] {
            let text = format!("{}{character}{}", "x".repeat(before), "y".repeat(200));
            assert_eq!(beginning(text).len(), kept, "{before} {character}");
        }
        // Made harmless, it has become too long.
        let text = format!("amqp_cdc.{}", "x".repeat(245));
        assert!(alone(&text).fit().starts_with("amqp_cdc%2Ex"));
        assert!(alone(&text).fit().len() <= MAX_SHORT_STRING);
    }

    proptest! {
        #[test]
        fn a_key_is_always_fit_and_different_values_make_different_ones(
            first in "[a-c.%~7E2\u{FC}]{0,12}", second in "[a-c.%~7E2\u{FC}]{0,12}", times in 1usize..60
        ) {
            let key = |value: &str| {
                let mut filling = Filling::new(false);
                filling.add_text("t.");
                filling.add_value(Some(serde_json::to_string(&value.repeat(times)).unwrap().as_bytes()));
                filling.fit()
            };
            let (one, other) = (key(&first), key(&second));
            prop_assert!(one.len() <= MAX_SHORT_STRING);
            prop_assert_eq!(one == other, first == second);
        }
    }
}
