//! Comparing the messages that came with those that had to come, by their routing keys. Pure.

/// The expected keys that have not been received, as often as they are lacking.
pub fn missing<'a>(expected: &[&'a str], received: &[String]) -> Vec<&'a str> {
    without(expected, &keys(received))
}

/// What is wrong, if anything is.
pub fn complaint(expected: &[&str], received: &[String]) -> Option<String> {
    let received = keys(received);
    let missing = without(expected, &received);
    let unexpected = without(&received, expected);
    let mut wrong = Vec::new();
    if !missing.is_empty() {
        wrong.push(format!("missing: {}", missing.join(", ")));
    }
    if !unexpected.is_empty() {
        wrong.push(format!("not expected: {}", unexpected.join(", ")));
    }
    if wrong.is_empty() && received != expected {
        wrong.push(format!("in the wrong order: {}", received.join(", ")));
    }
    (!wrong.is_empty()).then(|| wrong.join("; "))
}

fn keys(received: &[String]) -> Vec<&str> {
    received.iter().map(String::as_str).collect()
}

/// `keys` less `others`, each of which takes one away.
fn without<'a>(keys: &[&'a str], others: &[&str]) -> Vec<&'a str> {
    let mut rest = keys.to_vec();
    for other in others {
        if let Some(place) = rest.iter().position(|key| key == other) {
            rest.remove(place);
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(expected: &[&str], received: &[&str]) -> Option<String> {
        complaint(expected, &received.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn what_came_as_expected_is_no_complaint() {
        assert_eq!(told(&[], &[]), None);
        assert_eq!(told(&["a", "b", "b"], &["a", "b", "b"]), None);
    }

    #[test]
    fn what_is_missing_or_unexpected_is_named_as_often_as_it_is() {
        assert_eq!(missing(&["a", "b", "b"], &["b".to_owned()]), ["a", "b"]);
        let both = told(&["a", "b", "b"], &["c", "b"]);
        assert_eq!(both.as_deref(), Some("missing: a, b; not expected: c"));
        assert_eq!(told(&["a"], &["a", "a"]).as_deref(), Some("not expected: a"));
    }

    #[test]
    fn another_order_is_a_complaint() {
        assert_eq!(told(&["a", "b"], &["b", "a"]).as_deref(), Some("in the wrong order: b, a"));
    }
}
