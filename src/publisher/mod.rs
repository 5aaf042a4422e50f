//! The publisher: a thread of the worker's process that owns the broker connection. It takes
//! messages in order, publishes each with a confirm, and reports how many, counted from the first,
//! the broker has confirmed. It never gives up: while the broker is away, refuses or is blocked it
//! says why and tries again, and sends everything from the first unconfirmed message on anew. While
//! it has nothing to do it sleeps, and lets the worker write to the socket meanwhile ([`shortcut`]).
//!
//! Nothing here calls PostgreSQL. What crosses the thread boundary is plain data: messages and
//! settings in, counts and reports out, a [`bell`] to wake the worker; and the socket, as said.

pub mod bell;
mod connection;
mod dial;
mod failure;
mod frame;
mod message;
mod session;
mod shortcut;
mod window;
mod wire;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, unbounded};

use bell::{Bell, BellListener};
use failure::{Backoff, Failure, SessionEnd};
pub use message::{HeaderValue, Message, ResendReason};
use shortcut::{FEW, FEW_BYTES, Shortcut};
use window::Window;

/// Messages that may wait for the thread.
const QUEUE_LENGTH: usize = 4096;

/// Bytes of bodies, waiting or unconfirmed, above which no more messages are taken.
const MAX_OUTSTANDING_BYTES: usize = 32 * 1024 * 1024;

/// How long the worker may not hear of a confirm that it does not wait for.
const CONFIRM_DELAY: Duration = Duration::from_millis(20);

/// A session that went on for so long was a good one: the next attempt need not wait.
const LASTING: Duration = Duration::from_secs(30);

/// A broker's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text.
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The text, for the one place that needs it.
    fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Everything the publisher is told about the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerSettings {
    /// Tried in turn. Not empty.
    pub addresses: Vec<Address>,
    pub vhost: String,
    pub username: String,
    pub password: Secret,
    /// Type with which an exchange is declared on first use; empty: never declared.
    pub exchange_type: String,
    /// Longest time for a connection to be made, or for an answer to a declaration.
    pub connect_timeout: Duration,
    /// Seconds; 0 leaves it to the broker.
    pub heartbeat: u16,
    /// Longest time without a confirm while messages are in flight.
    pub confirm_timeout: Duration,
    /// Unconfirmed messages at most.
    pub max_in_flight: usize,
    pub unroutable: Unroutable,
}

/// What to do with a message that no queue is bound for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unroutable {
    /// Nobody asked for it: it counts as delivered.
    Drop,
    /// The stream stands still until a queue is bound.
    Hold,
}

/// What the worker tells the publisher.
enum Control {
    Settings(Box<BrokerSettings>),
    /// Pass over the message with this message_id.
    Skip(String),
    Stop,
}

/// What the publisher tells the worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// It tries to reach this broker.
    Connecting(String),
    /// It publishes to this broker.
    Streaming(String),
    /// The stream stands still, at the message with this message_id if it is known, since so many
    /// were confirmed.
    StandingStill { reason: String, held: Option<String>, confirmed: u64 },
    /// The operator's wish was carried out: the message with this description is passed over.
    Skipped(String),
    /// The broker does not read from the connection for now (memory or disk alarm).
    Blocked(String),
    /// The broker reads from the connection again.
    Unblocked,
    /// Something that the operator may want to know, without effect on the stream.
    Notice(String),
    /// So many messages came back because no queue was bound, the last one being this.
    Returned { count: u64, example: String },
}

/// Counts that both sides see.
#[derive(Default)]
struct Counts {
    /// Messages sent, those sent again included.
    published: AtomicU64,
    /// Messages confirmed or skipped, without a gap from the first.
    confirmed: AtomicU64,
    /// Messages skipped.
    skipped: AtomicU64,
    /// Messages the broker returned.
    returned: AtomicU64,
    /// Messages sent again.
    resent: AtomicU64,
    /// Bytes of bodies that are waiting or unconfirmed.
    outstanding_bytes: AtomicUsize,
    /// Whether the worker waits for room for more messages.
    is_room_awaited: AtomicBool,
}

