//! The list of broker hosts in amqp.host. Pure.

use crate::delivery::Address;

/// `host[:port]`, comma-separated; an IPv6 address with a port is written in brackets.
pub fn parse_hosts(list: &str, default_port: u16) -> Result<Vec<Address>, String> {
    let addresses = list
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(|entry| parse_host(entry, default_port))
        .collect::<Result<Vec<_>, _>>()?;
    if addresses.is_empty() {
        return Err("amqp.host is empty".to_owned());
    }
    Ok(addresses)
}

fn parse_host(entry: &str, default_port: u16) -> Result<Address, String> {
    let invalid = || format!("amqp.host has an invalid entry: \"{entry}\"");
    let (host, port) = if let Some(rest) = entry.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or_else(invalid)?;
        match after {
            "" => (host, None),
            _ => (host, Some(after.strip_prefix(':').ok_or_else(invalid)?)),
        }
    } else if entry.matches(':').count() == 1 {
        let (host, port) = entry.split_once(':').ok_or_else(invalid)?;
        (host, Some(port))
    } else {
        (entry, None)
    };
    let port = match port {
        None => default_port,
        Some(text) => text.parse().ok().filter(|&p| p != 0).ok_or_else(invalid)?,
    };
    if host.is_empty() {
        return Err(invalid());
    }
    Ok(Address { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str, port: u16) -> Address {
        Address { host: host.to_owned(), port }
    }

    #[test]
    fn hosts_are_a_list_with_optional_ports() {
        assert_eq!(
            parse_hosts("a, b:1234 ,::1,[::1]:99,[fe80::2]", 5672).unwrap(),
            [
                address("a", 5672),
                address("b", 1234),
                address("::1", 5672),
                address("::1", 99),
                address("fe80::2", 5672),
            ]
        );
    }

    #[test]
    fn a_bad_host_is_named() {
        for bad in ["a:x", "a:0", "a:70000", ":1", "[::1", "[::1]x"] {
            assert!(parse_hosts(bad, 1).unwrap_err().contains(bad), "{bad}");
        }
        assert_eq!(parse_hosts(" , ", 1).unwrap_err(), "amqp.host is empty");
    }
}
