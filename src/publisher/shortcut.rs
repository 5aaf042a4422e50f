//! The short way of a few messages: while the thread sleeps and everything before them is written, the
//! worker writes them to the socket itself. To wake the thread for it would take longer than writing.
//! The thread takes them over when it wakes, at the latest with their confirms.

use std::io::{Error, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

use super::frame;
use super::message::Message;

/// More messages at once, or more bytes of bodies, go by way of the thread: beside it the worker can
/// make the next ones meanwhile.
pub const FEW: usize = 8;
pub const FEW_BYTES: usize = 16 * 1024;

/// What was written to the socket.
#[derive(Debug, Default)]
pub struct Written {
    /// Before all that are in the queue.
    pub messages: Vec<Message>,
    /// When the first of them was.
    pub since: Option<Instant>,
    /// What the socket did not take of them.
    pub rest: Vec<u8>,
}

/// What the worker needs to write messages as the thread would.
#[derive(Debug)]
pub struct Way {
    pub socket: Arc<TcpStream>,
    pub channel: u16,
    pub frame_max: usize,
    /// Messages to it need nothing before them.
    pub exchange: String,
    /// So many messages may be written.
    pub room: usize,
}

/// Shared by the worker and the thread. It is open only while the thread sleeps.
#[derive(Debug, Default)]
pub struct Shortcut(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Where to write, if it is open.
    way: Option<Way>,
    written: Written,
}

impl Shortcut {
    /// The thread never keeps this for longer than it takes to copy a few values. To pass by while it
    /// is taken would not do: what then goes by the queue must not be overtaken by what comes next.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the worker use this way until [`Shortcut::close`], unless there is something in the queue,
    /// which comes first. To be called when everything that was taken from the queue is written.
    pub fn open(&self, way: Way, queue: &Receiver<Message>) {
        let mut state = self.lock();
        if queue.is_empty() {
            state.way = Some(way);
        }
    }

    /// From now on the worker leaves all to the thread. What was written and not taken over yet.
    pub fn close(&self) -> Written {
        let mut state = self.lock();
        state.way = None;
        std::mem::take(&mut state.written)
    }

    /// Writes these messages, which are counted, if this way is open to them, or puts them into the
    /// queue. Whether the thread is to be woken.
    pub fn hand_over(
        &self,
        messages: &mut Vec<Message>,
        queue: &Sender<Message>,
        published: &AtomicU64,
    ) -> bool {
        let mut state = self.lock();
        if state.is_open_to(messages) {
            published.fetch_add(messages.len() as u64, Ordering::AcqRel);
            state.write(messages);
            state.written.messages.append(messages);
            if state.written.rest.is_empty() {
                return false;
            }
        }
        // It has messages to send, or the rest of one, or finds out what is wrong with the socket.
        state.way = None;
        for message in messages.drain(..) {
            // The queue has room, or the thread is gone, which `is_running` tells the caller.
            let taken = queue.try_send(message);
            debug_assert!(taken.is_ok());
        }
        true
    }
}

impl State {
    fn is_open_to(&self, messages: &[Message]) -> bool {
        let bytes = messages.iter().map(|message| message.body.len());
        self.way.as_ref().is_some_and(|way| {
            messages.len() <= way.room.min(FEW)
                && messages.iter().all(|message| message.exchange == way.exchange)
                && bytes.sum::<usize>() <= FEW_BYTES
        })
    }

    fn write(&mut self, messages: &[Message]) {
        let Some(way) = &mut self.way else { return };
        let rest = &mut self.written.rest;
        for message in messages {
            frame::put_whole(rest, way.channel, message, way.frame_max);
        }
        way.room -= messages.len();
        self.written.since.get_or_insert_with(Instant::now);
        let written: Result<_, Error> = way.socket.as_ref().write(rest);
        rest.drain(..written.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use crossbeam_channel::unbounded;

    use super::*;

    const EXCHANGE: &str = "exchange";

    struct Scene {
        shortcut: Shortcut,
        near: Arc<TcpStream>,
        far: TcpStream,
        queue: Sender<Message>,
        thread: Receiver<Message>,
    }

    impl Scene {
        fn set() -> Scene {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            near.set_nonblocking(true).unwrap();
            let (far, _) = listener.accept().unwrap();
            let (queue, thread) = unbounded();
            Scene { shortcut: Shortcut::default(), near: Arc::new(near), far, queue, thread }
        }

        fn open(&self, room: usize) {
            let (socket, exchange) = (Arc::clone(&self.near), EXCHANGE.to_owned());
            let way = Way { socket, channel: 1, frame_max: 4096, exchange, room };
            self.shortcut.open(way, &self.thread);
        }

        /// Whether these were written, and whether the thread is to be woken.
        fn hand_over(&self, messages: &[Message]) -> (bool, bool) {
            let published = AtomicU64::new(0);
            let mut batch = messages.to_vec();
            let is_for_thread = self.shortcut.hand_over(&mut batch, &self.queue, &published);
            let queued: Vec<_> = self.thread.try_iter().collect();
            let is_written = queued.is_empty();
            assert!(is_written || queued == messages);
            assert_eq!(published.into_inner() as usize, messages.len() - queued.len());
            (is_written, is_for_thread)
        }
    }

    fn message(exchange: &str, size: usize) -> Message {
        Message {
            exchange: exchange.to_owned(),
            routing_key: "key".to_owned(),
            body: (0..size).map(|n| n as u8).collect(),
            message_id: size.to_string(),
            timestamp: 0,
            kind: "insert",
            headers: Vec::new(),
            resent: None,
        }
    }

    fn bytes(messages: &[Message]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            frame::put_whole(&mut bytes, 1, message, 4096);
        }
        bytes
    }

    #[test]
    fn a_few_messages_are_written_without_the_thread() {
        let mut scene = Scene::set();
        scene.open(10);
        let messages = [message(EXCHANGE, 0), message(EXCHANGE, 5000), message(EXCHANGE, 3)];
        assert_eq!(scene.hand_over(&messages), (true, false));
        assert_eq!(scene.hand_over(&messages), (true, false));
        let all = [messages.clone(), messages].concat();
        let mut arrived = vec![0; bytes(&all).len()];
        scene.far.read_exact(&mut arrived).unwrap();
        assert!(arrived == bytes(&all));
        let written = scene.shortcut.close();
        assert!(written.messages == all && written.rest.is_empty() && written.since.is_some());
        let written = scene.shortcut.close();
        assert!(written.messages.is_empty() && written.since.is_none());
        assert_eq!(scene.hand_over(&all), (false, true));
    }

    #[test]
    fn the_thread_gets_what_may_not_be_written_and_all_that_follows() {
        let few = [message(EXCHANGE, 1)];
        let many = vec![message(EXCHANGE, 1); FEW + 1];
        for refused in [&many[..], &[message("another", 1)], &[message(EXCHANGE, FEW_BYTES + 1)]] {
            let scene = Scene::set();
            scene.open(100);
            assert_eq!(scene.hand_over(refused), (false, true));
            assert_eq!(scene.hand_over(&few), (false, true));
            scene.open(100);
            assert_eq!(scene.hand_over(&few), (true, false));
        }
    }

    #[test]
    fn no_more_is_written_than_there_is_room_for() {
        let scene = Scene::set();
        scene.open(2);
        let messages = [message(EXCHANGE, 1), message(EXCHANGE, 2)];
        assert_eq!(scene.hand_over(&messages), (true, false));
        assert_eq!(scene.hand_over(&messages[..1]), (false, true));
    }

    #[test]
    fn it_does_not_open_before_the_queue_is_empty() {
        let scene = Scene::set();
        scene.queue.send(message(EXCHANGE, 1)).unwrap();
        scene.open(10);
        scene.thread.recv().unwrap();
        assert_eq!(scene.hand_over(&[message(EXCHANGE, 2)]), (false, true));
    }

    #[test]
    fn the_thread_writes_what_the_socket_does_not_take() {
        let mut scene = Scene::set();
        scene.open(1_000_000);
        let one = [message(EXCHANGE, 10_000)];
        let mut written = 0;
        loop {
            let (is_written, is_for_thread) = scene.hand_over(&one);
            assert!(is_written);
            written += 1;
            if is_for_thread {
                break;
            }
        }
        // The next one is not begun in the middle of this one.
        assert_eq!(scene.hand_over(&one), (false, true));
        let Written { messages, rest, .. } = scene.shortcut.close();
        assert_eq!(messages.len(), written);
        assert!(!rest.is_empty());
        let all = bytes(&one).repeat(written);
        let mut arrived = vec![0; all.len() - rest.len()];
        scene.far.read_exact(&mut arrived).unwrap();
        arrived.extend(rest);
        assert!(arrived == all);
    }
}
