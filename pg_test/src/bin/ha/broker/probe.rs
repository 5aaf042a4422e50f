//! Somebody else who publishes to the same queues, at each node: what nobody could have published meanwhile is the
//! cluster's own stand-still, and not the worker's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use pg_test::Broker;
use tokio::time::timeout;

/// The routing key of its messages.
pub const KEY: &str = "probe";

/// For each answer of a node. Who gets none connects anew.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Between two messages, and between two attempts.
const REST: Duration = Duration::from_millis(100);

/// When any node confirmed a message.
#[derive(Debug, Default)]
pub struct Probe {
    confirmed: Mutex<Vec<Instant>>,
}

impl Probe {
    /// Publishes to one node until the run ends.
    pub fn run(&self, broker: &Broker, exchange: &str, is_over: &AtomicBool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("could not make a tokio runtime");
        while !is_over.load(Ordering::Relaxed) {
            // That it does not go on is what is to be found out.
            let _ = runtime.block_on(self.publish(broker, exchange, is_over));
            thread::park_timeout(REST);
        }
    }

    async fn publish(
        &self,
        broker: &Broker,
        exchange: &str,
        is_over: &AtomicBool,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let connect = Connection::connect(broker.url(), ConnectionProperties::default());
        let connection = timeout(PATIENCE, connect).await??;
        let channel = timeout(PATIENCE, connection.create_channel()).await??;
        timeout(PATIENCE, channel.confirm_select(ConfirmSelectOptions::default())).await??;
        while !is_over.load(Ordering::Relaxed) {
            let persistent = BasicProperties::default().with_delivery_mode(2);
            let options = BasicPublishOptions::default();
            let published = async {
                let (exchange, key) = (exchange.into(), KEY.into());
                channel.basic_publish(exchange, key, options, b"", persistent).await?.await
            };
            if !timeout(PATIENCE, published).await??.is_ack() {
                break;
            }
            self.confirmed.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            tokio::time::sleep(REST).await;
        }
        Ok(())
    }

    /// For how long now no node has confirmed anything; none: none ever did.
    pub fn silent(&self) -> Option<Duration> {
        let confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        confirmed.iter().max().map(Instant::elapsed)
    }

    /// The longest time since then in which no node confirmed anything.
    pub fn standstill(&self, begin: Instant) -> Duration {
        let mut confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        // Several nodes' come as they come.
        confirmed.sort_unstable();
        let after = confirmed.iter().copied().filter(|&at| at > begin);
        let times: Vec<_> = [begin].into_iter().chain(after).chain([Instant::now()]).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}
