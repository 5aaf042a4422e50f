//! A TCP proxy on a free port of 127.0.0.1 that behaves like a bad network: connections that die
//! without a word, in one direction or both, at once or after so many bytes, that become slow, or
//! that end in the middle of a frame. What dies stays dead; connections that are made later pass, as
//! after a change of route.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::ports::{Port, free_port};

/// Bytes that are moved at once.
const BUFFER: usize = 16 * 1024;

/// While slow, so long after each buffer: 320 kB a second.
const SLOW_PAUSE: Duration = Duration::from_millis(50);

/// What becomes of the bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Pass,
    /// Nothing moves, nothing is closed.
    Dead,
    /// Half of the next buffer still passes, then both sides are closed.
    CutAtNext,
}

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From who connected to the server.
    ToServer,
    /// From the server to who connected.
    ToClient,
}

/// Passes TCP connections on to a server on 127.0.0.1, until dropped.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    server: u16,
    ended: AtomicBool,
    state: Mutex<State>,
    /// Told of every change of the state.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    links: Vec<Link>,
    made: u64,
    slow: bool,
    /// What new connections get of the server's bytes before they die, if they are to.
    doomed_after: Option<usize>,
    ended: bool,
}

/// One connection with both its sides.
#[derive(Debug)]
struct Link {
    number: u64,
    client: TcpStream,
    server: TcpStream,
    to_server: Flow,
    to_client: Flow,
    /// So many of the server's bytes still pass, then none.
    left: Option<usize>,
}

impl Proxy {
    /// Starts a proxy for the server on this port, which need not run yet.
    ///
    /// # Panics
    /// If the proxy's port cannot be listened on.
    pub fn start(server: u16) -> Proxy {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.number()))
            .unwrap_or_else(|error| panic!("could not listen on {}: {error}", port.number()));
        let shared = Arc::new(Shared {
            server,
            ended: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        let listener = Some(thread::spawn(move || accept(&listener, &accepting)));
        Proxy { port, shared, listener }
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// From now on nothing moves on the connections there are; nobody is told.
    pub fn silence(&self) {
        self.shared
            .for_each_link(|link| (link.to_server, link.to_client) = (Flow::Dead, Flow::Dead));
    }

    /// From now on nothing moves in one direction of the connections there are.
    pub fn half_open(&self, dead: Direction) {
        self.shared.for_each_link(|link| match dead {
            Direction::ToServer => link.to_server = Flow::Dead,
            Direction::ToClient => link.to_client = Flow::Dead,
        });
    }

    /// Connections that are made from now on get so many of the server's bytes, and then none any more.
    pub fn stop_after(&self, bytes: usize) {
        self.shared.state().doomed_after = Some(bytes);
    }

    /// Connections that are made from now on pass again.
    pub fn heal(&self) {
        self.shared.state().doomed_after = None;
    }

    /// Ends the connections there are within the next buffer that goes to the server.
    pub fn cut_mid_frame(&self) {
        self.shared.for_each_link(|link| link.to_server = Flow::CutAtNext);
    }

    /// Closes the connections there are.
    pub fn cut(&self) {
        self.shared.for_each_link(Link::close);
    }

    /// Whether everything is slow.
    pub fn set_slow(&self, slow: bool) {
        self.shared.state().slow = slow;
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.state().ended = true;
        self.cut();
        // The listener looks whether it is to end when somebody connects.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port()));
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn for_each_link(&self, change: impl FnMut(&mut Link)) {
        self.state().links.iter_mut().for_each(change);
        self.changed.notify_all();
    }

    /// Waits while nothing may move, and says whether what was read may pass whole (`Pass`), in
    /// part (`CutAtNext`), or not at all any more (none).
    fn wait_for_passage(&self, number: u64, direction: Direction) -> Option<Flow> {
        let mut state = self.state();
        loop {
            if state.ended {
                return None;
            }
            let link = state.links.iter().find(|link| link.number == number)?;
            match link.flow(direction) {
                Flow::Dead => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                flow => return Some(flow),
            }
        }
    }

    /// How many of these bytes of the server's still pass, if not all: those after them are lost.
    fn ration(&self, number: u64, read: usize) -> Option<usize> {
        let mut state = self.state();
        let link = state.links.iter_mut().find(|link| link.number == number)?;
        let left = link.left?;
        link.left = Some(left.saturating_sub(read));
        if read < left {
            return None;
        }
        link.to_client = Flow::Dead;
        Some(left)
    }

    /// Rests after a buffer if everything is slow.
    fn slow_down(&self) {
        let state = self.state();
        if state.slow && !state.ended {
            let _ = self.changed.wait_timeout(state, SLOW_PAUSE);
        }
    }

    fn forget(&self, number: u64) {
        let mut state = self.state();
        if let Some(place) = state.links.iter().position(|link| link.number == number) {
            let link = &state.links[place];
            // A dead connection is not closed: that would be a word.
            if link.to_server != Flow::Dead && link.to_client != Flow::Dead {
                state.links.swap_remove(place).close();
            }
        }
        self.changed.notify_all();
    }
}

impl Link {
    fn flow(&self, direction: Direction) -> Flow {
        match direction {
            Direction::ToServer => self.to_server,
            Direction::ToClient => self.to_client,
        }
    }

    fn close(&mut self) {
        // Either may be closed already.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.ended.load(Ordering::Relaxed) {
            return;
        }
        // A server that is down closes the client's connection: both are dropped.
        if let Ok(client) = client
            && let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.server))
        {
            let _ = link(shared, client, server);
        }
    }
}

