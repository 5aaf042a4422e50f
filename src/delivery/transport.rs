//! The protocol over a socket that never blocks: what is read goes in, what comes out is written, and one wait is
//! for both. What is said and heard is [`super::connection`]'s business.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ::socket::Socket;
use amqp::{Login, NotSent, TableBuf};

use super::envelope;
use super::message::{Message, ResendReason};
use super::pause::{Pause, Wants};
use crate::pg::wait;

/// Writes in a row, however much the socket takes: then the worker is to be heard.
const WRITES: usize = 64;

/// How many sockets there were.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Why a connection cannot be used any more.
#[derive(Debug)]
pub enum Trouble {
    /// The operating system says so, or TLS.
    Socket(io::Error),
    /// The broker says so, or what it says makes no sense.
    Protocol(amqp::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Socket(error)
    }
}

impl From<amqp::Error> for Trouble {
    fn from(error: amqp::Error) -> Trouble {
        Trouble::Protocol(error)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Socket(error) => error.fmt(f),
            Trouble::Protocol(error) => error.fmt(f),
        }
    }
}

/// A socket with what is spoken over it.
pub struct Transport {
    pub socket: Socket,
    /// Tells the socket from those before.
    number: u64,
    pub amqp: amqp::Connection,
    unfinished: Option<Unfinished>,
    /// Headers of the message that is being sent. Kept for its memory.
    headers: TableBuf,
}

/// A message of whose body some is not in the output yet.
struct Unfinished {
    message: Rc<Message>,
    /// Where that begins.
    from: usize,
}

impl Transport {
    /// Speaks over this socket.
    ///
    /// # Errors
    ///
    /// If there is no memory for it.
    pub fn new(socket: Socket, login: Login) -> io::Result<Transport> {
        let amqp = amqp::Connection::try_new(login, Instant::now())
            .map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
        Ok(Transport {
            socket,
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            amqp,
            unfinished: None,
            headers: TableBuf::new(),
        })
    }

    /// Takes a message to send, if there is room.
    ///
    /// # Errors
    ///
    /// If it cannot be sent. Then nothing was.
    pub fn put_message(
        &mut self,
        channel: u16,
        message: Rc<Message>,
        resent: Option<ResendReason>,
    ) -> Result<(), NotSent> {
        self.headers.clear();
        envelope::put_headers(&mut self.headers, &message, resent);
        let publish = envelope::address(&message, &self.headers);
        self.amqp.publish(channel, &publish, message.body.len() as u64)?;
        self.unfinished = Some(Unfinished { message, from: 0 });
        self.fill();
        Ok(())
    }

    /// Adds to the output of the unfinished message what it has room for.
    fn fill(&mut self) {
        if let Some(Unfinished { message, from }) = &mut self.unfinished {
            *from += self.amqp.put_body(&message.body[*from..]);
            if !self.amqp.is_in_message() {
                self.unfinished = None;
            }
        }
    }

