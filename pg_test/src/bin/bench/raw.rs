//! What RabbitMQ takes at most from one connection here: a plain lapin program that publishes one
//! message again and again, as a competent user would write it. It is a process of its own, so that
//! its CPU can be told from ours. The message is one of our own, taken from a queue, so that both
//! send the same bytes.

use std::collections::VecDeque;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use lapin::options::{
    BasicGetOptions, BasicPublishOptions, BasicRejectOptions, ConfirmSelectOptions,
};
use lapin::{Confirmation, Connection, ConnectionProperties};
use pg_test::Queue;
use pg_test::machine::cpu_time;
use tokio::runtime;
use tokio::time::timeout;

use crate::progress::{INTERVAL, Progress};
use crate::server::Server;

/// By this word this program knows that it is the publisher.
pub const COMMAND: &str = "raw-publisher";

/// Unconfirmed messages at most; the default of `amqp.max_in_flight`.
const WINDOW: usize = 2000;

/// For all of it.
const PATIENCE: Duration = Duration::from_secs(600);

/// Where the message waits that is published.
const SAMPLE: &str = "sample";

/// Keeps one of our messages, that `write` makes, to be published. The size of its body.
#[track_caller]
pub fn keep_sample(server: &mut Server, write: impl FnOnce(&mut Server)) -> usize {
    let broker = server.broker();
    broker.delete_queue(SAMPLE);
    broker.declare_queue(&Queue::durable(SAMPLE).bound_to(server.exchange(), "#"));
    write(server);
    server.settle();
    broker.unbind(SAMPLE, server.exchange(), "#");
    broker.peek(SAMPLE).expect("our message is not there").body.len()
}

/// Runs a publisher, which sends the message that was kept so many times to where that came from.
#[track_caller]
pub fn publish(server: &Server, events: u64) -> Progress {
    run(server.broker().url(), events, &[])
}

/// The same over TLS, to this URL, with this certificate of an authority.
#[track_caller]
pub fn publish_over_tls(url: &str, root: &Path, events: u64) -> Progress {
    // Where rustls looks for the certificates of the machine.
    run(url, events, &[("SSL_CERT_FILE", root)])
}

#[track_caller]
fn run(url: &str, events: u64, environment: &[(&str, &Path)]) -> Progress {
    let program = std::env::current_exe().expect("could not find this program");
    let output = Command::new(program)
        .args([COMMAND, url, SAMPLE, &events.to_string()])
        .envs(environment.iter().copied())
        .stderr(Stdio::inherit())
        .output()
        .expect("could not run the raw publisher");
    assert!(output.status.success(), "the raw publisher failed ({})", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    read(&text).unwrap_or_else(|| panic!("the raw publisher said: {text}"))
}

/// What [`main`] has printed.
fn read(text: &str) -> Option<Progress> {
    let mut lines = text.lines();
    let cpu = lines.next()?.parse().ok()?;
    let mark = |line: &str| {
        let (micros, confirmed) = line.split_once(' ')?;
        Some((Duration::from_micros(micros.parse().ok()?), confirmed.parse().ok()?))
    };
    Some(Progress { marks: lines.map(mark).collect::<Option<_>>()?, cpu })
}

/// The publisher's process. Prints its CPU per event, then a line for each mark.
pub fn main(arguments: &[&str]) -> ExitCode {
    let &[url, sample, events] = arguments else { return ExitCode::from(2) };
    let Ok(events) = events.parse() else { return ExitCode::from(2) };
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("could not make a tokio runtime");
    match runtime.block_on(async { timeout(PATIENCE, send(url, sample, events)).await }) {
        Ok(Ok(Progress { marks, cpu })) => {
            println!("{cpu}");
            for (time, confirmed) in marks {
                println!("{} {confirmed}", time.as_micros());
            }
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => {
            eprintln!("raw publisher: {error}");
            ExitCode::FAILURE
        }
        Err(_) => {
            eprintln!("raw publisher: not done within {PATIENCE:?}");
            ExitCode::FAILURE
        }
    }
}

async fn send(url: &str, sample: &str, events: u64) -> lapin::Result<Progress> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let sample = channel.basic_get(sample.into(), BasicGetOptions::default()).await?;
    let sample = sample.expect("there is no sample").delivery;
    // The next publisher needs it, too.
    sample.acker.reject(BasicRejectOptions { requeue: true }).await?;

    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let mut confirms = VecDeque::with_capacity(WINDOW);
    let mut record = Record::new();
    for _ in 0..events {
        if confirms.len() == WINDOW
            && let Some(oldest) = confirms.pop_front()
        {
            confirmed(oldest).await?;
            record.confirmed();
        }
        let (exchange, routing_key) = (sample.exchange.clone(), sample.routing_key.clone());
        let properties = sample.properties.clone();
        confirms.push_back(
            channel.basic_publish(exchange, routing_key, options, &sample.data, properties).await?,
        );
    }
    for oldest in confirms {
        confirmed(oldest).await?;
        record.confirmed();
    }
    let cpu = cpu_time(std::process::id());
    connection.close(200, "done".into()).await?;
    Ok(Progress { marks: record.marks, cpu: cpu.as_secs_f64() * 1e6 / events as f64 })
}

/// Marks as often as ours is looked at.
struct Record {
    began: Instant,
    confirmed: u64,
    marks: Vec<(Duration, u64)>,
}

impl Record {
    fn new() -> Record {
        Record { began: Instant::now(), confirmed: 0, marks: Vec::new() }
    }

    fn confirmed(&mut self) {
        self.confirmed += 1;
        let time = self.began.elapsed();
        if self.marks.last().is_none_or(|(last, _)| time - *last >= INTERVAL) {
            self.marks.push((time, self.confirmed));
        }
    }
}

async fn confirmed(
    confirm: impl Future<Output = lapin::Result<Confirmation>>,
) -> lapin::Result<()> {
    let confirmation = confirm.await?;
    assert!(confirmation.is_ack(), "the broker refused a message");
    Ok(())
}
