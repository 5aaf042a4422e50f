//! Frames over a socket that never blocks: buffers for both ways, one wait for everything, and
//! heartbeats (AMQP 0-9-1, 4.2.7). What the frames mean is [`super::connection`]'s business.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{IpAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use amq_protocol::frame::{AMQPFrame, gen_frame, parse_frame};
use rustix::net::sockopt::set_socket_linger;

use super::frame::{self, OVERHEAD};
use super::message::{Message, ResendReason};
use super::pause::{Pause, Wants};
use crate::memory;
use crate::pg::wait::Socket;

/// Largest frame that is agreed to, and what RabbitMQ proposes.
pub const FRAME_MAX: usize = 128 * 1024;

/// Smallest limit to which a broker may hold us (AMQP 0-9-1, 1.2: `frame-min-size`).
pub const FRAME_MIN: usize = 4096;

/// Largest payload that is taken of a frame that is no body: what every peer must take (AMQP 0-9-1,
/// 1.2), and so more than what brokers send. Tables in one another, of which this has room for 800,
/// are parsed by recursion, which takes about half of a thread's stack.
const METHOD_MAX: usize = FRAME_MIN;

/// Bytes that are gathered for one write: enough for its cost not to matter.
const BATCH: usize = 64 * 1024;

/// Writes in a row, however much the socket takes: then the worker is to be heard.
const WRITES: usize = 64;

/// Room for a frame and what follows it.
const INPUT: usize = 2 * FRAME_MAX;

/// Room for all that is ever in the output: what is written or to be written when it [has room](Wire::has_room),
/// the head of a message, and a frame.
const OUTPUT: usize = 2 * BATCH + 2 * FRAME_MAX;

/// How many sockets there were.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A socket with its frames.
pub struct Wire {
    socket: TcpStream,
    /// Tells the socket from those before.
    number: u64,
    frame_max: usize,
    /// No heartbeats if zero.
    heartbeat: Duration,
    input: Box<[u8]>,
    /// What of the input was read and not parsed: from here ...
    start: usize,
    /// ... to here.
    end: usize,
    output: Vec<u8>,
    /// So much of the output the socket has taken.
    written: usize,
    unfinished: Option<Unfinished>,
    heard_at: Instant,
    written_at: Instant,
}

/// A message of whose body some is not in the output yet.
struct Unfinished {
    channel: u16,
    message: Rc<Message>,
    /// Where that begins.
    from: usize,
}

impl Wire {
    /// Frames over this socket.
    ///
    /// # Errors
    ///
    /// If the socket cannot be set up.
    pub fn new(socket: TcpStream) -> Result<Wire> {
        socket.set_nonblocking(true)?;
        // What is written is as much as there is: waiting for more would only cost time.
        socket.set_nodelay(true)?;
        Ok(Wire {
            socket,
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            frame_max: FRAME_MAX,
            heartbeat: Duration::ZERO,
            input: zeros(INPUT),
            start: 0,
            end: 0,
            output: memory::with_room(OUTPUT),
            written: 0,
            unfinished: None,
            heard_at: Instant::now(),
            written_at: Instant::now(),
        })
    }

    /// The broker's address; none if the connection is gone again.
    pub fn peer(&self) -> Option<IpAddr> {
        self.socket.peer_addr().ok().map(|address| address.ip().to_canonical())
    }

    /// What was agreed upon: the largest frame, from [`FRAME_MIN`] to [`FRAME_MAX`], and the time between
    /// two heartbeats, none if zero.
    pub fn tune(&mut self, frame_max: usize, heartbeat: Duration) {
        self.frame_max = frame_max;
        self.heartbeat = heartbeat;
    }

    /// Takes a frame to send.
    pub fn put(&mut self, frame: &AMQPFrame) {
        let bytes = gen_frame(frame)(Vec::new().into()).expect("memory takes every frame");
        self.output.extend_from_slice(&bytes.into_inner().0);
    }