    /// Writes what the socket takes, for as long as the worker can wait.
    ///
    /// # Errors
    ///
    /// If the connection is gone.
    pub fn flush(&mut self) -> io::Result<()> {
        for _ in 0..WRITES {
            if self.amqp.to_send().is_empty() {
                return self.socket.flush();
            }
            match self.socket.write(self.amqp.to_send()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.amqp.sent(count, Instant::now()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            self.fill();
        }
        Ok(())
    }

    /// Writes what can be, waits for the next step, and reads.
    ///
    /// # Errors
    ///
    /// If the connection is gone, or the broker has been silent for too long.
    pub async fn wait(&mut self, pause: &Pause, until: Option<Instant>) -> Result<(), Trouble> {
        let had_room = self.amqp.has_room();
        if let Err(error) = self.flush() {
            // What the broker said before may tell more.
            return match self.read() {
                Ok(true) => Ok(()),
                Err(Trouble::Socket(said)) if said.kind() == ErrorKind::InvalidData => {
                    Err(said.into())
                }
                _ => Err(error.into()),
            };
        }
        let is_full = self.socket.awaits_room(!self.amqp.to_send().is_empty());
        // There may be a message that had no room, or something that was read and not looked at.
        let is_now = self.amqp.has_room() && !had_room || self.socket.has_unread();
        let until = if is_now { Some(Instant::now()) } else { until };
        let until = [until, self.amqp.wake_at()].into_iter().flatten().min();
        let (descriptor, number) = (self.socket.as_fd().as_raw_fd(), self.number);
        let socket = Some(wait::Socket { descriptor, number, is_full });
        let is_readable = pause.wait(Wants { socket, until }).await;
        // What came in time counts, however late it is looked at.
        if is_readable || until.is_some_and(|until| Instant::now() >= until) {
            self.read()?;
        }
        Ok(self.amqp.wake(Instant::now())?)
    }

    /// Reads once: what is left makes the next wait end at once. Whether something came.
    fn read(&mut self) -> Result<bool, Trouble> {
        match self.socket.read(self.amqp.room()) {
            Ok(0) => Err(self.amqp.hung_up().into()),
            Ok(count) => {
                self.amqp.received(count, Instant::now());
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use amqp::{Credentials, Error, Event};

    use super::super::pause::block_on;
    use super::*;

    /// What a broker says until channel 1 is open.
    const LETS_IN: &[u8] = b"\x01\0\0\0\0\0\x1C\0\x0A\0\x0A\0\x09\0\0\0\0\0\0\0\x05PLAIN\0\0\0\x05en_US\xCE\
        \x01\0\0\0\0\0\x0C\0\x0A\0\x1E\x07\xFF\0\0\x10\0\0\0\xCE\x01\0\0\0\0\0\x05\0\x0A\0\x29\0\xCE";
    const OPENS: &[u8] = b"\x01\0\x01\0\0\0\x08\0\x14\0\x0B\0\0\0\0\xCE";

    fn login(heartbeat: u16) -> Login {
        Login {
            credentials: Credentials::Password { user: String::new(), password: String::new() },
            virtual_host: "/".to_owned(),
            properties: TableBuf::new(),
            frame_max: 131_072,
            channel_max: 10,
            heartbeat,
            deadline: Instant::now() + Duration::from_secs(60),
        }
    }

    /// Let in by a broker that takes frames of 4,096 bytes, with channel 1 open; and that broker's end.
    fn pair(heartbeat: u16) -> (Transport, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let mut near = Transport::new(Socket::plain(near).unwrap(), login(heartbeat)).unwrap();
        far.write_all(LETS_IN).unwrap();
        hear(&mut near, |event| *event == Event::Ready);
        near.amqp.open_channel(1).unwrap();
        far.write_all(OPENS).unwrap();
        hear(&mut near, |event| matches!(event, Event::ChannelOpened { channel: 1 }));
        near.flush().unwrap();
        (near, far)
    }

    fn wait(transport: &mut Transport) -> Result<(), Trouble> {
        let pause = Pause::default();
        block_on(&pause, transport.wait(&pause, None))
    }

    fn hear(transport: &mut Transport, is_it: impl Fn(&Event<'_>) -> bool) {
        loop {
            while let Some(event) = transport.amqp.next_event().unwrap() {
                if is_it(&event) {
                    return;
                }
            }
            wait(transport).unwrap();
        }
    }

    fn message(size: usize) -> Rc<Message> {
        Rc::new(Message {
            routing_key: "key".into(),
            body: (0..size).map(|n| n as u8).collect(),
            message_id: "id".to_owned(),
            kind: "insert",
            ..Message::default()
        })
    }

    /// Of a body of several megabytes no more is copied than is written at once, and the reader gets it whole.
    #[test]
    fn a_large_message_goes_piece_by_piece() {
        let (mut near, mut far) = pair(0);
        far.set_nonblocking(true).unwrap();
        // What was said so far.
        let mut received = vec![0; 1 << 20];
        while matches!(far.read(&mut received), Ok(count) if count > 0) {}
        let message = message(5_000_000);
        near.put_message(1, Rc::clone(&message), None).unwrap();
        assert!(!near.amqp.has_room());
        let (mut bytes, mut body) = (Vec::new(), Vec::new());
        while body.len() < message.body.len() {
            near.flush().unwrap();
            assert!(near.amqp.to_send().len() < 80_000);
            match far.read(&mut received) {
                Ok(count) => bytes.extend_from_slice(&received[..count]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            let mut frames = bytes.as_slice();
            while let Some((&[kind, _, _, a, b, c, d], rest)) = frames.split_first_chunk()
                && let size = u32::from_be_bytes([a, b, c, d]) as usize
                && let Some((payload, rest)) = rest.split_at_checked(size)
                && let Some((0xCE, rest)) = rest.split_first()
            {
                assert!(size + 8 <= 4096);
                if kind == 3 {
                    body.extend_from_slice(payload);
                }
                frames = rest;
            }
            bytes = frames.to_vec();
        }
        assert!(body == message.body);
        assert!(near.amqp.has_room() && near.unfinished.is_none());
    }

    #[test]
    fn an_idle_transport_has_heartbeats_and_a_silent_broker_is_given_up() {
        let (mut near, mut far) = pair(1);
        far.set_nonblocking(true).unwrap();
        let error = loop {
            if let Err(error) = wait(&mut near) {
                break error;
            }
        };
        assert_eq!(error.to_string(), "broker was silent for 2s");
        let mut received = vec![0; 10_000];
        let count = far.read(&mut received).unwrap();
        assert!(received[..count].ends_with(b"\x08\0\0\0\0\0\0\xCE"));
    }

    #[test]
    fn a_broker_that_hangs_up_is_heard_to_the_end() {
        let (mut near, mut far) = pair(0);
        far.write_all(b"\x01\0\0\0\0\0\x04\0\x0A\0\x3D\xCE").unwrap();
        drop(far);
        hear(&mut near, |event| *event == Event::Unblocked);
        let error = loop {
            if let Err(error) = wait(&mut near) {
                break error;
            }
        };
        // With what it had not read, the operating system has another word for it.
        let is_end = matches!(error, Trouble::Protocol(Error::HungUp(_)) | Trouble::Socket(_));
        assert!(is_end, "{error}");
    }
}
