//! Addresses as text.

/// `host:port`, with brackets around an IPv6 address; empty where the host is not known.
pub fn host_and_port(host: &str, port: u16) -> String {
    match host {
        "" => String::new(),
        host if host.contains(':') => format!("[{host}]:{port}"),
        host => format!("{host}:{port}"),
    }
}

/// The two halves of `host:port`; `None` where it is not that.
pub fn split_host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host, port.parse().ok()?)).filter(|(host, _)| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_put_together_and_taken_apart() {
        for (host, port, text) in [("a", 1, "a:1"), ("::1", 9092, "[::1]:9092"), ("10.0.0.1", 0, "10.0.0.1:0")] {
            assert_eq!(host_and_port(host, port), text);
            assert_eq!(split_host_and_port(text), Some((host, port)));
        }
        assert_eq!(host_and_port("", 5), "");
        for text in ["", "a", ":1", "a:b", "a:70000"] {
            assert_eq!(split_host_and_port(text), None, "{text}");
        }
    }
}