    /// Whether a message would be taken: what was taken before is written, or nearly so.
    pub fn has_room(&self) -> bool {
        !self.is_in_message() && self.unwritten() < BATCH
    }

    /// Takes a message to send. Only after [`Wire::has_room`].
    pub fn put_message(
        &mut self,
        channel: u16,
        message: Rc<Message>,
        resent: Option<ResendReason>,
    ) {
        frame::put_head(&mut self.output, channel, &message, resent);
        self.unfinished = Some(Unfinished { channel, message, from: 0 });
        self.fill();
    }

    /// Leaves the rest of an unfinished message unsent. Whether there was one.
    pub fn abandon(&mut self) -> bool {
        self.unfinished.take().is_some()
    }

    /// Whether there is an unfinished message.
    pub fn is_in_message(&self) -> bool {
        self.unfinished.is_some()
    }

    /// Adds to the output of the unfinished message what it has room for. Between two of its frames
    /// there may be frames of other channels.
    fn fill(&mut self) {
        while self.unwritten() < BATCH
            && let Some(Unfinished { channel, message, from }) = &mut self.unfinished
        {
            let to = message.body.len().min(*from + self.frame_max - OVERHEAD);
            if to > *from {
                frame::put_body(&mut self.output, *channel, &message.body[*from..to]);
            }
            *from = to;
            if to == message.body.len() {
                self.unfinished = None;
            }
        }
    }

    fn unwritten(&self) -> usize {
        self.output.len() - self.written
    }

