//! HAProxy before a cluster, as a load balancer that closes connections on which nothing goes on.

use std::net::{Ipv4Addr, TcpStream};

use crate::folder::{Folder, Place};
use crate::janitor::StopSignal;
use crate::ordinary_user;
use crate::ports::{Port, free_port};
use crate::process::Process;
use crate::wait::{DEADLINE, wait_until};

/// A load balancer, until dropped.
#[derive(Debug)]
pub struct HaProxy {
    // Dropped in this order: the process is gone before its folder.
    _process: Process,
    _folder: Folder,
    port: Port,
}

impl HaProxy {
    /// One that spreads connections over these servers (`host:port`) and closes those that were silent for so many
    /// seconds.
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    pub fn start(servers: &[String], idle_seconds: u64) -> HaProxy {
        let folder = Folder::new(Place::Disk, StopSignal::Kill);
        let port = free_port();
        let servers: String = (1..)
            .zip(servers)
            .map(|(number, server)| format!("    server s{number} {server} check inter 500ms\n"))
            .collect();
        let conf = format!(
            "defaults\n    mode tcp\n    timeout connect 2s\n    timeout client {idle_seconds}s\n    \
             timeout server {idle_seconds}s\n    option redispatch\n\
             listen amqp\n    bind 127.0.0.1:{}\n    balance roundrobin\n{servers}",
            port.number()
        );
        let mut command = ordinary_user::command("haproxy");
        command.arg("-db").arg("-f").arg(folder.write("haproxy.cfg", &conf));
        let process = Process::start("haproxy", command, &folder, "haproxy.out");
        wait_until("haproxy listens", DEADLINE, || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port.number())).ok()
        });
        HaProxy { _process: process, _folder: folder, port }
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }
}
