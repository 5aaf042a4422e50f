//! One session with the broker: connect, then publish and take confirms until something ends it.

use std::collections::VecDeque;
use std::future::{poll_fn, ready};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use lapin::{Confirmation, Event};
use tokio::time::{Instant, sleep, sleep_until};

use super::connection::{Confirm, Connection};
use super::failure::{Failure, FailureKind};
use super::window::Window;
use super::{Address, Instruction, Link, Report};

/// Shortest time between two reports of returned messages.
const RETURNED_INTERVAL: Duration = Duration::from_secs(10);

/// How a session ended.
pub enum SessionEnd {
    /// The worker stops the publisher.
    Stopped,
    /// The settings changed.
    Reconfigured,
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
        confirms: VecDeque::new(),
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
        match link.take_instructions() {
            Instruction::Stop => return SessionEnd::Stopped,
            Instruction::Reconnect => return SessionEnd::Reconfigured,
            Instruction::None => counts.wake.notified().await,
        }
    }
}

struct Session<'a> {
    link: &'a mut Link,
    window: &'a mut Window,
    connection: Connection,
    max_in_flight: usize,
    confirm_timeout: Duration,
    /// One for each message in flight, in order.
    confirms: VecDeque<Confirm>,
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
            match self.link.take_instructions() {
                Instruction::Stop => return SessionEnd::Stopped,
                Instruction::Reconnect => return SessionEnd::Reconfigured,
                Instruction::None => {}
            }
            if let Err(end) = self.send().await {
                return end;
            }
            let confirm_deadline = self.progress_at + self.confirm_timeout;
            let in_flight = !self.confirms.is_empty();
            let outcome = tokio::select! {
                biased;
                outcome = poll_fn(|cx| poll_oldest(&mut self.confirms, cx)), if in_flight => {
                    self.take_confirms(outcome).await
                }
                event = self.connection.next_event() => self.take_event(event),
                () = counts.wake.notified() => Ok(()),
                () = sleep_until(confirm_deadline), if in_flight && !self.blocked => {
                    Err(Failure::new(
                        FailureKind::ConfirmTimeout,
                        format!("broker confirmed nothing for {:?}", self.confirm_timeout),
                    ))
                }
            };
            if let Err(failure) = outcome {
                return failure.into();
            }
        }
    }

    /// Sends what may be sent.
    async fn send(&mut self) -> Result<(), SessionEnd> {
        debug_assert_eq!(self.window.in_flight(), self.confirms.len());
        while self.window.in_flight() < self.max_in_flight {
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
            let confirm = self.connection.publish(Arc::clone(message), resent);
            if self.confirms.is_empty() {
                self.progress_at = Instant::now();
            }
            self.confirms.push_back(begin(confirm).await);
            let counts = &self.link.counts;
            counts.published.fetch_add(1, Ordering::AcqRel);
            if resent.is_some() {
                counts.resent.fetch_add(1, Ordering::AcqRel);
            }
        }
        Ok(())
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
        self.link.bell.ring();
        result
    }

    fn take_confirm(&mut self, outcome: lapin::Result<Confirmation>) -> Result<(), Failure> {
        match outcome {
            Ok(Confirmation::Ack(returned)) => {
                if let Some(returned) = returned {
                    self.take_returned(&returned.delivery.routing_key.to_string());
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
        if let Some(confirmed) = self.window.confirm_oldest() {
            let counts = &self.link.counts;
            counts.outstanding_bytes.fetch_sub(confirmed.body.len(), Ordering::AcqRel);
            counts.confirmed.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }

    /// A message that no queue was bound for. The broker returns it before it confirms it; with
    /// several confirms at once lapin may hand it out with another message's confirm, so only its
    /// own properties say which it was.
    fn take_returned(&mut self, routing_key: &str) {
        self.link.counts.returned.fetch_add(1, Ordering::AcqRel);
        self.returned.count += 1;
        let due = self.returned.reported_at.is_none_or(|at| at.elapsed() >= RETURNED_INTERVAL);
        if due {
            self.link.report(Report::Returned {
                count: self.returned.count,
                example: routing_key.to_owned(),
            });
            self.returned = Returned { count: 0, reported_at: Some(Instant::now()) };
        }
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