    /// Writes what the socket takes, for as long as the worker can wait.
    ///
    /// # Errors
    ///
    /// If the connection is gone.
    pub fn flush(&mut self) -> Result<()> {
        for _ in 0..WRITES {
            if self.unwritten() == 0 {
                break;
            }
            match self.socket.write(&self.output[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if is_for_later(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
            self.written_at = Instant::now();
            if self.unwritten() == 0 || self.written >= BATCH {
                self.output.drain(..self.written);
                self.written = 0;
            }
            self.fill();
        }
        Ok(())
    }

    /// Writes what can be, waits for the next step, and reads.
    ///
    /// # Errors
    ///
    /// If the connection is gone, or the broker has been silent for two heartbeats.
    pub async fn wait(&mut self, pause: &Pause, until: Option<Instant>) -> Result<()> {
        let had_room = self.has_room();
        if let Err(error) = self.flush() {
            // What the broker said before may tell more.
            return if self.read().is_ok_and(|has_more| has_more) { Ok(()) } else { Err(error) };
        }
        let is_full = self.unwritten() > 0;
        // There may be a message that had no room.
        let until = if self.has_room() && !had_room { Some(Instant::now()) } else { until };
        let beats = !self.heartbeat.is_zero();
        let silent_at = beats.then(|| self.heard_at + 2 * self.heartbeat);
        // What waits to be written is as good as a heartbeat.
        let beat_at = (beats && !is_full).then(|| self.written_at + self.heartbeat / 2);
        let until = [until, silent_at, beat_at].into_iter().flatten().min();
        let (descriptor, number) = (self.socket.as_raw_fd(), self.number);
        let socket = Some(Socket { descriptor, number, is_full });
        let is_readable = pause.wait(Wants { socket, until }).await;
        // What came in time counts, however late it is looked at.
        if is_readable || until.is_some_and(|until| Instant::now() >= until) {
            self.read()?;
        }
        let now = Instant::now();
        if silent_at.is_some_and(|_| now >= self.heard_at + 2 * self.heartbeat) {
            let silence = format!("broker was silent for {:?}", 2 * self.heartbeat);
            return Err(Error::new(ErrorKind::TimedOut, silence));
        }
        if beat_at.is_some_and(|at| now >= at) {
            self.put(&AMQPFrame::Heartbeat);
        }
        Ok(())
    }

    /// Reads once: what is left makes the next wait end at once. Whether something came.
    fn read(&mut self) -> Result<bool> {
        self.input.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        match self.socket.read(&mut self.input[self.end..]) {
            Ok(0) => return Err(Error::new(ErrorKind::UnexpectedEof, "broker closed the socket")),
            Ok(count) => self.end += count,
            Err(error) if is_for_later(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
        self.heard_at = Instant::now();
        Ok(true)
    }

    /// The next frame that was read whole. All are to be taken before the next wait.
    ///
    /// # Errors
    ///
    /// If that is no frame.
    pub fn next_frame(&mut self) -> Result<Option<AMQPFrame>> {
        let input = &self.input[self.start..self.end];
        if exceeds_limits(input) {
            return Err(not_amqp());
        }
        if let Some((channel, payload)) = whole_body(input) {
            // The parser would ask for the memory in a way that cannot fail.
            let frame = AMQPFrame::Body(channel, memory::copy(payload));
            self.start += payload.len() + OVERHEAD;
            return Ok(Some(frame));
        }
        match parse_frame(input) {
            Ok((rest, frame)) => {
                self.start = self.end - rest.len();
                Ok(Some(frame))
            }
            Err(error) if error.is_incomplete() => Ok(None),
            Err(_) => Err(not_amqp()),
        }
    }

    /// What the socket has taken and not sent is not sent when it is closed.
    pub fn abort(&self) {
        // If that fails it is sent: not worse than a broker that had it all before.
        let _ = set_socket_linger(&self.socket, Some(Duration::ZERO));
    }
}

fn zeros(count: usize) -> Box<[u8]> {
    let mut zeros = Vec::new();
    memory::resize(&mut zeros, count, 0);
    zeros.into_boxed_slice()
}

/// Whether these bytes begin a frame that is too large.
fn exceeds_limits(input: &[u8]) -> bool {
    let Some(&[kind, _, _, a, b, c, d]) = input.first_chunk() else { return false };
    let limit = if kind == frame::BODY { FRAME_MAX } else { METHOD_MAX };
    u32::from_be_bytes([a, b, c, d]) as usize > limit
}

/// The channel and the payload of the frame that these bytes begin with, if it is one with a part of a body.
fn whole_body(input: &[u8]) -> Option<(u16, &[u8])> {
    let &[kind, a, b, c, d, e, f] = input.first_chunk()?;
    let payload = input.get(7..)?.get(..u32::from_be_bytes([c, d, e, f]) as usize)?;
    let is_whole = kind == frame::BODY && input.get(payload.len() + 7) == Some(&frame::END);
    is_whole.then_some((u16::from_be_bytes([a, b]), payload))
}

fn not_amqp() -> Error {
    Error::new(ErrorKind::InvalidData, "what it sends is not AMQP 0-9-1")
}

/// Whether a read or write may be tried again.
fn is_for_later(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::pause::block_on;
    use super::*;

    fn pair() -> (Wire, Wire) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Wire::new(near).unwrap(), Wire::new(listener.accept().unwrap().0).unwrap())
    }

    fn wait(wire: &mut Wire) -> Result<()> {
        let pause = Pause::default();
        block_on(&pause, wire.wait(&pause, None))
    }

    fn message(size: usize) -> Rc<Message> {
        Rc::new(Message {
            exchange: Default::default(),
            routing_key: "key".into(),
            body: (0..size).map(|n| n as u8).collect(),
            message_id: "id".to_owned(),
            timestamp: 0,
            kind: "insert",
            headers: Vec::new(),
            ..Message::default()
        })
    }

    /// Of a body of several megabytes no more is copied than is written at once, and the reader gets
    /// it in frames that are not too large, with other frames between them.
    #[test]
    fn a_large_message_goes_piece_by_piece() {
        let (mut near, mut far) = pair();
        near.tune(4096, Duration::ZERO);
        let message = message(5_000_000);
        near.put_message(1, Rc::clone(&message), None);
        assert!(!near.has_room());
        near.put(&AMQPFrame::Heartbeat);
        let (mut body, mut others) = (Vec::new(), Vec::new());
        while body.len() < message.body.len() {
            near.flush().unwrap();
            assert!(near.output.len() <= 2 * BATCH + FRAME_MAX);
            wait(&mut far).unwrap();
            while let Some(frame) = far.next_frame().unwrap() {
                match frame {
                    AMQPFrame::Body(1, part) => {
                        assert!(part.len() + OVERHEAD <= 4096);
                        body.extend(part);
                    }
                    other => others.push(other),
                }
            }
        }
        assert!(body == message.body);
        assert!(matches!(
            others.as_slice(),
            [AMQPFrame::Method(..), AMQPFrame::Header(..), AMQPFrame::Heartbeat]
        ));
        assert!(near.has_room());
    }

    #[test]
    fn an_idle_wire_has_heartbeats_and_a_silent_one_is_given_up() {
        let (mut near, mut far) = pair();
        near.tune(FRAME_MAX, Duration::from_millis(2));
        let frame = loop {
            // On a busy machine one wait may take longer than the silence that is allowed.
            near.heard_at = Instant::now();
            let waited = wait(&mut near);
            assert!(waited.is_ok() || near.heard_at.elapsed() > 2 * near.heartbeat);
            if far.read().unwrap() {
                break far.next_frame().unwrap();
            }
        };
        assert!(matches!(frame, Some(AMQPFrame::Heartbeat)));
        let error = loop {
            if let Err(error) = wait(&mut near) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        drop(near);
        let error = loop {
            while far.next_frame().unwrap().is_some() {}
            if let Err(error) = wait(&mut far) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        let (mut near, mut far) = pair();
        near.socket.write_all(b"HTTP/1.1 400 Bad Request").unwrap();
        wait(&mut far).unwrap();
        assert_eq!(far.next_frame().unwrap_err().kind(), ErrorKind::InvalidData);
    }

    /// Parsed by recursion, these would take the process down in a larger frame.
    #[test]
    fn tables_in_one_another_take_no_more_than_a_threads_stack() {
        for (levels, is_taken) in [(790, true), (1_000, false)] {
            let (mut near, mut far) = pair();
            let mut value = vec![b'V'];
            for _ in 0..levels {
                let size = (value.len() as u32).to_be_bytes();
                value = [b"A", size.as_slice(), &value].concat();
            }
            let table = [b"\x01x", value.as_slice()].concat();
            let properties = [(table.len() as u32).to_be_bytes().as_slice(), &table].concat();
            // connection.start: the version, the server's properties, mechanisms, locales.
            let start = [b"\0\x0a\0\x0a\0\x09", properties.as_slice(), &[0; 8]].concat();
            let head = [b"\x01\0\0", (start.len() as u32).to_be_bytes().as_slice()].concat();
            near.socket.write_all(&[head, start, vec![0xCE]].concat()).unwrap();
            let frame = loop {
                wait(&mut far).unwrap();
                if let Some(frame) = far.next_frame().transpose() {
                    break frame;
                }
            };
            assert_eq!(frame.is_ok(), is_taken);
        }
    }

    #[test]
    fn what_is_not_sent_of_a_message_can_be_left_out() {
        let (mut near, mut far) = pair();
        near.put_message(1, message(5_000_000), None);
        assert!(near.abandon() && !near.abandon());
        near.put(&AMQPFrame::Heartbeat);
        let mut frames = 0;
        loop {
            near.flush().unwrap();
            wait(&mut far).unwrap();
            while let Some(frame) = far.next_frame().unwrap() {
                frames += 1;
                if frame == AMQPFrame::Heartbeat {
                    assert_eq!(frames, 4);
                    return;
                }
            }
        }
    }
}
