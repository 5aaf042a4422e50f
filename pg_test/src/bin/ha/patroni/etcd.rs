//! The etcd in which Patroni keeps who leads: one node, which nothing happens to.

use std::time::Duration;

use pg_test::ports::{Port, free_port};
use pg_test::{DEADLINE, Folder, Place, Process, StopSignal, ordinary_user, wait_until};

use super::rest;

/// A node.
#[derive(Debug)]
pub struct Etcd {
    // Dropped in this order: the process is gone before its folder is removed.
    _process: Process,
    _folder: Folder,
    clients: Port,
    _peers: Port,
}

impl Etcd {
    /// Starts a node, and returns when it answers.
    pub fn start() -> Etcd {
        let folder = Folder::new(Place::Disk, StopSignal::Kill);
        let (clients, peers) = (free_port(), free_port());
        let [clients_url, peers_url] =
            [&clients, &peers].map(|port| format!("http://127.0.0.1:{}", port.number()));
        let mut command = ordinary_user::command("etcd");
        command
            .args(["--name=one", "--unsafe-no-fsync", "--enable-v2"])
            .arg(format!("--data-dir={}", folder.join("data").display()))
            .arg(format!("--listen-client-urls={clients_url}"))
            .arg(format!("--advertise-client-urls={clients_url}"))
            .arg(format!("--listen-peer-urls={peers_url}"))
            .arg(format!("--initial-advertise-peer-urls={peers_url}"))
            .arg(format!("--initial-cluster=one={peers_url}"));
        let process = Process::start("etcd", command, &folder, "etcd.log");
        let etcd = Etcd { _process: process, _folder: folder, clients, _peers: peers };
        wait_until("etcd answers", DEADLINE, || {
            let answer = rest::ask(etcd.port(), "GET", "/health", "", Duration::from_secs(2))?;
            (answer.status == 200).then_some(())
        });
        etcd
    }

    pub fn port(&self) -> u16 {
        self.clients.number()
    }
}
