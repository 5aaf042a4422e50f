//! The names in events, each kept once: an event mostly has the same names as the events before it. Making new
//! texts for each event took a tenth of the worker's time.

use std::rc::Rc;

use super::error::DecodeError;

/// Names that were seen last.
#[derive(Debug, Default)]
pub struct Names {
    recent: Vec<Rc<str>>,
    /// Which of them is replaced next.
    oldest: usize,
}

/// How many names are kept: those of a few tables. Each lookup compares with all of them.
const KEPT: usize = 24;

impl Names {
    /// Returns the name with these bytes.
    ///
    /// # Errors
    ///
    /// [`DecodeError::NotUtf8`].
    pub fn name(&mut self, bytes: &[u8]) -> Result<Rc<str>, DecodeError> {
        if let Some(known) = self.recent.iter().find(|name| name.as_bytes() == bytes) {
            return Ok(Rc::clone(known));
        }
        let name: Rc<str> = std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8)?.into();
        if self.recent.len() < KEPT {
            self.recent.push(Rc::clone(&name));
        } else {
            self.recent[self.oldest] = Rc::clone(&name);
            self.oldest = (self.oldest + 1) % KEPT;
        }
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_comes_again_is_the_same_one() {
        let mut names = Names::default();
        let first = names.name("ü".as_bytes()).unwrap();
        assert!(Rc::ptr_eq(&first, &names.name("ü".as_bytes()).unwrap()));
        for number in 0..3 * KEPT {
            assert_eq!(&*names.name(number.to_string().as_bytes()).unwrap(), number.to_string());
        }
        assert_eq!(names.recent.len(), KEPT);
        assert_eq!(names.name(&[0xFF]), Err(DecodeError::NotUtf8));
    }
}