fn link(shared: &Arc<Shared>, client: TcpStream, server: TcpStream) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (up, down) =
        ((client.try_clone()?, server.try_clone()?), (server.try_clone()?, client.try_clone()?));
    let number = {
        let mut state = shared.state();
        state.made += 1;
        let number = state.made;
        let (to_server, to_client, left) = (Flow::Pass, Flow::Pass, state.doomed_after);
        state.links.push(Link { number, client, server, to_server, to_client, left });
        number
    };
    for ((from, to), direction) in [(up, Direction::ToServer), (down, Direction::ToClient)] {
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            move_bytes(&shared, number, direction, from, to);
            shared.forget(number);
        });
    }
    Ok(())
}

/// Moves bytes until either side closes or the connection is to be cut.
fn move_bytes(
    shared: &Shared,
    number: u64,
    direction: Direction,
    mut from: TcpStream,
    mut to: TcpStream,
) {
    let mut buffer = [0; BUFFER];
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        let bytes = match shared.wait_for_passage(number, direction) {
            Some(Flow::CutAtNext) => &buffer[..read / 2],
            Some(_) => &buffer[..read],
            None => return,
        };
        if direction == Direction::ToClient
            && let Some(passing) = shared.ration(number, bytes.len())
        {
            // Nothing is closed: the next look finds it dead, and waits.
            let _ = to.write_all(&bytes[..passing]);
            continue;
        }
        if to.write_all(bytes).is_err() || bytes.len() < BUFFER && bytes.len() < read || read == 0 {
            return;
        }
        shared.slow_down();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets.
    fn echo() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let mut copy = stream.try_clone().unwrap();
                    let _ = std::io::copy(&mut stream, &mut copy);
                });
            }
        });
        port
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        stream
    }

    fn echoes(stream: &mut TcpStream) -> bool {
        let mut answer = [0; 4];
        stream.write_all(b"ping").is_ok() && stream.read_exact(&mut answer).is_ok()
    }

    fn is_open(stream: &mut TcpStream) -> bool {
        let read = stream.read(&mut [0; 1]);
        matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    #[test]
    fn bytes_pass_both_ways() {
        let proxy = Proxy::start(echo());
        assert!(echoes(&mut connect(&proxy)));
    }

    #[test]
    fn a_silenced_connection_stays_open_and_dead_and_later_ones_pass() {
        let proxy = Proxy::start(echo());
        for silence in [Proxy::silence, |proxy: &Proxy| proxy.half_open(Direction::ToClient)] {
            let mut old = connect(&proxy);
            assert!(echoes(&mut old));
            silence(&proxy);
            assert!(!echoes(&mut old));
            assert!(is_open(&mut old));
            assert!(echoes(&mut connect(&proxy)));
        }
    }

    #[test]
    fn a_connection_that_is_to_stop_gets_no_more_bytes_and_stays_open() {
        let proxy = Proxy::start(echo());
        let mut old = connect(&proxy);
        proxy.stop_after(6);
        let mut doomed = connect(&proxy);
        assert!(echoes(&mut doomed) && !echoes(&mut doomed));
        assert!(is_open(&mut doomed));
        assert!(echoes(&mut old));
        proxy.heal();
        assert!(echoes(&mut connect(&proxy)));
        assert!(!echoes(&mut doomed));
    }

    #[test]
    fn a_cut_connection_is_closed() {
        let proxy = Proxy::start(echo());
        let (mut first, mut second) = (connect(&proxy), connect(&proxy));
        assert!(echoes(&mut first) && echoes(&mut second));
        proxy.cut_mid_frame();
        let mut answer = Vec::new();
        first.write_all(b"half").unwrap();
        let _ = first.read_to_end(&mut answer);
        assert!(answer.len() <= 2, "{answer:?}");
        assert!(!is_open(&mut first));
        proxy.cut();
        assert!(!is_open(&mut second));
    }

    #[test]
    fn a_server_that_is_down_closes_the_connection() {
        let port = free_port();
        let proxy = Proxy::start(port.number());
        assert!(!is_open(&mut connect(&proxy)));
    }
}
