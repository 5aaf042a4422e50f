//! One session with the broker: connect, then publish and take confirms until something ends it.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::connection::{Connection, News};
use super::failure::{Failure, FailureKind, SessionEnd};
use super::message::{Message, ResendReason};
use super::window::{Answer, Window};
use super::{Address, Link, Report, Unroutable};

/// Shortest time between two reports of returned messages.
const RETURNED_INTERVAL: Duration = Duration::from_secs(10);

/// Time between two attempts to publish a message that no queue is bound for.
const UNROUTABLE_RETRY: Duration = Duration::from_secs(1);

/// A connection that moves fewer bytes a second than this is not waited for: what is under way may
/// take longer than the confirm timeout only as far as its size explains that.
const SLOWEST: usize = 1024 * 1024;

/// How long a goodbye may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(250);

/// Runs a session, after `delay`.
pub async fn run(
    link: &mut Link,
    window: &mut Window,
    address: &Address,
    delay: Duration,
) -> SessionEnd {
    let connection = match connect(link, address, delay).await {
        Ok(connection) => connection,
        Err(end) => return end,
    };
    link.report(Report::Streaming(address.to_string()));
    window.begin();
    let mut session = Session {
        max_in_flight: link.settings.max_in_flight,
        confirm_timeout: link.settings.confirm_timeout,
        answer_timeout: link.settings.connect_timeout,
        unroutable: link.settings.unroutable,
        link,
        window,
        connection,
        bytes_in_flight: 0,
        progress_at: Instant::now(),
        blocked: false,
        has_leftovers: false,
        returned: Returned::default(),
    };
    let Err(end) = session.stream().await;
    session.say_goodbye().await;
    end
}

async fn connect(
    link: &mut Link,
    address: &Address,
    delay: Duration,
) -> Result<Connection, SessionEnd> {
    let due = Instant::now() + delay;
    link.obey()?;
    while Instant::now() < due {
        link.pause_until(due).await;
        link.obey()?;
    }
    link.report(Report::Connecting(address.to_string()));
    Connection::open(link, address).await
}

struct Session<'a> {
    link: &'a mut Link,
    window: &'a mut Window,
    connection: Connection,
    max_in_flight: usize,
    confirm_timeout: Duration,
    answer_timeout: Duration,
    unroutable: Unroutable,
    /// Of the bodies of the messages in flight.
    bytes_in_flight: usize,
    /// When the oldest message in flight became the oldest.
    progress_at: Instant,
    /// Whether the broker has stopped reading from the connection.
    blocked: bool,
    /// Whether messages were taken back that the broker may still object to.
    has_leftovers: bool,
    returned: Returned,
}

/// Returned messages that were not reported yet.
#[derive(Default)]
struct Returned {
    count: u64,
    reported_at: Option<Instant>,
}

