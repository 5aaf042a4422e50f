//! The network addresses that did not answer when they were tried last. Of a name that has several, others are tried
//! before them: a system's resolver mostly gives them in the same order each time. Pure.

use std::net::IpAddr;

/// More are not remembered: the oldest is forgotten.
const MOST: usize = 64;

/// In the order in which they were tried.
#[derive(Debug, Default)]
pub struct Shunned {
    addresses: Vec<IpAddr>,
}

impl Shunned {
    /// This one did not answer.
    pub fn add(&mut self, address: IpAddr) {
        self.remove(address);
        if self.addresses.len() == MOST {
            self.addresses.remove(0);
        }
        self.addresses.push(address);
    }

    /// This one does.
    pub fn remove(&mut self, address: IpAddr) {
        self.addresses.retain(|other| *other != address);
    }

    /// All of them.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_did_not_answer_last_stands_last_and_once() {
        let address = |number: u8| IpAddr::from([10, 0, 0, number]);
        let mut shunned = Shunned::default();
        [1, 2, 3, 1].into_iter().for_each(|number| shunned.add(address(number)));
        assert_eq!(shunned.addresses(), [2, 3, 1].map(address));
        shunned.remove(address(3));
        assert_eq!(shunned.addresses(), [2, 1].map(address));
        (1..=100).for_each(|number| shunned.add(address(number)));
        assert_eq!(shunned.addresses().len(), MOST);
        assert_eq!(shunned.addresses().last(), Some(&address(100)));
    }
}
