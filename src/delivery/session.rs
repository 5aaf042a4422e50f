//! One session with the broker: connect, then publish and take confirms until something ends it. What is sent,
//! [`sending`] tells.

mod sending;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use super::broker::{Address, Unroutable};
use super::client::{AmqpClient, News};
use super::failure::{Failure, FailureKind, SessionEnd};
use super::message::Message;
use super::policy::{NEVER_HOLD, Policy};
use super::publisher::{Publisher, Reach};
use super::refusals::ASK_AGAIN;
use super::unconfirmed::{Answer, Kind, Unconfirmed};
use super::update::Update;
use super::verdict::Verdict;
use super::window::Window;

/// Shortest time between two words about returned messages.
const RETURNED_INTERVAL: Duration = Duration::from_secs(10);

/// Time between two attempts to publish a message that no queue is bound for.
const UNROUTABLE_RETRY: Duration = Duration::from_secs(1);

/// A connection that moves fewer bytes a second than this is not waited for: what is under way may
/// take longer than the confirm timeout only as far as its size explains that.
const SLOWEST: usize = 1024 * 1024;

/// How long a goodbye may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(250);

/// Runs a session, after `delay`.
pub async fn run<C: AmqpClient>(
    publisher: &mut Publisher,
    window: &mut Window,
    address: &Address,
    delay: Duration,
) -> SessionEnd {
    let connection: C = match connect(publisher, address, delay).await {
        Ok(connection) => connection,
        Err(end) => return end,
    };
    let (broker, security) = (address.to_string(), connection.security());
    publisher.reach = Reach::Connected;
    publisher.report(Update::Streaming { broker, security });
    window.begin();
    let mut session = Session {
        max_in_flight: publisher.settings.max_in_flight,
        confirm_timeout: publisher.settings.confirm_timeout,
        answer_timeout: publisher.settings.connect_timeout,
        unroutable: publisher.settings.unroutable,
        publisher,
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

async fn connect<C: AmqpClient>(
    publisher: &mut Publisher,
    address: &Address,
    delay: Duration,
) -> Result<C, SessionEnd> {
    publisher.reach = Reach::Waiting;
    let due = Instant::now() + delay;
    publisher.obey()?;
    while Instant::now() < due {
        publisher.pause_until(due).await;
        publisher.obey()?;
    }
    publisher.reach = Reach::Connecting;
    publisher.report(Update::Connecting(address.to_string()));
    C::open(publisher, address).await
}

/// A session whose connection is open.
struct Session<'a, C> {
    publisher: &'a mut Publisher,
    window: &'a mut Window,
    connection: C,
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

/// Returned messages of which nothing was said yet.
#[derive(Default)]
struct Returned {
    count: u64,
    reported_at: Option<Instant>,
}

impl<C: AmqpClient> Session<'_, C> {
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
        self.publisher.obey()?;
        self.hear()?;
        self.send().await?;
        if self.window.oldest_answered().is_some() {
            // It was passed over: there is room for others.
            self.settle()?;
            return Ok(());
        }
        let deadline = self.confirm_deadline();
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let text = format!("broker confirmed nothing for {:?}", self.confirm_timeout);
            return Err(Failure::of_connection(text).into());
        }
        let until = [deadline, self.announcement_due()].into_iter().flatten().min();
        Ok(self.wait(until).await?)
    }

    /// Waits for the next step.
    async fn wait(&mut self, until: Option<Instant>) -> Result<(), Failure> {
        self.connection.wait(self.publisher, until).await
    }

    /// When the oldest message in flight should be confirmed, or the rest of one that was taken back
    /// should have left. A broker that does not read says so.
    fn confirm_deadline(&self) -> Option<Instant> {
        let allowance = Duration::from_secs((self.bytes_in_flight / SLOWEST) as u64);
        let is_awaited = self.window.in_flight() > 0 || self.connection.is_in_message();
        (is_awaited && !self.blocked).then(|| self.progress_at + self.confirm_timeout + allowance)
    }

    /// When to announce the next gap. None while that must wait for something else.
    fn announcement_due(&self) -> Option<Instant> {
        let is_busy =
            self.window.in_flight() > 0 || self.blocked || self.connection.is_in_message();
        if is_busy { None } else { self.publisher.mailbox.debts.borrow().next_due() }
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
        let alone = self.window.oldest().filter(|_| is_alone);
        let failure = match alone {
            Some(oldest) if failure.held().is_none() => failure.because_of(&oldest.message),
            _ => failure,
        };
        if failure.held().is_some() && self.note_refusal(&failure) {
            return Err(SessionEnd::Refused);
        }
        match failure.kind() {
            FailureKind::Returned => self.hold(&failure, Some(UNROUTABLE_RETRY)).await,
            FailureKind::TooLarge | FailureKind::Rejected if failure.held().is_some() => {
                self.hold(&failure, None).await
            }
            // If it is not known which message it was, the next session finds out.
            _ => Err(failure.into()),
        }
    }

    /// The broker closed the channel because of the oldest message. Whether the stream goes on without it.
    fn note_refusal(&mut self, failure: &Failure) -> bool {
        let Some(Unconfirmed { message, kind, .. }) = self.window.oldest() else { return false };
        let is_missing = failure.kind() == FailureKind::Missing;
        let is_closed = is_missing
            || matches!(
                failure.kind(),
                FailureKind::Refused | FailureKind::TooLarge | FailureKind::Rejected
            );
        match kind {
            Kind::Gap => {
                self.publisher.refuse(&message.exchange, failure.reason().into());
                true
            }
            Kind::Event if is_closed && message.is_notice() => {
                self.publisher.refusals.note_message(message, failure.reason().into());
                true
            }
            // The next session asks about it, and may have it declared anew.
            Kind::Event if is_missing => self.policy(message).passes_over(),
            Kind::Event if is_closed && self.policy(message).passes_over() => {
                self.publisher.refusals.note(failure, message, Instant::now());
                let shown = self.publisher.refusals.shown();
                self.publisher.report(Update::Refusing(shown));
                true
            }
            Kind::Event | Kind::DeadLetter(_) => false,
        }
    }

    /// What becomes of a message of the stream if it is refused. A gap is announced later then: many
    /// exchanges are told of it, and not all may be there still.
    fn policy(&self, message: &Message) -> Policy {
        if message.is_notice() {
            NEVER_HOLD
        } else {
            self.publisher.settings.policies.of(&message.exchange)
        }
    }

    /// Stands still at the oldest message: until `retry` has passed, which leaves the connection as
    /// it is, or else until the operator or the broker does something.
    async fn hold(&mut self, failure: &Failure, retry: Option<Duration>) -> Result<(), SessionEnd> {
        self.has_leftovers |= self.window.in_flight() > 1;
        self.window.rewind(failure.resend_reason());
        self.bytes_in_flight = 0;
        self.publisher.report_standstill(failure);
        let retry_at = retry.map(|time| Instant::now() + time);
        while retry_at.is_none_or(|at| Instant::now() < at) {
            self.publisher.obey()?;
            self.hear()?;
            self.wait(retry_at).await?;
        }
        self.progress_at = Instant::now();
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
            News::Returned { exchange, message_id, routing_key } => {
                self.take_returned(&exchange, &message_id, routing_key)
            }
            News::Blocked(reason) => {
                self.blocked = true;
                self.publisher.report(Update::Blocked(reason));
            }
            News::Unblocked => {
                self.blocked = false;
                self.progress_at = Instant::now();
                self.publisher.report(Update::Unblocked);
            }
            News::Declined { exchange, reason } => {
                let notice = format!("exchange \"{exchange}\" was not declared: {reason}");
                self.publisher.report(Update::Notice(notice));
            }
        }
    }

    /// Is done with the oldest messages in flight as far as they are confirmed without a gap.
    fn settle(&mut self) -> Result<(), Failure> {
        let mut has_progress = false;
        let mut result = Ok(());
        while let Some((answer, oldest)) = self.window.oldest_answered() {
            let policies = &self.publisher.settings.policies;
            let verdict = Verdict::on(oldest, answer, policies, self.unroutable);
            let was_sent = answer != Answer::PassedOver;
            let bytes = if was_sent { oldest.message.body.len() } else { 0 };
            match &verdict {
                Verdict::Hold(failure) => {
                    result = Err(failure.clone());
                    break;
                }
                Verdict::Redirect(why) => {
                    let exchange = self.publisher.settings.policies.dead_letter_exchange();
                    self.window.redirect_oldest(exchange, why.clone());
                    self.bytes_in_flight -= bytes;
                    has_progress = true;
                    break;
                }
                Verdict::Done | Verdict::PassOver(_) | Verdict::Postpone => {}
            }
            let Some(done) = self.window.confirm_oldest() else { break };
            self.bytes_in_flight -= bytes;
            match verdict {
                Verdict::PassOver(why) => self.publisher.pass_over(&done, &why),
                Verdict::Postpone => {
                    let due = Instant::now() + ASK_AGAIN;
                    let mut debts = self.publisher.mailbox.debts.borrow_mut();
                    debts.postpone(&done.message.exchange, due, false);
                }
                _ => self.publisher.finish(&done),
            }
            self.publisher.mailbox.spares.keep(done.message);
            has_progress = true;
        }
        if has_progress {
            self.progress_at = Instant::now();
        }
        result
    }

    /// A message that no queue was bound for.
    fn take_returned(&mut self, exchange: &str, message_id: &str, routing_key: String) {
        self.publisher.count(|done| done.returned += 1);
        let counts = self.unroutable == Unroutable::Hold
            || self.publisher.settings.policies.judge_returns(exchange);
        if counts {
            self.window.mark_returned(exchange, message_id);
            return;
        }
        self.returned.count += 1;
        let due = self.returned.reported_at.is_none_or(|at| at.elapsed() >= RETURNED_INTERVAL);
        if due {
            let count = self.returned.count;
            self.publisher.report(Update::Returned { count, example: routing_key });
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
            if self.connection.is_over() || Instant::now() >= deadline {
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
