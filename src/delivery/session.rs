//! One session with the broker: connect, then publish and take confirms until something ends it.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::connection::{Connection, News, Standing};
use super::failure::{Failure, FailureKind, SessionEnd};
use super::message::{Message, ResendReason};
use super::policy::{Action, NEVER_HOLD, Policy};
use super::refusals::{ASK_AGAIN, Why};
use super::window::{Answer, Kind, Unconfirmed, Window};
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
        self.connection.wait(self.link, until).await
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
        if is_busy { None } else { self.link.desk.debts.borrow().next_due() }
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
                self.link.refuse(&message.exchange, failure.reason().into());
                true
            }
            Kind::Event if is_closed && message.is_gap() => {
                self.link.refusals.note_message(message, failure.reason().into());
                true
            }
            // The next session asks about it, and may have it declared anew.
            Kind::Event if is_missing => self.policy(message).passes_over(),
            Kind::Event if is_closed && self.policy(message).passes_over() => {
                self.link.refusals.note(failure, message, Instant::now());
                let shown = self.link.refusals.shown();
                self.link.report(Report::Refusing(shown));
                true
            }
            Kind::Event | Kind::DeadLetter(_) => false,
        }
    }

    /// What becomes of a message of the stream if it is refused. A gap is announced later then: many
    /// exchanges are told of it, and not all may be there still.
    fn policy(&self, message: &Message) -> Policy {
        if message.is_gap() {
            NEVER_HOLD
        } else {
            self.link.settings.policies.of(&message.exchange)
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
        while self.connection.make_room() {
            if self.window.is_oldest_due() {
                self.publish_next()?;
                continue;
            }
            if self.window.in_flight() >= self.limit() {
                return Ok(());
            }
            if self.link.owes_now() {
                if self.window.in_flight() > 0 || self.blocked {
                    return Ok(());
                }
                self.announce().await?;
                continue;
            }
            if self.window.peek_next().is_none() {
                // If that fails, the message is still waiting.
                self.window.reserve();
                let message = self.link.desk.waiting.borrow_mut().pop_front();
                match message {
                    Some(message) => self.window.push(message),
                    None => return Ok(()),
                }
            }
            if !self.send_one().await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends the next message, passes it over, or asks whether its exchange is there. Whether to go on.
    async fn send_one(&mut self) -> Result<bool, SessionEnd> {
        if !self.link.refusals.is_empty() && self.pass_over_next() {
            return Ok(true);
        }
        let Some(Unconfirmed { message, kind, .. }) = self.window.peek_next() else {
            return Ok(false);
        };
        let may_declare = !message.is_gap();
        let mut is_doubtful = false;
        match self.connection.standing(&message.exchange, may_declare) {
            Standing::Unknown => {
                // While it is blocked, the broker would not hear the question.
                if !self.blocked {
                    let exchange = Rc::clone(&message.exchange);
                    self.ask(&exchange, may_declare).await?;
                }
                return Ok(!self.blocked);
            }
            Standing::Missing(reason) if *kind == Kind::Event && message.is_gap() => {
                self.link.refusals.note_message(message, reason);
                return Ok(true);
            }
            Standing::Missing(reason)
                if *kind == Kind::Event && self.policy(message).passes_over() =>
            {
                let exchange = Rc::clone(&message.exchange);
                self.link.refuse(&exchange, reason);
                return Ok(true);
            }
            Standing::Missing(_) => is_doubtful = true,
            Standing::There => {}
        }
        is_doubtful |= !self.link.refusals.is_empty() && self.link.refusals.is_doubtful(message);
        if is_doubtful {
            // What the broker closes the channel for takes nothing else with it.
            if self.window.in_flight() > 0 {
                return Ok(false);
            }
            self.window.suspect_next();
        }
        self.publish_next()?;
        Ok(true)
    }

    fn publish_next(&mut self) -> Result<(), Failure> {
        if self.window.in_flight() == 0 {
            self.progress_at = Instant::now();
        }
        let Some((message, resent)) = self.window.send_next() else { return Ok(()) };
        self.bytes_in_flight += message.body.len();
        self.connection.publish(Rc::clone(message), resent)?;
        let is_resent = resent.is_some_and(ResendReason::is_certain);
        self.link.count(|done| {
            done.published += 1;
            done.resent += u64::from(is_resent);
        });
        Ok(())
    }

    /// Does with the next message what is done with one of which it is known that it would be refused. Whether
    /// it is such a one.
    fn pass_over_next(&mut self) -> bool {
        let Some(Unconfirmed { message, kind: Kind::Event, .. }) = self.window.peek_next() else {
            return false;
        };
        let Policy { action, .. } = self.policy(message);
        let Some(why) = self.link.refusals.why(message, Instant::now()) else { return false };
        match action {
            Action::Hold => return false,
            Action::Skip => self.window.pass_over_next(why),
            Action::DeadLetter => {
                let exchange = self.link.settings.policies.dead_letter_exchange();
                self.window.redirect_next(exchange, why);
            }
        }
        true
    }

    /// Announces a gap that is due, alone on the connection: it tells whether the exchange takes messages again.
    async fn announce(&mut self) -> Result<(), SessionEnd> {
        let debt = self.link.desk.debts.borrow().due(Instant::now()).cloned();
        let Some(debt) = debt else { return Ok(()) };
        let exchange = &debt.owed.exchange;
        // Nobody wants an exchange for nothing but the announcement.
        let may_declare = self.link.refusals.until(exchange).is_some();
        if let Standing::Missing(_) = self.connection.standing(exchange, may_declare) {
            self.connection.forget(exchange);
        }
        match self.ask(exchange, may_declare).await? {
            Standing::Missing(reason) => self.link.refuse(exchange, reason),
            _ if self.connection.make_room() => {
                self.window.insert_gap(debt.announcement());
                self.window.suspect_next();
                self.publish_next()?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Messages in flight at most.
    fn limit(&self) -> usize {
        if self.window.is_one_at_a_time() { 1 } else { self.max_in_flight }
    }

    /// Asks about an exchange, unless it is known, and waits for the answer.
    async fn ask(&mut self, exchange: &str, may_declare: bool) -> Result<Standing, SessionEnd> {
        let mut deadline = Instant::now() + self.answer_timeout;
        loop {
            match self.connection.standing(exchange, may_declare) {
                Standing::Unknown => {}
                known => return Ok(known),
            }
            if self.blocked {
                // The broker does not hear it for now.
                deadline = Instant::now() + self.answer_timeout;
            }
            if Instant::now() >= deadline {
                let timeout = self.answer_timeout;
                let text = format!("broker did not answer about an exchange within {timeout:?}");
                return Err(Failure::of_connection(text).into());
            }
            self.connection.ask(exchange, may_declare)?;
            self.wait(Some(deadline)).await?;
            self.link.obey()?;
            self.hear()?;
        }
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
            let verdict = self.judge(answer, oldest);
            let was_sent = answer != Answer::PassedOver;
            let bytes = if was_sent { oldest.message.body.len() } else { 0 };
            match &verdict {
                Verdict::Hold(failure) => {
                    result = Err(failure.clone());
                    break;
                }
                Verdict::Redirect(why) => {
                    let exchange = self.link.settings.policies.dead_letter_exchange();
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
                Verdict::PassOver(why) => self.link.pass_over(&done, &why),
                Verdict::Postpone => {
                    let due = Instant::now() + ASK_AGAIN;
                    let mut debts = self.link.desk.debts.borrow_mut();
                    debts.postpone(&done.message.exchange, due, false);
                }
                _ => self.link.finish(&done),
            }
            self.link.desk.spares.keep(done.message);
            has_progress = true;
        }
        if has_progress {
            self.progress_at = Instant::now();
        }
        result
    }

    /// What is to be done with the oldest message, about which this is known.
    fn judge(&self, answer: Answer, oldest: &Unconfirmed) -> Verdict {
        let policy = self.link.settings.policies.of(&oldest.message.exchange);
        let (kind, reason, is_covered) = match (answer, &oldest.kind) {
            (Answer::Confirmed, _) => return Verdict::Done,
            (Answer::PassedOver, _) => {
                return oldest.why.clone().map_or(Verdict::Done, Verdict::PassOver);
            }
            (Answer::Returned, Kind::Event | Kind::Gap)
                if self.unroutable == Unroutable::Drop && !policy.with_returns =>
            {
                return Verdict::Done;
            }
            (_, Kind::Gap) => return Verdict::Postpone,
            (Answer::Returned, _) => {
                (FailureKind::Returned, "no queue is bound for it", policy.with_returns)
            }
            (Answer::Refused, _) => {
                (FailureKind::Nacked, "broker refused a message (nack)", policy.with_nacks)
            }
        };
        let why = || Why { reason: reason.into(), is_size: false };
        match (&oldest.kind, policy.action) {
            (Kind::Event, Action::Skip) if is_covered => Verdict::PassOver(why()),
            (Kind::Event, Action::DeadLetter) if is_covered => Verdict::Redirect(why()),
            _ => Verdict::Hold(Failure::new(kind, reason).because_of(&oldest.message)),
        }
    }

    /// A message that no queue was bound for.
    fn take_returned(&mut self, exchange: &str, message_id: &str, routing_key: String) {
        self.link.count(|done| done.returned += 1);
        let counts = self.unroutable == Unroutable::Hold
            || self.link.settings.policies.judge_returns(exchange);
        if counts {
            self.window.mark_returned(exchange, message_id);
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

/// What is done with a message that something is known about.
enum Verdict {
    /// It is where it belongs, or nobody asked for it.
    Done,
    /// It goes nowhere.
    PassOver(Why),
    /// It goes to the dead-letter exchange.
    Redirect(Why),
    /// The announcement of a gap is tried again later.
    Postpone,
    /// The stream stands still at it.
    Hold(Failure),
}
