//! TLS to the broker: who the worker takes for its broker, who the broker takes the worker for, and that nothing is
//! lost on either's account. All the certificates here are shown by one real RabbitMQ, each at a port of its own.

mod broker;
mod client;
mod eavesdropper;
mod ground;
mod network;
mod recipes;
mod settings;