impl Counts {
    /// The oldest message is done with.
    fn confirm(&self, message: &Message) {
        self.outstanding_bytes.fetch_sub(message.body.len(), Ordering::SeqCst);
        self.confirmed.fetch_add(1, Ordering::AcqRel);
    }
}

/// A copy of the counts, since the publisher was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    pub published: u64,
    /// Confirmed or skipped.
    pub confirmed: u64,
    pub skipped: u64,
    pub returned: u64,
    pub resent: u64,
}

/// The worker's handle on the thread. Dropping it stops the thread and waits for it.
pub struct Publisher {
    /// Messages of which the thread does not know.
    batch: RefCell<Vec<Message>>,
    /// Whether the thread is to be woken for others.
    is_wake_due: Cell<bool>,
    messages: Option<Sender<Message>>,
    shortcut: Arc<Shortcut>,
    control: Sender<Control>,
    reports: Receiver<Report>,
    counts: Arc<Counts>,
    /// Wakes the thread.
    wake: Bell,
    thread: Option<JoinHandle<()>>,
}

impl Publisher {
    /// Starts the thread. The caller has all signals blocked meanwhile. The bell rings when there is
    /// a report or the room that [`Publisher::await_room`] asked for, and shortly after a confirm.
    ///
    /// # Errors
    ///
    /// If the operating system refuses the thread, or a file descriptor.
    pub fn start(settings: BrokerSettings, bell: Bell) -> std::io::Result<Publisher> {
        let (messages, incoming) = bounded(QUEUE_LENGTH);
        let (control, instructions) = unbounded();
        let (report_to, reports) = unbounded();
        let counts = Arc::new(Counts::default());
        let shortcut = Arc::<Shortcut>::default();
        let (wake, woken) = bell::bell()?;
        let link = Link {
            messages: incoming,
            shortcut: Arc::clone(&shortcut),
            control: instructions,
            reports: report_to,
            counts: Arc::clone(&counts),
            bell,
            wake: wake.clone(),
            woken,
            settings,
            stands_still: false,
            tell_at: None,
        };
        let thread = std::thread::Builder::new()
            .name("amqp_cdc publisher".to_owned())
            .spawn(move || publish_until_stopped(link))?;
        Ok(Publisher {
            batch: RefCell::default(),
            is_wake_due: Cell::default(),
            messages: Some(messages),
            shortcut,
            control,
            reports,
            counts,
            wake,
            thread: Some(thread),
        })
    }

