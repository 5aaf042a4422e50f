//! End to end: a real PostgreSQL with the extension, a real RabbitMQ, a real consumer. Each test is
//! a claim that README.md or docs/ make.

mod consumers;
mod crash;
mod damaged;
mod ddl;
mod delivery;
mod first_start;
mod follower;
mod growth;
mod held;
mod helpers;
mod images;
mod lost;
mod memory;
mod memory_runs_out;
mod message;
mod old_transactions;
mod options;
mod order;
mod other_versions;
mod policy;
mod position;
mod refusals;
mod rows;
mod settings;
mod stalls;
mod standby;
mod status;
mod tables;
mod takeover;
mod tls;
mod transactions;
mod upgrade;
mod visibility;
mod waking;
