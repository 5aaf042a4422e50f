//! Stands for `pg::text`, which asks the server: text of a database whose encoding is UTF-8, without a server.

use std::borrow::Cow;

pub fn database_is_utf8() -> bool {
    true
}

pub fn to_utf8_noting_loss<'a>(bytes: &'a [u8], lossy: &mut bool) -> Cow<'a, str> {
    let text = String::from_utf8_lossy(bytes);
    *lossy |= matches!(text, Cow::Owned(_));
    text
}

pub fn owned(text: Cow<'_, str>) -> String {
    text.into_owned()
}
