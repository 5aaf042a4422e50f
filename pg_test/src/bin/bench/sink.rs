//! A peer that speaks as much AMQP 0-9-1 as a publisher needs, acknowledges every message and drops it: what
//! a worker does with a broker that takes no time. On a thread of its own, on a port of its own.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

const METHOD: u8 = 1;
const BODY: u8 = 3;
const END: u8 = 0xCE;
/// Type, channel and size before a frame's payload; the end mark after it.
const HEAD: usize = 7;

/// What RabbitMQ proposes.
const CHANNELS: u16 = 2047;
const FRAME_MAX: u32 = 128 * 1024;

/// Takes connections for as long as this process lives. The port.
pub fn open() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = listener.local_addr().expect("it has an address").port();
    thread::spawn(move || {
        for peer in listener.incoming().flatten() {
            thread::spawn(move || Conversation::new(peer).run());
        }
    });
    port
}

/// One connection.
struct Conversation {
    peer: TcpStream,
    received: Vec<u8>,
    answers: Vec<u8>,
    /// Messages published, of which so many were acknowledged.
    published: u64,
    acknowledged: u64,
    /// Channel of the last message.
    channel: u16,
    /// Bytes that its body lacks.
    missing: u64,
}

impl Conversation {
    fn new(peer: TcpStream) -> Conversation {
        let received = Vec::new();
        let answers = Vec::new();
        let (published, acknowledged, channel, missing) = (0, 0, 0, 0);
        Conversation { peer, received, answers, published, acknowledged, channel, missing }
    }

    /// Until the peer leaves, in whatever way.
    fn run(mut self) -> io::Result<()> {
        self.peer.set_nodelay(true)?;
        let mut greeting = [0; 8];
        self.peer.read_exact(&mut greeting)?;
        let start = [&[0, 9][..], &long(b""), &long(b"PLAIN"), &long(b"en_US")].concat();
        self.answer(0, 10, 10, &start);
        let mut bytes = vec![0; 256 * 1024];
        loop {
            self.peer.write_all(&std::mem::take(&mut self.answers))?;
            let count = self.peer.read(&mut bytes)?;
            if count == 0 {
                return Ok(());
            }
            self.received.extend_from_slice(&bytes[..count]);
            self.take_frames();
            if self.published - u64::from(self.missing > 0) > self.acknowledged {
                self.acknowledged = self.published - u64::from(self.missing > 0);
                let all_up_to = [&self.acknowledged.to_be_bytes()[..], &[1]].concat();
                self.answer(self.channel, 60, 80, &all_up_to);
            }
        }
    }

    fn take_frames(&mut self) {
        let received = std::mem::take(&mut self.received);
        let mut rest = &received[..];
        while let Some(&[kind, c, d, s, t, u, v]) = rest.first_chunk::<HEAD>() {
            let size = u32::from_be_bytes([s, t, u, v]) as usize;
            let Some(payload) = rest.get(HEAD..HEAD + size) else { break };
            if rest.len() == HEAD + size {
                break;
            }
            self.take_frame(kind, u16::from_be_bytes([c, d]), payload);
            rest = &rest[HEAD + size + 1..];
        }
        self.received = rest.to_vec();
    }

    fn take_frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let number = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
        match kind {
            METHOD => match (number(0), number(2)) {
                (10, 11) => {
                    let tune =
                        [&CHANNELS.to_be_bytes()[..], &FRAME_MAX.to_be_bytes(), &[0, 0]].concat();
                    self.answer(0, 10, 30, &tune);
                }
                (10, 40) => self.answer(0, 10, 41, &[0]),
                (10, 50) => self.answer(0, 10, 51, &[]),
                (20, 10) => self.answer(channel, 20, 11, &long(b"")),
                (40, 10) => self.answer(channel, 40, 11, &[]),
                (85, 10) => self.answer(channel, 85, 11, &[]),
                (60, 40) => {
                    self.published += 1;
                    self.channel = channel;
                    // Until its header tells.
                    self.missing = u64::MAX;
                }
                _ => {}
            },
            BODY => self.missing -= payload.len() as u64,
            // A header: class, weight, size of the body.
            2 => self.missing = u64::from_be_bytes(*payload[4..].first_chunk().unwrap_or(&[0; 8])),
            _ => {}
        }
    }

    fn answer(&mut self, channel: u16, class: u16, method: u16, arguments: &[u8]) {
        self.answers.push(METHOD);
        self.answers.extend_from_slice(&channel.to_be_bytes());
        self.answers.extend_from_slice(&(arguments.len() as u32 + 4).to_be_bytes());
        self.answers.extend_from_slice(&class.to_be_bytes());
        self.answers.extend_from_slice(&method.to_be_bytes());
        self.answers.extend_from_slice(arguments);
        self.answers.push(END);
    }
}

/// A long string, or a table.
fn long(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}