impl Session<'_> {
    async fn stream(&mut self) -> Result<Infallible, SessionEnd> {
        loop {
            match self.go_on().await {
                Err(SessionEnd::Failed(failure)) => self.fail(failure).await?,
                result => result?,
            }
        }
    }

    /// One round: hear, send, wait.
    async fn go_on(&mut self) -> Result<(), SessionEnd> {
        self.link.obey()?;
        self.hear()?;
        self.send().await?;
        let deadline = self.confirm_deadline();
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let text = format!("broker confirmed nothing for {:?}", self.confirm_timeout);
            return Err(Failure::of_connection(text).into());
        }
        Ok(self.wait(deadline).await?)
    }

    /// Waits for the next step.
    async fn wait(&mut self, until: Option<Instant>) -> Result<(), Failure> {
        self.connection.wait(self.link, until).await
    }

    /// When the oldest message in flight should be confirmed, or the rest of one that was taken back
    /// should have left. A broker that does not read says so.
    fn confirm_deadline(&self) -> Option<Instant> {
        let allowance = Duration::from_secs((self.bytes_in_flight / SLOWEST) as u64);
        let is_awaited = self.window.in_flight() > 0 || self.connection.is_in_message();
        (is_awaited && !self.blocked).then(|| self.progress_at + self.confirm_timeout + allowance)
    }

    /// What a failure means for the session, which can go on if there is no error.
    async fn fail(&mut self, failure: Failure) -> Result<(), SessionEnd> {
        if !failure.is_about_a_message() {
            return Err(failure.into());
        }
        if self.window.in_flight() == 0 {
            return Err(Failure::of_connection(failure.to_string()).into());
        }
        // Where it is known which one it is: those behind it are not sent again and again with it.
        self.window.suspect_all_in_flight();
        let is_alone = self.window.in_flight() == 1 && !self.has_leftovers;
        let alone = self.window.front().filter(|_| is_alone);
        let failure = match alone {
            Some(message) if failure.held().is_none() => failure.because_of(message),
            _ => failure,
        };
        match failure.kind() {
            FailureKind::Returned => self.hold(&failure, Some(UNROUTABLE_RETRY)).await,
            FailureKind::Rejected if failure.held().is_some() => self.hold(&failure, None).await,
            // If it is not known which message it was, the next session finds out.
            _ => Err(failure.into()),
        }
    }

    /// Stands still at the oldest message: until `retry` has passed, which leaves the connection as
    /// it is, or else until the operator or the broker does something.
    async fn hold(&mut self, failure: &Failure, retry: Option<Duration>) -> Result<(), SessionEnd> {
        self.has_leftovers |= self.window.in_flight() > 1;
        self.window.rewind(failure.resend_reason());
        self.bytes_in_flight = 0;
        self.link.report_standstill(failure);
        let retry_at = retry.map(|time| Instant::now() + time);
        while retry_at.is_none_or(|at| Instant::now() < at) {
            self.link.obey()?;
            self.hear()?;
            self.wait(retry_at).await?;
        }
        self.progress_at = Instant::now();
        Ok(())
    }

    /// Sends what may be sent.
    async fn send(&mut self) -> Result<(), SessionEnd> {
        while self.window.in_flight() < self.limit() && self.connection.make_room() {
            if self.window.peek_next().is_none() {
                // If that fails, the message is still waiting.
                self.window.reserve();
                let message = self.link.desk.waiting.borrow_mut().pop_front();
                match message {
                    Some(message) => self.window.push(message),
                    None => return Ok(()),
                }
            }
            let Some(next) = self.window.peek_next() else { return Ok(()) };
            if self.connection.must_declare(&next.exchange) {
                if self.blocked {
                    // The broker would not hear it.
                    return Ok(());
                }
                let exchange = next.exchange.clone();
                self.declare(&exchange).await?;
            }
            if self.window.in_flight() == 0 {
                self.progress_at = Instant::now();
            }
            let Some((message, resent)) = self.window.send_next() else { return Ok(()) };
            self.bytes_in_flight += message.body.len();
            self.connection.publish(Rc::clone(message), resent);
            let is_resent = resent.is_some_and(ResendReason::is_certain);
            self.link.count(|done| {
                done.published += 1;
                done.resent += u64::from(is_resent);
            });
        }
        Ok(())
    }

    /// Messages in flight at most.
    fn limit(&self) -> usize {
        if self.window.is_one_at_a_time() { 1 } else { self.max_in_flight }
    }

    /// Declares an exchange and waits for the answer.
    async fn declare(&mut self, exchange: &str) -> Result<(), SessionEnd> {
        let mut deadline = Instant::now() + self.answer_timeout;
        while self.connection.must_declare(exchange) {
            if self.blocked {
                // The broker does not hear it for now.
                deadline = Instant::now() + self.answer_timeout;
            }
            if Instant::now() >= deadline {
                let timeout = self.answer_timeout;
                let text = format!("broker did not answer a declaration within {timeout:?}");
                return Err(Failure::of_connection(text).into());
            }
            self.connection.declare(exchange);
            self.wait(Some(deadline)).await?;
            self.link.obey()?;
            self.hear()?;
        }
        Ok(())
    }

    /// Takes what the broker has said. What it confirmed counts, whatever it says afterwards.
    fn hear(&mut self) -> Result<(), Failure> {
        let heard = self.take_news();
        let settled = self.settle();
        heard?;
        settled
    }

    fn take_news(&mut self) -> Result<(), Failure> {
        while let Some(news) = self.connection.next()? {
            self.take(news);
        }
        Ok(())
    }

    fn take(&mut self, news: News) {
        match news {
            News::Answered { tag, is_multiple, answer } => {
                self.window.answer(tag, is_multiple, answer);
            }
            News::Returned { message_id, routing_key } => {
                self.take_returned(&message_id, routing_key)
            }
            News::Blocked(reason) => {
                self.blocked = true;
                self.link.report(Report::Blocked(reason));
            }
            News::Unblocked => {
                self.blocked = false;
                self.progress_at = Instant::now();
                self.link.report(Report::Unblocked);
            }
            News::Declined { exchange, reason } => {
                let notice = format!("exchange \"{exchange}\" was not declared: {reason}");
                self.link.report(Report::Notice(notice));
            }
        }
    }

    /// Is done with the oldest messages in flight as far as they are confirmed without a gap.
    fn settle(&mut self) -> Result<(), Failure> {
        let mut has_progress = false;
        let mut result = Ok(());
        while let Some((answer, oldest)) = self.window.oldest_answered() {
            result = judge(answer, oldest, self.unroutable);
            if result.is_err() {
                break;
            }
            let Some(confirmed) = self.window.confirm_oldest() else { break };
            self.bytes_in_flight -= confirmed.body.len();
            self.link.confirm(&confirmed);
            has_progress = true;
        }
        if has_progress {
            self.progress_at = Instant::now();
        }
        result
    }

    /// A message that no queue was bound for.
    fn take_returned(&mut self, message_id: &str, routing_key: String) {
        self.link.count(|done| done.returned += 1);
        if self.unroutable == Unroutable::Hold {
            self.window.mark_returned(message_id);
            return;
        }
        self.returned.count += 1;
        let due = self.returned.reported_at.is_none_or(|at| at.elapsed() >= RETURNED_INTERVAL);
        if due {
            let count = self.returned.count;
            self.link.report(Report::Returned { count, example: routing_key });
            self.returned = Returned { count: 0, reported_at: Some(Instant::now()) };
        }
    }

    /// Closes the connection, after a failure, too: what the broker still has of it must not be routed
    /// after what the next one sends again. What is confirmed meanwhile need not be sent again.
    async fn say_goodbye(mut self) {
        let deadline = Instant::now() + GOODBYE_TIMEOUT;
        self.connection.close();
        loop {
            let heard = self.take_news();
            // What the broker objects to is for the next session.
            let _ = self.settle();
            if self.connection.is_closed() || Instant::now() >= deadline {
                break;
            }
            match heard {
                Err(failure) if failure.is_about_a_message() => {}
                Ok(()) if self.wait(Some(deadline)).await.is_ok() => {}
                _ => break,
            }
        }
    }
}

/// Whether the stream may go on after this answer to the oldest message.
fn judge(answer: Answer, oldest: &Message, unroutable: Unroutable) -> Result<(), Failure> {
    let failure = match answer {
        Answer::Confirmed => return Ok(()),
        Answer::Returned if unroutable == Unroutable::Drop => return Ok(()),
        Answer::Returned => Failure::new(FailureKind::Returned, "no queue is bound for it"),
        Answer::Refused => Failure::new(FailureKind::Nacked, "broker refused a message (nack)"),
    };
    Err(failure.because_of(oldest))
}
