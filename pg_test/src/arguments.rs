//! The arguments of the test programs: pairs of a name and a number, such as `--seconds 60`, the document that gets
//! the result, `--record FILE`, the one part that is asked for, `--only NAME`, and what is there or not, `--tls`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Names a document, not a number.
pub const RECORD: &str = "--record";

/// Names a part of the whole, not a number.
pub const ONLY: &str = "--only";

/// Decides what is left to chance.
pub const SEED: &str = "--seed";

/// Has no value.
pub const TLS: &str = "--tls";

/// Has no value.
pub const STANDBY: &str = "--standby";

/// Has no value.
pub const SYNCHRONOUS: &str = "--synchronous";

/// What was given.
#[derive(Debug)]
pub struct Arguments {
    numbers: BTreeMap<String, u64>,
    /// Names without a value.
    flags: BTreeSet<String>,
    record: Option<PathBuf>,
    only: Option<String>,
}

impl Arguments {
    /// Those of this process.
    ///
    /// # Errors
    /// For a name that is not among `known`, and for what is no number.
    pub fn of_this_process(known: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(std::env::args().skip(1), known)
    }

    /// The same of given words.
    ///
    /// # Errors
    /// For a name that is not among `known`, and for what is no number.
    pub fn parse(
        mut words: impl Iterator<Item = String>,
        known: &[&str],
    ) -> Result<Arguments, String> {
        let (mut numbers, mut flags) = (BTreeMap::new(), BTreeSet::new());
        let (mut record, mut only) = (None, None);
        while let Some(name) = words.next() {
            if !known.contains(&name.as_str()) {
                return Err(format!("{name} is not known"));
            }
            if [TLS, STANDBY, SYNCHRONOUS].contains(&name.as_str()) {
                flags.insert(name);
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{name} needs a value"))?;
            if name == RECORD {
                record = Some(PathBuf::from(value));
                continue;
            }
            if name == ONLY {
                only = Some(value);
                continue;
            }
            let number = value.parse().map_err(|error| format!("{name} {value}: {error}"))?;
            numbers.insert(name, number);
        }
        Ok(Arguments { numbers, flags, record, only })
    }

    /// The number given for this name.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.numbers.get(name).copied()
    }

    /// Whether this name was given, which has no value.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.contains(flag)
    }

    /// The document that gets the result.
    pub fn record(&self) -> Option<&Path> {
        self.record.as_deref()
    }

    /// The part that is asked for; none: all of them.
    pub fn only(&self) -> Option<&str> {
        self.only.as_deref()
    }

    /// `--seconds`, or a minute.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.number("--seconds").unwrap_or(60))
    }

    /// `--seed`, or another one each time.
    pub fn seed(&self) -> u64 {
        self.number(SEED).unwrap_or_else(seed_of_now)
    }
}

/// A seed for who was given none: another one each second.
pub fn seed_of_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, String> {
        Arguments::parse(
            line.split_whitespace().map(str::to_owned),
            &["--seconds", SEED, RECORD, TLS, ONLY],
        )
    }

    #[test]
    fn names_have_numbers() {
        let arguments = parsed("--seed 7 --seconds 5").unwrap();
        assert_eq!(arguments.seed(), 7);
        assert_eq!(arguments.duration(), Duration::from_secs(5));
        assert_eq!(parsed("").unwrap().duration(), Duration::from_secs(60));
        assert_eq!(parsed("--record a.md").unwrap().record(), Some(Path::new("a.md")));
        assert_eq!(parsed("").unwrap().record(), None);
        let arguments = parsed("--tls --seed 7").unwrap();
        assert!(arguments.has(TLS) && arguments.seed() == 7);
        assert!(!parsed("--seed 7").unwrap().has(TLS));
        assert_eq!(parsed("--only broker").unwrap().only(), Some("broker"));
        assert_eq!(parsed("").unwrap().only(), None);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        assert_eq!(parsed("--sed 7").unwrap_err(), "--sed is not known");
        assert_eq!(parsed("--seed").unwrap_err(), "--seed needs a value");
        assert!(parsed("--seed x").unwrap_err().starts_with("--seed x: "));
    }
}
