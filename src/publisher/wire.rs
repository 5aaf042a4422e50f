//! Frames over a socket that never blocks: buffers for both ways, one wait for everything, and
//! heartbeats (AMQP 0-9-1, 4.2.7). What the frames mean is [`super::connection`]'s business.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use amq_protocol::frame::{AMQPFrame, gen_frame, parse_frame};

use super::bell::BellListener;
use super::frame::{self, OVERHEAD};
use super::message::Message;
use super::window::ResendReason;

/// Largest frame that is agreed to, and what RabbitMQ proposes.
pub const FRAME_MAX: usize = 128 * 1024;

/// Bytes that are gathered for one write. What the broker takes at once on a slow day is less.
const BATCH: usize = 64 * 1024;

/// Room for a frame and what follows it.
const INPUT: usize = 2 * FRAME_MAX;

/// A socket with its frames.
pub struct Wire {
    socket: TcpStream,
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
    /// A message of whose body some is not in the output yet, and from where on.
    unfinished: Option<(Arc<Message>, usize)>,
    /// The channel of that.
    channel: u16,
    heard_at: Instant,
    written_at: Instant,
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
            frame_max: FRAME_MAX,
            heartbeat: Duration::ZERO,
            input: vec![0; INPUT].into_boxed_slice(),
            start: 0,
            end: 0,
            output: Vec::new(),
            written: 0,
            unfinished: None,
            channel: 0,
            heard_at: Instant::now(),
            written_at: Instant::now(),
        })
    }

    /// What was agreed upon: the largest frame, at most [`FRAME_MAX`], and the time between two
    /// heartbeats, none if zero.
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
        self.unfinished.is_none() && self.unwritten() < BATCH
    }

    /// Takes a message to send. Only after [`Wire::has_room`].
    pub fn put_message(
        &mut self,
        channel: u16,
        message: Arc<Message>,
        resent: Option<ResendReason>,
    ) {
        frame::put_head(&mut self.output, channel, &message, resent);
        self.channel = channel;
        self.unfinished = Some((message, 0));
        self.fill();
    }

    /// Adds to the output of the unfinished message what it has room for. Between two of its frames
    /// there may be frames of other channels.
    fn fill(&mut self) {
        while let Some((message, from)) = &mut self.unfinished {
            if *from == message.body.len() {
                self.unfinished = None;
            } else if self.output.len() - self.written < BATCH {
                let to = message.body.len().min(*from + self.frame_max - OVERHEAD);
                frame::put_body(&mut self.output, self.channel, &message.body[*from..to]);
                *from = to;
            } else {
                break;
            }
        }
    }

    fn unwritten(&self) -> usize {
        self.output.len() - self.written
    }

    /// Writes what the socket takes.
    ///
    /// # Errors
    ///
    /// If the connection is gone.
    pub fn flush(&mut self) -> Result<()> {
        while self.unwritten() > 0 {
            match self.socket.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
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

    /// Writes and reads what can be, and waits until there is something to read or to write, the bell
    /// rings, or the time has come.
    ///
    /// # Errors
    ///
    /// If the connection is gone, or the broker has been silent for two heartbeats.
    pub fn wait(&mut self, bell: &BellListener, until: Option<Instant>) -> Result<()> {
        self.flush()?;
        let is_full = self.unwritten() > 0;
        let beats = !self.heartbeat.is_zero();
        let silent_at = beats.then(|| self.heard_at + 2 * self.heartbeat);
        // What waits to be written is as good as a heartbeat.
        let beat_at = (beats && !is_full).then(|| self.written_at + self.heartbeat / 2);
        let until = [until, silent_at, beat_at].into_iter().flatten().min();
        if bell.wait_beside(&self.socket, is_full, until)? {
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
        self.flush()
    }

    /// Reads once: what is left makes the next wait end at once.
    fn read(&mut self) -> Result<()> {
        self.input.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        match self.socket.read(&mut self.input[self.end..]) {
            Ok(0) => return Err(Error::new(ErrorKind::UnexpectedEof, "broker closed the socket")),
            Ok(count) => self.end += count,
            Err(error) if is_for_later(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.heard_at = Instant::now();
        Ok(())
    }

    /// The next frame that was read whole. All are to be taken before the next wait.
    ///
    /// # Errors
    ///
    /// If that is no frame.
    pub fn next_frame(&mut self) -> Result<Option<AMQPFrame>> {
        let input = &self.input[self.start..self.end];
        match parse_frame(input) {
            Ok((rest, frame)) => {
                self.start = self.end - rest.len();
                Ok(Some(frame))
            }
            Err(error) if error.is_incomplete() && input.len() < FRAME_MAX + OVERHEAD => Ok(None),
            Err(_) => Err(Error::new(ErrorKind::InvalidData, "what it sends is not AMQP 0-9-1")),
        }
    }
}

/// Whether a read or write may be tried again.
fn is_for_later(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::bell::bell;
    use super::*;

    fn pair() -> (Wire, Wire) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Wire::new(near).unwrap(), Wire::new(listener.accept().unwrap().0).unwrap())
    }

    fn message(size: usize) -> Arc<Message> {
        Arc::new(Message {
            exchange: String::new(),
            routing_key: "key".to_owned(),
            body: (0..size).map(|n| n as u8).collect(),
            message_id: "id".to_owned(),
            timestamp: 0,
            kind: "insert",
            table: String::new(),
            headers: Vec::new(),
        })
    }

    /// Of a body of several megabytes no more is copied than is written at once, and the reader gets
    /// it in frames that are not too large, with other frames between them.
    #[test]
    fn a_large_message_goes_piece_by_piece() {
        let (mut near, mut far) = pair();
        let (_bell, listener) = bell().unwrap();
        near.tune(4096, Duration::ZERO);
        let message = message(5_000_000);
        near.put_message(1, Arc::clone(&message), None);
        assert!(!near.has_room());
        near.put(&AMQPFrame::Heartbeat);
        let (mut body, mut others) = (Vec::new(), Vec::new());
        while body.len() < message.body.len() {
            near.flush().unwrap();
            assert!(near.output.len() <= 2 * BATCH + FRAME_MAX);
            far.wait(&listener, None).unwrap();
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
        let (_bell, listener) = bell().unwrap();
        near.tune(FRAME_MAX, Duration::from_millis(2));
        let error = loop {
            if let Err(error) = near.wait(&listener, None) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        far.wait(&listener, None).unwrap();
        assert!(matches!(far.next_frame(), Ok(Some(AMQPFrame::Heartbeat))));
        drop(near);
        let error = loop {
            while far.next_frame().unwrap().is_some() {}
            if let Err(error) = far.wait(&listener, None) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        let (mut near, mut far) = pair();
        let (_bell, listener) = bell().unwrap();
        near.socket.write_all(b"HTTP/1.1 400 Bad Request").unwrap();
        far.wait(&listener, None).unwrap();
        assert_eq!(far.next_frame().unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
