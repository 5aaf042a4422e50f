//! One session after the other, until the worker stops the delivery.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::connection::Connection;
use super::failure::{Failure, SessionEnd};
use super::message::ResendReason;
use super::publisher::{Publisher, Reach};
use super::rota::{Rota, Sign};
use super::session;
use super::unconfirmed::{Kind, Unconfirmed};
use super::update::Update;
use super::window::Window;

/// A session that went on for so long was a good one: the next attempt need not wait.
const LASTING: Duration = Duration::from_secs(30);

/// Runs the sessions. Returns when the delivery is to stop.
pub async fn run(mut publisher: Publisher) {
    let mut window = Window::default();
    let mut backoff = Backoff::default();
    let mut rota = Rota::default();
    rota.begin(publisher.settings.addresses.len());
    loop {
        let addresses = publisher.settings.addresses.clone();
        let address = addresses[rota.current()].clone();
        let confirmed = publisher.confirmed();
        let (began, delay) = (Instant::now(), backoff.delay());
        let end =
            caught(session::run::<Connection>(&mut publisher, &mut window, &address, delay)).await;
        if publisher.confirmed() > confirmed || began.elapsed() > delay + LASTING {
            backoff.reset();
        }
        // Whatever ended the session: what was under way on its connection is unconfirmed.
        match end {
            SessionEnd::Stopped => return,
            SessionEnd::Reconfigured => {
                window.rewind(ResendReason::Reconnect);
                window.revive();
                backoff.reset();
                if publisher.settings.addresses != addresses {
                    rota.begin(publisher.settings.addresses.len());
                } else if publisher.reach == Reach::Connecting {
                    // It may never answer, however often the settings are read again.
                    rota.go_on(Sign::OfDeath);
                }
            }
            // The next session knows what not to send.
            SessionEnd::Refused => window.rewind(ResendReason::Reconnect),
            SessionEnd::Skip(message_id) => {
                window.rewind(ResendReason::Reconnect);
                skip(&mut publisher, &mut window, &message_id);
                backoff.reset();
            }
            SessionEnd::Failed(failure) => {
                window.rewind(failure.resend_reason());
                let is_unclear = failure.is_about_a_message() && failure.held().is_none();
                if is_unclear && window.is_one_at_a_time() {
                    // Which one it is about will be known in a moment.
                    continue;
                }
                backoff.grow(failure.kind());
                rota.go_on(failure.sign());
                publisher.dialler.heed(failure.sign());
                publisher.report_standstill(&failure);
            }
        }
    }
}

/// How a session ends; a panic in it is a failure like others.
async fn caught(session: impl Future<Output = SessionEnd>) -> SessionEnd {
    let mut session = pin!(session);
    poll_fn(|context| {
        let step = catch_unwind(AssertUnwindSafe(|| session.as_mut().poll(context)));
        step.unwrap_or_else(|panic| {
            Poll::Ready(SessionEnd::Failed(Failure::from_panic(panic.as_ref())))
        })
    })
    .await
}

/// Passes over the oldest message, if it is the one that is meant.
fn skip(publisher: &mut Publisher, window: &mut Window, message_id: &str) {
    match window.skip(message_id) {
        Some(done) => {
            publisher.confirm(&done);
            publisher.count(|done| done.skipped += 1);
            let Unconfirmed { message, kind, .. } = &done;
            match kind {
                Kind::DeadLetter(origin) => publisher.owe(message, &origin.exchange),
                Kind::Event | Kind::Gap => publisher.owe(message, &message.exchange),
            }
            publisher.report(Update::Skipped(message.description()));
        }
        None => publisher.report(Update::Notice(format!(
            "message {message_id} is not skipped: the stream does not stand still there any more"
        ))),
    }
}
