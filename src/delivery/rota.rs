//! At which of the broker's addresses the next connection is tried: each in turn, but one that did not answer last time
//! only when no other is left. Pure.

/// The order of the addresses, by their places in the list.
#[derive(Debug, Default)]
pub struct Rota {
    current: usize,
    /// Of each address, whether it was given up when it was tried last.
    given_up: Vec<bool>,
}

/// What the end of a session says of the broker at that address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It is there, or was a moment ago.
    OfLife,
    /// It cannot be reached, or says nothing any more.
    OfDeath,
}

impl Rota {
    /// Begins with the first of so many addresses, of which nothing is known.
    pub fn begin(&mut self, count: usize) {
        self.current = 0;
        self.given_up = vec![false; count];
    }

    /// The place of the address to try.
    pub fn current(&self) -> usize {
        self.current
    }

    /// The session there has failed. Which other one to try.
    pub fn go_on(&mut self, sign: Sign) {
        let count = self.given_up.len();
        self.given_up[self.current] = sign == Sign::OfDeath;
        // Round to the same one: it may be the only one that is not given up.
        let in_turn = (1..=count).map(|n| (self.current + n) % count);
        let next = in_turn.clone().find(|&place| !self.given_up[place]);
        self.current = next.or(in_turn.clone().next()).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::Sign::{OfDeath, OfLife};
    use super::*;

    /// The places that are tried after these signs, one after the other.
    fn tried(rota: &mut Rota, signs: &[Sign]) -> Vec<usize> {
        let go_on = |&sign: &Sign| {
            rota.go_on(sign);
            rota.current()
        };
        signs.iter().map(go_on).collect()
    }

    fn rota(count: usize) -> Rota {
        let mut rota = Rota::default();
        rota.begin(count);
        assert_eq!(rota.current(), 0);
        rota
    }

    #[test]
    fn addresses_are_tried_in_turn() {
        assert_eq!(tried(&mut rota(3), &[OfLife; 4]), [1, 2, 0, 1]);
        assert_eq!(tried(&mut rota(3), &[OfDeath; 4]), [1, 2, 0, 1]);
        assert_eq!(tried(&mut rota(1), &[OfLife, OfDeath, OfDeath]), [0, 0, 0]);
    }

    #[test]
    fn one_that_did_not_answer_is_not_tried_again_while_another_one_lives() {
        assert_eq!(tried(&mut rota(2), &[OfDeath, OfLife, OfLife]), [1, 1, 1]);
        assert_eq!(tried(&mut rota(3), &[OfDeath, OfLife, OfLife, OfLife]), [1, 2, 1, 2]);
    }

    #[test]
    fn one_that_did_not_answer_is_tried_again_when_no_other_one_does() {
        let mut rota = rota(3);
        assert_eq!(tried(&mut rota, &[OfDeath, OfDeath, OfDeath, OfDeath]), [1, 2, 0, 1]);
        // It is there again.
        assert_eq!(tried(&mut rota, &[OfLife, OfDeath, OfDeath]), [1, 2, 0]);
    }

    #[test]
    fn of_other_addresses_nothing_is_known() {
        let mut rota = rota(2);
        tried(&mut rota, &[OfDeath]);
        rota.begin(2);
        assert_eq!((rota.current(), tried(&mut rota, &[OfLife, OfLife])), (0, vec![1, 0]));
    }
}
