//! Free TCP ports on 127.0.0.1 for servers that tests start, stop and start again. A port stays
//! reserved while its [`Port`] lives, against other threads and other test processes alike, also
//! while the server is down.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports below the range from which the system takes the local ports of outgoing connections.
/// One inside that range could be taken while our server is down, even by the very client that
/// keeps trying to reach it: TCP then connects the client to itself.
const FIRST: u16 = 10_000;
const COUNT: u16 = 22_000;

/// A TCP port that nobody else who asks this module gets.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// The reservation: UDP port numbers are a space of their own that our servers do not use, a
    /// bound one can be had once in the whole system, and the system frees it when we die.
    _reservation: UdpSocket,
}

impl Port {
    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// A free port.
///
/// # Panics
/// If there is none.
pub fn free_port() -> Port {
    // Processes begin at different places, so that they seldom try the same port.
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id().wrapping_mul(97) % u32::from(COUNT);

    for _ in 0..COUNT {
        let offset = start + u32::from(TRIED.fetch_add(1, Ordering::Relaxed));
        let number = FIRST + u16::try_from(offset % u32::from(COUNT)).expect("less than COUNT");
        let Ok(reservation) = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)) else {
            continue;
        };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
            return Port { number, _reservation: reservation };
        }
    }
    panic!("no free port on 127.0.0.1 between {FIRST} and {}", FIRST + COUNT);
}