    /// Whether a message of this size would be taken without waiting. One message always is when
    /// nothing is outstanding, however large.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        let outstanding = self.counts.outstanding_bytes.load(Ordering::SeqCst);
        let in_batch = self.batch.borrow().len();
        let queue_has_room =
            self.messages.as_ref().is_some_and(|queue| queue.len() + in_batch < QUEUE_LENGTH);
        queue_has_room && (outstanding == 0 || outstanding + bytes <= MAX_OUTSTANDING_BYTES)
    }

    /// Whether something was handed over that is not confirmed.
    pub fn has_unconfirmed(&self) -> bool {
        self.counts.outstanding_bytes.load(Ordering::SeqCst) > 0
    }

    /// Has the bell ring when there is room again, and some of it: half of what there is at most.
    /// Whether there is room for a message of this size already.
    pub fn await_room(&self, bytes: usize) -> bool {
        self.counts.is_room_awaited.store(true, Ordering::SeqCst);
        self.has_room_for(bytes)
    }

    /// Takes the next message. Only after [`Publisher::has_room_for`]; never waits.
    pub fn publish(&self, message: Message) {
        self.counts.outstanding_bytes.fetch_add(message.body.len(), Ordering::SeqCst);
        let is_large = message.body.len() > FEW_BYTES;
        self.batch.borrow_mut().push(message);
        if is_large || self.batch.borrow().len() > FEW {
            self.hand_over();
        }
    }

    /// Sends what was taken, or has the thread send it.
    pub fn flush(&self) {
        self.hand_over();
        if self.is_wake_due.take() {
            self.wake.ring();
        }
    }

    fn hand_over(&self) {
        let mut batch = self.batch.borrow_mut();
        if let Some(queue) = &self.messages
            && !batch.is_empty()
            && self.shortcut.hand_over(&mut batch, queue, &self.counts.published)
        {
            self.is_wake_due.set(true);
        }
    }

    /// Gives the thread new settings; it makes a new connection if they differ, or if the stream
    /// stands still: what it stood still for may have been mended.
    pub fn reconfigure(&self, settings: BrokerSettings) {
        self.tell(Control::Settings(Box::new(settings)));
    }

    /// Has the thread pass over the message with this message_id, if the stream stands still there.
    pub fn skip(&self, message_id: String) {
        self.tell(Control::Skip(message_id));
    }

    fn tell(&self, control: Control) {
        // A thread that is gone is told by `is_running`.
        let _ = self.control.send(control);
        self.wake.ring();
    }

    /// The counts as they are now.
    pub fn counts(&self) -> Published {
        let skipped = self.counts.skipped.load(Ordering::Acquire);
        Published {
            skipped,
            published: self.counts.published.load(Ordering::Acquire),
            confirmed: self.counts.confirmed.load(Ordering::Acquire),
            returned: self.counts.returned.load(Ordering::Acquire),
            resent: self.counts.resent.load(Ordering::Acquire),
        }
    }

    /// The reports since the last call.
    pub fn reports(&self) -> impl Iterator<Item = Report> + '_ {
        self.reports.try_iter()
    }

    /// Stops the thread, waits for it, and says what it got done.
    pub fn stop(mut self) -> Published {
        self.join();
        self.counts()
    }

    fn join(&mut self) {
        let _ = self.control.send(Control::Stop);
        self.messages = None;
        self.wake.ring();
        if let Some(thread) = self.thread.take() {
            // The thread catches its panics; there is nothing to be learned from the result.
            let _ = thread.join();
        }
    }

    /// Whether the thread is there; it always should be.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.join();
    }
}

/// The thread's ends of everything it shares with the worker.
struct Link {
    messages: Receiver<Message>,
    shortcut: Arc<Shortcut>,
    control: Receiver<Control>,
    reports: Sender<Report>,
    counts: Arc<Counts>,
    /// Wakes the worker.
    bell: Bell,
    /// Wakes this thread.
    wake: Bell,
    woken: BellListener,
    settings: BrokerSettings,
    /// Whether the stream stands still.
    stands_still: bool,
    /// When the worker is to be told of the confirms of which it was not told yet.
    tell_at: Option<Instant>,
}

impl Link {
    fn report(&mut self, report: Report) {
        self.stands_still |= matches!(report, Report::StandingStill { .. });
        // The worker that is gone needs no report.
        let _ = self.reports.send(report);
        self.bell.ring();
    }

    /// The oldest message is done with. That the stream goes on is told at once.
    fn confirm(&mut self, message: &Message) {
        self.counts.confirm(message);
        if self.stands_still {
            self.stands_still = false;
            self.tell_at = Some(Instant::now());
        }
    }

    fn report_standstill(&mut self, failure: &Failure) {
        let confirmed = self.counts.confirmed.load(Ordering::Acquire);
        let (reason, held) = (failure.to_string(), failure.held());
        self.report(Report::StandingStill { reason, held, confirmed });
    }

    /// Something was confirmed. The worker is woken at once if it waits for the room that this made;
    /// else soon enough for the position and the status, but not by each confirm: its switches would
    /// take the processor from the consumer that just got the message.
    fn tell_of_confirms(&mut self) {
        let counts = &self.counts;
        let is_half_empty = self.messages.len() <= QUEUE_LENGTH / 2
            && counts.outstanding_bytes.load(Ordering::SeqCst) <= MAX_OUTSTANDING_BYTES / 2;
        let is_awaited = is_half_empty && counts.is_room_awaited.swap(false, Ordering::SeqCst);
        let now = Instant::now();
        let due = *self.tell_at.get_or_insert(now + CONFIRM_DELAY);
        if is_awaited || now >= due {
            self.tell();
        }
    }

