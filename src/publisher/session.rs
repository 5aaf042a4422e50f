//! One session with the broker: connect, then publish and take confirms until something ends it.

use std::collections::VecDeque;
use std::future::{poll_fn, ready};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use lapin::{Confirmation, Event};
use tokio::time::{Instant, sleep, sleep_until};

use super::barrier::Barrier;
use super::connection::{Confirm, Connection};
use super::failure::{Failure, FailureKind};
use super::window::Window;
use super::{Address, Instruction, Link, Report, Unroutable};

/// Shortest time between two reports of returned messages.
const RETURNED_INTERVAL: Duration = Duration::from_secs(10);

/// Time between two attempts to publish a message that no queue is bound for.
const UNROUTABLE_RETRY: Duration = Duration::from_secs(1);

/// A connection that moves fewer bytes a second than this is not waited for: what is under way may
/// take longer than the confirm timeout only as far as its size explains that.
const SLOWEST: usize = 1024 * 1024;

/// How a session ended.
pub enum SessionEnd {
    /// The worker stops the publisher.
    Stopped,
    /// The settings changed.
    Reconfigured,
    /// The operator wants the message with this message_id to be passed over.
    Skip(String),
    /// Something went wrong.
    Failed(Failure),
}

impl From<Failure> for SessionEnd {
    fn from(failure: Failure) -> SessionEnd {
        SessionEnd::Failed(failure)
    }
}

/// Runs a session, after `delay`.
pub async fn run(
    link: &mut Link,
    window: &mut Window,
    address: &Address,
    delay: Duration,
) -> SessionEnd {
    tokio::select! {
        biased;
        end = instructed(link) => return end,
        () = sleep(delay) => {}
    }
    link.report(Report::Connecting(address.to_string()));
    let settings = link.settings.clone();
    let connection = tokio::select! {
        biased;
        end = instructed(link) => return end,
        connection = Connection::open(&settings, address) => match connection {
            Ok(connection) => connection,
            Err(failure) => return SessionEnd::Failed(failure),
        }
    };
    link.report(Report::Streaming(address.to_string()));
    let mut session = Session {
        link,
        window,
        connection,
        max_in_flight: settings.max_in_flight,
        confirm_timeout: settings.confirm_timeout,
        unroutable: settings.unroutable,
        confirms: VecDeque::new(),
        bytes_in_flight: 0,
        barrier: Barrier::default(),
        progress_at: Instant::now(),
        blocked: false,
        returned: Returned::default(),
    };
    let end = session.stream().await;
    // After a failure, too: what the broker still has of this connection must not be routed after
    // what the next one sends again.
    session.connection.close().await;
    end
}

/// Resolves when the worker has something to say that ends the session.
async fn instructed(link: &mut Link) -> SessionEnd {
    let counts = Arc::clone(&link.counts);
    loop {
        if let Some(end) = instruction(link) {
            return end;
        }
        counts.wake.notified().await;
    }
}

fn instruction(link: &mut Link) -> Option<SessionEnd> {
    match link.take_instructions() {
        Instruction::Stop => Some(SessionEnd::Stopped),
        Instruction::Reconnect => Some(SessionEnd::Reconfigured),
        Instruction::Skip(message_id) => Some(SessionEnd::Skip(message_id)),
        Instruction::None => None,
    }
}

struct Session<'a> {
    link: &'a mut Link,
    window: &'a mut Window,
    connection: Connection,
    max_in_flight: usize,
    confirm_timeout: Duration,
    unroutable: Unroutable,
    /// One for each message that is sent and not confirmed, in order.
    confirms: VecDeque<Confirm>,
    /// Of the bodies of these messages.
    bytes_in_flight: usize,
    /// What of the confirmed was not returned either, where that matters.
    barrier: Barrier,
    /// When the oldest message in flight became the oldest.
    progress_at: Instant,
    /// Whether the broker has stopped reading from the connection.
    blocked: bool,
    returned: Returned,
}

/// Returned messages that were not reported yet.
#[derive(Default)]
struct Returned {
    count: u64,
    reported_at: Option<Instant>,
}

