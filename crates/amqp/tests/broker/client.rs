//! A transport of a few lines: a socket under a [`Connection`], in clear or over TLS, whose owner does nothing else.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use amqp::{Connection, Error, Event, Login};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket::{Socket, Tls, connect};

/// For everything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a broker.
pub struct Client {
    pub amqp: Connection,
    pub socket: Socket,
    /// What the socket failed with.
    pub failure: Option<io::Error>,
    /// Everything that was sent and received, and what it was; for recordings.
    pub tee: Vec<Heard>,
}

/// What went by.
pub enum Heard {
    Sent(Vec<u8>),
    Received(Vec<u8>),
    Event(String),
}

impl Client {
    /// Connects to a broker on this machine, in clear.
    pub fn connect(port: u16, login: Login) -> Client {
        Client::connect_over(None, "127.0.0.1", port, login).expect("it listens")
    }

    /// The same over TLS, or without.
    pub fn connect_over(
        tls: Option<&Tls>,
        host: &str,
        port: u16,
        login: Login,
    ) -> io::Result<Client> {
        let socket = connect(host, port, tls, Instant::now() + PATIENCE)?;
        let amqp = Connection::new(login, Instant::now());
        Ok(Client { amqp, socket, failure: None, tee: Vec::new() })
    }

    /// The same, let in and with channel 1 open.
    pub fn open(port: u16, login: Login) -> Client {
        Client::connect(port, login).with_channel()
    }

    /// Let in and with channel 1 open.
    pub fn with_channel(mut self) -> Client {
        self.until("Ready");
        self.amqp.open_channel(1).expect("it is free");
        self.until("ChannelOpened");
        self
    }

    /// Until an event is what is looked for.
    pub fn wait_for<T>(
        &mut self,
        mut look: impl FnMut(&Event<'_>) -> Option<T>,
    ) -> Result<T, Error> {
        let patience = Instant::now() + PATIENCE;
        loop {
            match self.amqp.next_event() {
                Ok(Some(event)) => {
                    self.tee.push(Heard::Event(format!("{event:?}")));
                    if let Some(found) = look(&event) {
                        return Ok(found);
                    }
                }
                Ok(None) => self.round(patience)?,
                Err(error) => {
                    self.tee.push(Heard::Event(format!("{error:?}")));
                    // Its last word.
                    self.flush();
                    return Err(error);
                }
            }
        }
    }

    /// Sends, waits, receives.
    pub fn round(&mut self, patience: Instant) -> Result<(), Error> {
        self.flush();
        let until = self.amqp.wake_at().map_or(patience, |at| at.min(patience));
        if !self.socket.has_unread() {
            self.wait(PollFlags::IN, until);
        }
        match self.socket.read(self.amqp.room()) {
            Ok(0) => return Err(self.amqp.hung_up()),
            Ok(count) => {
                self.tee.push(Heard::Received(self.amqp.room()[..count].to_vec()));
                self.amqp.received(count, Instant::now());
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                self.failure = Some(error);
                return Err(self.amqp.hung_up());
            }
        }
        self.amqp.wake(Instant::now())?;
        assert!(Instant::now() < patience, "it did not come: {:?}", self.events());
        Ok(())
    }

    /// Until the socket can be used so, or has room for what it wants to write.
    fn wait(&self, flags: PollFlags, until: Instant) {
        let wants_room = self.socket.awaits_room(!self.amqp.to_send().is_empty());
        let flags = if wants_room { flags | PollFlags::OUT } else { flags };
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left.max(Duration::from_millis(1))).expect("it is short");
        poll(&mut [PollFd::new(&self.socket, flags)], Some(&left)).expect("it waits");
    }

    /// Does nothing until so many heartbeats were sent.
    pub fn idle(&mut self, heartbeats: usize) -> Result<(), Error> {
        let patience = Instant::now() + PATIENCE;
        let begin = self.tee.len();
        let is_beat =
            |heard: &Heard| matches!(heard, Heard::Sent(bytes) if bytes.first() == Some(&8));
        while self.tee[begin..].iter().filter(|heard| is_beat(heard)).count() < heartbeats {
            while self.amqp.next_event()?.is_some() {}
            self.round(patience)?;
        }
        Ok(())
    }

    /// Sends what is to be sent, all of it unless the handshake of TLS comes first. Whether the socket takes it.
    pub fn flush(&mut self) -> bool {
        let patience = Instant::now() + PATIENCE;
        while !self.amqp.to_send().is_empty() {
            match self.socket.write(self.amqp.to_send()) {
                Ok(count) => {
                    self.tee.push(Heard::Sent(self.amqp.to_send()[..count].to_vec()));
                    self.amqp.sent(count, Instant::now());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !self.socket.awaits_room(true) {
                        return true;
                    }
                    assert!(Instant::now() < patience, "it does not read");
                    self.wait(PollFlags::OUT, patience);
                }
                Err(_) => return false,
            }
        }
        self.socket.flush().is_ok()
    }

    /// Until an event is printed so, in its beginning. All of it.
    #[track_caller]
    pub fn until(&mut self, beginning: &str) -> String {
        let look = |event: &Event<'_>| {
            let printed = format!("{event:?}");
            printed.starts_with(beginning).then_some(printed)
        };
        match self.wait_for(look) {
            Ok(printed) => printed,
            Err(error) => panic!("{error:?} instead of {beginning}: {:?}", self.events()),
        }
    }

    /// The next message that is delivered or returned, body and all.
    pub fn message(&mut self) -> Result<(String, Vec<u8>), Error> {
        let (head, size) = self.wait_for(|event| match event {
            Event::Delivered(amqp::Delivery { body_size, .. })
            | Event::Returned(amqp::Returned { body_size, .. }) => {
                Some((format!("{event:?}"), *body_size))
            }
            _ => None,
        })?;
        let mut body = Vec::new();
        while (body.len() as u64) < size {
            self.wait_for(|event| match event {
                Event::Body { part, .. } => {
                    body.extend_from_slice(part);
                    Some(())
                }
                _ => None,
            })?;
        }
        Ok((head, body))
    }

    /// Publishes a message with its body, however large.
    pub fn publish(&mut self, message: &amqp::Publish<'_>, body: &[u8]) {
        self.amqp.publish(1, message, body.len() as u64).expect("the channel is open");
        let mut rest = body;
        while !rest.is_empty() {
            rest = &rest[self.amqp.put_body(rest)..];
            self.flush();
        }
        self.flush();
    }

    /// Says goodbye, and hears the answer.
    pub fn close(mut self) {
        self.amqp.close("done");
        self.until("Closed");
    }

    /// The events so far.
    fn events(&self) -> Vec<&str> {
        let events = self.tee.iter().filter_map(|heard| match heard {
            Heard::Event(event) => Some(event.as_str()),
            _ => None,
        });
        events.collect()
    }
}
