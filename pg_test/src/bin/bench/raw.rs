//! What RabbitMQ takes at most from one connection here: a plain lapin program that publishes one
//! message again and again, as a competent user would write it. It is a process of its own, so that
//! its CPU can be told from ours. The message is one of our own, taken from a queue, so that both
//! send the same bytes.

use std::collections::VecDeque;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use lapin::options::{
    BasicGetOptions, BasicPublishOptions, BasicRejectOptions, ConfirmSelectOptions,
};
use lapin::{Confirmation, Connection, ConnectionProperties};
use pg_test::machine::cpu_time;
use tokio::runtime;
use tokio::time::timeout;

/// By this word this program knows that it is the publisher.
pub const COMMAND: &str = "raw-publisher";

/// Unconfirmed messages at most; the default of `amqp.max_in_flight`.
const WINDOW: usize = 2000;

/// For all of it.
const PATIENCE: Duration = Duration::from_secs(600);

/// How fast a publisher was, and what that cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Events confirmed per second, from the first confirm to the last.
    pub rate: f64,
    /// CPU time of the publisher's process per event, in microseconds.
    pub cpu: f64,
}

/// Runs a publisher, which sends the message in queue `sample` so many times to where that came
/// from.
#[track_caller]
pub fn publish(url: &str, sample: &str, events: u64) -> Pace {
    let program = std::env::current_exe().expect("could not find this program");
    let output = Command::new(program)
        .args([COMMAND, url, sample, &events.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .expect("could not run the raw publisher");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.split_whitespace().map_while(|word| word.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(rate), Some(cpu)) => Pace { rate, cpu },
        _ => panic!("the raw publisher failed ({}): {text}", output.status),
    }
}

/// The publisher's process. Prints rate and CPU.
pub fn main(arguments: &[&str]) -> ExitCode {
    let &[url, sample, events] = arguments else { return ExitCode::from(2) };
    let Ok(events) = events.parse() else { return ExitCode::from(2) };
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("could not make a tokio runtime");
    match runtime.block_on(async { timeout(PATIENCE, send(url, sample, events)).await }) {
        Ok(Ok(Pace { rate, cpu })) => {
            println!("{rate} {cpu}");
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

async fn send(url: &str, sample: &str, events: u64) -> lapin::Result<Pace> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let sample = channel.basic_get(sample.into(), BasicGetOptions::default()).await?;
    let sample = sample.expect("there is no sample").delivery;
    // The next publisher needs it, too.
    sample.acker.reject(BasicRejectOptions { requeue: true }).await?;

    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let mut confirms = VecDeque::with_capacity(WINDOW);
    let mut first = None;
    for _ in 0..events {
        if confirms.len() == WINDOW
            && let Some(oldest) = confirms.pop_front()
        {
            confirmed(oldest).await?;
            first.get_or_insert_with(Instant::now);
        }
        let (exchange, routing_key) = (sample.exchange.clone(), sample.routing_key.clone());
        let properties = sample.properties.clone();
        confirms.push_back(
            channel.basic_publish(exchange, routing_key, options, &sample.data, properties).await?,
        );
    }
    for oldest in confirms {
        confirmed(oldest).await?;
        first.get_or_insert_with(Instant::now);
    }
    let took = first.map_or(Duration::ZERO, |first| first.elapsed());
    let cpu = cpu_time(std::process::id());
    connection.close(200, "done".into()).await?;
    Ok(Pace {
        rate: (events - 1) as f64 / took.as_secs_f64(),
        cpu: cpu.as_secs_f64() * 1e6 / events as f64,
    })
}

async fn confirmed(
    confirm: impl Future<Output = lapin::Result<Confirmation>>,
) -> lapin::Result<()> {
    let confirmation = confirm.await?;
    assert!(confirmation.is_ack(), "the broker refused a message");
    Ok(())
}