    /// Wakes the worker for what was confirmed, if it is time to.
    fn tell_if_due(&mut self) {
        if self.tell_at.is_some_and(|at| Instant::now() >= at) {
            self.tell();
        }
    }

    /// Wakes the worker for all that was confirmed.
    fn tell(&mut self) {
        self.tell_at = None;
        self.bell.ring();
    }

    /// Takes new settings, if there are any, and orders.
    ///
    /// # Errors
    ///
    /// What ends the session, if something does.
    fn obey(&mut self) -> Result<(), SessionEnd> {
        let mut result = Ok(());
        loop {
            match self.control.try_recv() {
                Ok(Control::Settings(settings)) => {
                    if *settings != self.settings || self.stands_still {
                        self.settings = *settings;
                        result = Err(SessionEnd::Reconfigured);
                    }
                }
                // That makes a new connection, too.
                Ok(Control::Skip(message_id)) => return Err(SessionEnd::Skip(message_id)),
                Ok(Control::Stop) | Err(TryRecvError::Disconnected) => {
                    return Err(SessionEnd::Stopped);
                }
                Err(TryRecvError::Empty) => return result,
            }
        }
    }
}

/// The thread: one session after the other until it is told to stop.
fn publish_until_stopped(mut link: Link) {
    let mut window = Window::default();
    let mut backoff = Backoff::default();
    let mut attempt = 0usize;
    loop {
        let address = link.settings.addresses[attempt % link.settings.addresses.len()].clone();
        let confirmed = link.counts.confirmed.load(Ordering::Acquire);
        let (began, delay) = (Instant::now(), backoff.delay());
        let end = catch_unwind(AssertUnwindSafe(|| {
            session::run(&mut link, &mut window, &address, delay)
        }))
        .unwrap_or_else(|panic| SessionEnd::Failed(Failure::from_panic(panic.as_ref())));
        // What ended it may have done so before the session could take these over.
        link.shortcut.close().messages.into_iter().for_each(|message| window.push_sent(message));
        let has_confirmed = link.counts.confirmed.load(Ordering::Acquire) > confirmed;
        if has_confirmed || began.elapsed() > LASTING {
            backoff.reset();
        }
        // Whatever ended the session: what was under way on its connection is unconfirmed.
        match end {
            SessionEnd::Stopped => return,
            SessionEnd::Reconfigured => {
                window.rewind(ResendReason::Reconnect);
                backoff.reset();
                attempt = 0;
            }
            SessionEnd::Skip(message_id) => {
                window.rewind(ResendReason::Reconnect);
                skip(&mut link, &mut window, &message_id);
                backoff.reset();
            }
            SessionEnd::Failed(failure) => {
                window.rewind(failure.resend_reason());
                let is_unclear = failure.is_about_a_message() && failure.held().is_none();
                if is_unclear && window.is_one_at_a_time() {
                    // Which one it is about will be known in a moment.
                    continue;
                }
                backoff.grow();
                attempt += 1;
                link.report_standstill(&failure);
            }
        }
    }
}

/// Passes over the oldest message, if it is the one that is meant.
fn skip(link: &mut Link, window: &mut Window, message_id: &str) {
    match window.skip(message_id) {
        Some(message) => {
            link.counts.confirm(&message);
            // After that, and read before it: what is skipped is never more than what is confirmed.
            link.counts.skipped.fetch_add(1, Ordering::AcqRel);
            link.report(Report::Skipped(message.description()));
        }
        None => link.report(Report::Notice(format!(
            "message {message_id} is not skipped: the stream does not stand still there any more"
        ))),
    }
}
