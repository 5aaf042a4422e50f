//! What becomes of events that the broker refuses at an exchange: one policy for each. Pure.

use std::collections::BTreeMap;

use amqp::short;

/// What is done with such an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// The stream stands still at it.
    #[default]
    Hold,
    /// It is passed over.
    Skip,
    /// It goes to the dead-letter exchange.
    DeadLetter,
}

/// The policy of an exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub action: Action,
    /// Whether that holds also for what a queue refuses (basic.nack).
    pub with_nacks: bool,
    /// Whether that holds also for what no queue is bound for.
    pub with_returns: bool,
}

/// Nothing holds at it: what the broker does not take is passed over.
pub const NEVER_HOLD: Policy =
    Policy { action: Action::Skip, with_nacks: false, with_returns: false };

/// The policies of all exchanges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    named: BTreeMap<String, Policy>,
    of_others: Policy,
    /// Where dead letters go.
    dead_letter_exchange: String,
}

/// Stands for every exchange that is not named.
const OTHERS: &str = "*";

impl Policies {
    /// Reads `name: action [nack] [unroutable], …`. A name that holds a comma, or blanks at its ends, stands in
    /// double quotes, and a double quote in it is doubled.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words for the operator.
    pub fn parse(list: &str, dead_letter_exchange: &str) -> Result<Policies, String> {
        let dead_letter_exchange = dead_letter_exchange.to_owned();
        let mut policies = Policies { dead_letter_exchange, ..Policies::default() };
        let mut rest = list.trim();
        while !rest.is_empty() {
            let (name, words, after) = split_entry(rest)
                .ok_or_else(|| problem(&format!("cannot be read from \"{rest}\" on")))?;
            let policy = Policy::parse(words)
                .map_err(|word| problem(&format!("has \"{word}\" for exchange \"{name}\"")))?;
            policies.add(name, policy)?;
            rest = after.trim_start();
        }
        if policies.uses_dead_letters() && policies.dead_letter_exchange.is_empty() {
            return Err(problem("says dead_letter, but amqp.dead_letter_exchange is empty"));
        }
        if short(&policies.dead_letter_exchange) != policies.dead_letter_exchange {
            return Err("amqp.dead_letter_exchange is longer than 255 bytes".to_owned());
        }
        Ok(policies)
    }

    fn add(&mut self, name: String, policy: Policy) -> Result<(), String> {
        if name == OTHERS && policy.action == Action::Skip {
            return Err(problem(
                "says \"*: skip\": what is to be passed over must be named, exchange by exchange",
            ));
        }
        let twice = problem(&format!("names exchange \"{name}\" twice"));
        if name == OTHERS {
            self.of_others = policy;
            return Ok(());
        }
        match self.named.insert(name, policy) {
            Some(_) => Err(twice),
            None => Ok(()),
        }
    }

    fn uses_dead_letters(&self) -> bool {
        let mut all = self.named.values().chain([&self.of_others]);
        all.any(|policy| policy.action == Action::DeadLetter)
    }

    /// The policy of an exchange.
    pub fn of(&self, exchange: &str) -> Policy {
        self.named.get(exchange).copied().unwrap_or(self.of_others)
    }

    /// Where dead letters go.
    pub fn dead_letter_exchange(&self) -> &str {
        &self.dead_letter_exchange
    }

    /// Whether it counts for a message that went there whether it came back: that is what tells.
    pub fn judge_returns(&self, exchange: &str) -> bool {
        self.of(exchange).with_returns
            || (self.uses_dead_letters() && exchange == self.dead_letter_exchange)
    }
}

impl Policy {
    /// Whether what is refused does not hold the others up.
    pub fn passes_over(self) -> bool {
        self.action != Action::Hold
    }

    /// The word that makes no sense, if there is one.
    fn parse(words: &str) -> Result<Policy, &str> {
        let mut words = words.split_whitespace();
        let action = match words.next().unwrap_or_default() {
            "hold" => Action::Hold,
            "skip" => Action::Skip,
            "dead_letter" => Action::DeadLetter,
            other => return Err(other),
        };
        let mut policy = Policy { action, ..Policy::default() };
        for word in words {
            match word {
                "nack" => policy.with_nacks = true,
                "unroutable" => policy.with_returns = true,
                other => return Err(other),
            }
        }
        Ok(policy)
    }
}

fn problem(what: &str) -> String {
    format!(
        "amqp.exchange_policy {what}; it is a list of \"name: hold, skip or dead_letter [nack] [unroutable]\""
    )
}

/// The name of the first entry, what is said of it, and what comes after its comma.
fn split_entry(list: &str) -> Option<(String, &str, &str)> {
    if let Some(mut rest) = list.strip_prefix('"') {
        let mut name = String::new();
        loop {
            let (part, after) = rest.split_once('"')?;
            name.push_str(part);
            let Some(more) = after.strip_prefix('"') else {
                let (words, after) = split_at_comma(after.trim_start().strip_prefix(':')?);
                return Some((name, words, after));
            };
            name.push('"');
            rest = more;
        }
    }
    let (entry, after) = split_at_comma(list);
    // A name may hold a colon, what is said of it does not.
    let (name, words) = entry.rsplit_once(':')?;
    Some((name.trim_end().to_owned(), words, after))
}

fn split_at_comma(text: &str) -> (&str, &str) {
    text.split_once(',').unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Policy = Policy { action: Action::Hold, with_nacks: false, with_returns: false };
    const SKIP: Policy = Policy { action: Action::Skip, ..HOLD };
    const DEAD: Policy = Policy { action: Action::DeadLetter, ..HOLD };

    #[test]
    fn each_exchange_has_its_own_and_the_others_hold() {
        let list = r#"a:b : skip , "c, ""d""": dead_letter nack,e:hold unroutable, "": skip nack unroutable,"#;
        let policies = Policies::parse(list, "dead").unwrap();
        assert_eq!(policies.of("a:b"), SKIP);
        assert_eq!(policies.of("c, \"d\""), Policy { with_nacks: true, ..DEAD });
        assert_eq!(policies.of("e"), Policy { with_returns: true, ..HOLD });
        assert_eq!(policies.of(""), Policy { with_nacks: true, with_returns: true, ..SKIP });
        assert_eq!(policies.of("f"), HOLD);
        assert_eq!(Policies::parse("", "").unwrap(), Policies::default());
        assert_eq!(Policies::parse("*: dead_letter", "dead").unwrap().of("f"), DEAD);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (list, words) in [
            ("*: skip", "*: skip"),
            ("a: drop", "\"drop\""),
            ("a:", "\"\""),
            ("a: skip twice", "\"twice\""),
            ("a skip", "\"a skip\""),
            ("\"a: skip", "\"a: skip"),
            ("a: skip, a: hold", "twice"),
            ("a: dead_letter", "amqp.dead_letter_exchange"),
        ] {
            let problem = Policies::parse(list, "").unwrap_err();
            assert!(problem.contains(words), "{list}: {problem}");
        }
        assert!(Policies::parse("", &"x".repeat(256)).is_err());
    }

    #[test]
    fn returns_count_where_a_policy_says_so_and_for_dead_letters() {
        let policies = Policies::parse("a: dead_letter unroutable, b: skip", "dead").unwrap();
        assert_eq!(
            ["a", "b", "dead"].map(|name| policies.judge_returns(name)),
            [true, false, true]
        );
        assert!(!Policies::parse("b: skip", "dead").unwrap().judge_returns("dead"));
    }
}