impl Session<'_> {
    async fn stream(&mut self) -> SessionEnd {
        let counts = Arc::clone(&self.link.counts);
        loop {
            if let Some(end) = instruction(self.link) {
                return end;
            }
            if let Err(end) = self.send().await {
                return end;
            }
            let allowance = Duration::from_secs((self.bytes_in_flight / SLOWEST) as u64);
            let confirm_deadline = self.progress_at + self.confirm_timeout + allowance;
            let in_flight = !self.confirms.is_empty();
            let tell_at = self.link.tell_at;
            let outcome = tokio::select! {
                biased;
                outcome = poll_fn(|cx| poll_oldest(&mut self.confirms, cx)), if in_flight => {
                    self.take_confirms(outcome).await
                }
                event = self.connection.next_event() => self.take_event(event),
                () = counts.wake.notified() => Ok(()),
                () = sleep_until(tell_at.map_or(confirm_deadline, Instant::from_std)), if tell_at.is_some() => {
                    self.link.tell();
                    Ok(())
                }
                () = sleep_until(confirm_deadline), if in_flight && !self.blocked => {
                    Err(Failure::new(
                        FailureKind::ConfirmTimeout,
                        format!("broker confirmed nothing for {:?}", self.confirm_timeout),
                    ))
                }
            };
            if let Err(failure) = outcome
                && let Some(end) = self.fail(failure).await
            {
                return end;
            }
        }
    }

    /// What a failure means for the session; none if it can go on.
    async fn fail(&mut self, failure: Failure) -> Option<SessionEnd> {
        if !failure.is_about_a_message() {
            return Some(failure.into());
        }
        self.window.suspect_all_in_flight();
        let alone = self.window.front().filter(|_| self.window.in_flight() == 1);
        let Some(message) = alone else {
            // The next session finds out which it was.
            return Some(failure.into());
        };
        let failure = failure.because_of(message);
        match failure.kind() {
            FailureKind::Returned => self.hold(failure, Some(UNROUTABLE_RETRY)).await,
            FailureKind::Rejected => self.hold(failure, None).await,
            _ => Some(failure.into()),
        }
    }

    /// Stands still at the message in flight: until `retry` has passed, which leaves the connection
    /// as it is, or else until the operator or the broker does something.
    async fn hold(&mut self, failure: Failure, retry: Option<Duration>) -> Option<SessionEnd> {
        self.window.rewind(failure.resend_reason());
        self.confirms.clear();
        self.bytes_in_flight = 0;
        self.barrier = Barrier::default();
        self.link.report_standstill(&failure);
        let retry_at = retry.map(|time| Instant::now() + time);
        loop {
            let event = tokio::select! {
                biased;
                end = instructed(self.link) => return Some(end),
                event = self.connection.next_event() => event,
                () = sleep_until(retry_at.unwrap_or_else(Instant::now)), if retry_at.is_some() => {
                    return None;
                }
            };
            if let Err(failure) = self.take_event(event) {
                return Some(failure.into());
            }
        }
    }

    /// Sends what may be sent.
    async fn send(&mut self) -> Result<(), SessionEnd> {
        while self.window.in_flight() < self.limit() {
            if self.window.peek_next().is_none() {
                match self.link.messages.try_recv() {
                    Ok(message) => self.window.push(message),
                    // The worker that is gone has also sent an instruction.
                    Err(_) => return Ok(()),
                }
            }
            let Some(next) = self.window.peek_next() else { return Ok(()) };
            if self.connection.must_declare(&next.exchange) {
                if self.blocked {
                    // The broker would not hear it.
                    return Ok(());
                }
                let exchange = next.exchange.clone();
                let declined = tokio::select! {
                    biased;
                    end = instructed(self.link) => return Err(end),
                    declared = self.connection.declare(&exchange) => declared?,
                };
                if let Some(problem) = declined {
                    self.link.report(Report::Notice(problem));
                }
            }
            let Some((message, resent)) = self.window.send_next() else { return Ok(()) };
            self.bytes_in_flight += message.body.len();
            let confirm = self.connection.publish(Arc::clone(message), resent);
            if self.confirms.is_empty() {
                self.progress_at = Instant::now();
            }
            self.confirms.push_back(begin(confirm).await);
            self.barrier.sent();
            let counts = &self.link.counts;
            counts.published.fetch_add(1, Ordering::AcqRel);
            if resent.is_some() {
                counts.resent.fetch_add(1, Ordering::AcqRel);
            }
        }
        Ok(())
    }

    /// Messages in flight at most.
    fn limit(&self) -> usize {
        if self.window.is_one_at_a_time() { 1 } else { self.max_in_flight }
    }

    /// Takes the confirm of the oldest message in flight, and of all that follow it without a gap.
    async fn take_confirms(&mut self, oldest: lapin::Result<Confirmation>) -> Result<(), Failure> {
        let mut next = Some(oldest);
        let mut result = Ok(());
        while let Some(outcome) = next {
            self.confirms.pop_front();
            result = self.take_confirm(outcome);
            if result.is_err() {
                break;
            }
            next = poll_fn(|cx| {
                Poll::Ready(match poll_oldest(&mut self.confirms, cx) {
                    Poll::Ready(outcome) => Some(outcome),
                    Poll::Pending => None,
                })
            })
            .await;
        }
        self.progress_at = Instant::now();
        self.link.tell_of_confirms();
        result
    }

    fn take_confirm(&mut self, outcome: lapin::Result<Confirmation>) -> Result<(), Failure> {
        match outcome {
            Ok(Confirmation::Ack(returned)) => {
                if let Some(returned) = returned {
                    self.take_returned(&returned.delivery.routing_key.to_string())?;
                }
            }
            Ok(Confirmation::Nack(_)) => {
                return Err(Failure::new(FailureKind::Nacked, "broker refused a message (nack)"));
            }
            Ok(Confirmation::NotRequested) => {
                return Err(Failure::new(FailureKind::Internal, "channel has no confirms"));
            }
            Err(error) => return Err(Failure::while_streaming(&error)),
        }
        self.barrier.confirmed();
        let delivered = match self.unroutable {
            Unroutable::Drop => 1,
            Unroutable::Hold => self.barrier.release(),
        };
        for _ in 0..delivered {
            if let Some(confirmed) = self.window.confirm_oldest() {
                self.bytes_in_flight -= confirmed.body.len();
                self.link.confirm(&confirmed);
            }
        }
        Ok(())
    }

    /// A message that no queue was bound for. The broker returns it before it confirms it; with
    /// several confirms at once lapin may hand it out with another message's confirm (see
    /// [`Barrier`]).
    fn take_returned(&mut self, routing_key: &str) -> Result<(), Failure> {
        self.link.counts.returned.fetch_add(1, Ordering::AcqRel);
        if self.unroutable == Unroutable::Hold {
            return Err(Failure::new(FailureKind::Returned, "no queue is bound for it"));
        }
        self.returned.count += 1;
        let due = self.returned.reported_at.is_none_or(|at| at.elapsed() >= RETURNED_INTERVAL);
        if due {
            self.link.report(Report::Returned {
                count: self.returned.count,
                example: routing_key.to_owned(),
            });
            self.returned = Returned { count: 0, reported_at: Some(Instant::now()) };
        }
        Ok(())
    }

    fn take_event(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::ConnectionBlocked(reason) => {
                self.blocked = true;
                self.link.report(Report::Blocked(reason));
            }
            Event::ConnectionUnblocked => {
                self.blocked = false;
                self.progress_at = Instant::now();
                self.link.report(Report::Unblocked);
            }
            // A closed channel: the one for declaring says so in its answer, the one for publishing
            // in the confirms.
            Event::Error(error) if error.is_amqp_soft_error() => {}
            Event::Error(error) => return Err(Failure::while_streaming(&error)),
            _ => {}
        }
        Ok(())
    }
}

/// Polls a confirm once, which sends its message: messages go out in the order of these calls.
async fn begin(mut confirm: Confirm) -> Confirm {
    let first = poll_fn(|cx| Poll::Ready(confirm.as_mut().poll(cx))).await;
    match first {
        Poll::Pending => confirm,
        // Already an answer, surely a bad one. It waits for its turn.
        Poll::Ready(outcome) => Box::pin(ready(outcome)),
    }
}

/// Whether the oldest message in flight was confirmed. Pending if none is.
fn poll_oldest(
    confirms: &mut VecDeque<Confirm>,
    cx: &mut Context<'_>,
) -> Poll<lapin::Result<Confirmation>> {
    match confirms.front_mut() {
        None => Poll::Pending,
        Some(confirm) => confirm.as_mut().poll(cx),
    }
}
