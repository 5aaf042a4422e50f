//! Patroni's REST interface, as much of HTTP as that takes: one request for each connection.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.body).ok()
    }
}

/// Asks the Patroni that listens at this port; None: it does not answer within this time.
pub fn ask(port: u16, method: &str, path: &str, body: &str, patience: Duration) -> Option<Answer> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    parsed(&String::from_utf8_lossy(&answer))
}

fn parsed(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer =
            parsed("HTTP/1.0 503 Service Unavailable\r\nServer: x\r\n\r\n{\"a\": 1}").unwrap();
        assert_eq!((answer.status, answer.json().unwrap()["a"].as_u64()), (503, Some(1)));
        assert!(parsed("HTTP/1.0 200 OK\r\n").is_none());
    }
}
