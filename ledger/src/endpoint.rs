//! URLs that an outlet may name: checked once, where they enter the log, in the one form that is sent to.

use crate::limits::URL_BYTES_MAX;

/// Whether a URL leads out of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// TLS.
    Https,
    /// No TLS, and a host that is this machine: for development.
    HttpLoopback,
}

/// The parts of a URL without userinfo and fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint<'a> {
    /// How it is reached.
    pub scheme: Scheme,
    /// Name or address; an IPv6 address without its brackets.
    pub host: &'a str,
    /// The named port, or that of the scheme.
    pub port: u16,
    /// What a `Host` header says.
    pub authority: &'a str,
    /// Path and query, empty when the URL ends behind the authority.
    pub path: &'a str,
}

impl<'a> Endpoint<'a> {
    /// Parses a URL: `https`, or `http` to loopback; visible ASCII; no userinfo, no fragment, no port 0.
    #[must_use]
    pub fn parse(url: &'a str) -> Option<Self> {
        if url.len() > URL_BYTES_MAX || !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.contains(['#', '@', '\\', '"', '<', '>']) {
            return None;
        }
        let (is_tls, rest) = match url.split_once("://")? {
            ("https", rest) => (true, rest),
            ("http", rest) => (false, rest),
            _ => return None,
        };
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(at)?;
        let (host, port) = split_authority(authority)?;
        let port = match port {
            Some(port) => port.parse().ok().filter(|number: &u16| *number > 0 && number.to_string() == port)?,
            None if is_tls => 443,
            None => 80,
        };
        let scheme = match (is_tls, is_loopback(host)) {
            (true, _) => Scheme::Https,
            (false, true) => Scheme::HttpLoopback,
            (false, false) => return None,
        };
        Some(Self { scheme, host, port, authority, path })
    }
}

fn split_authority(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        return match port.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None if port.is_empty() => Some((host, None)),
            None => None,
        };
    }
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    (host.split('.').all(is_label) && host.len() <= 253).then_some((host, port))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(url: &str) -> Option<(Scheme, &str, u16, &str)> {
        Endpoint::parse(url).map(|of| (of.scheme, of.host, of.port, of.path))
    }

    #[test]
    fn a_url_is_taken_apart() {
        assert_eq!(parts("https://idp.example.com/ssf?tenant=1"), Some((Scheme::Https, "idp.example.com", 443, "/ssf?tenant=1")));
        assert_eq!(parts("https://[2001:db8::1]:8443"), Some((Scheme::Https, "2001:db8::1", 8443, "")));
        assert_eq!(parts("http://127.0.0.1:9/x"), Some((Scheme::HttpLoopback, "127.0.0.1", 9, "/x")));
        assert_eq!(parts("http://localhost?x"), Some((Scheme::HttpLoopback, "localhost", 80, "?x")));
        assert_eq!(Endpoint::parse("https://a.b:444/").map(|of| of.authority), Some("a.b:444"));
    }

    #[test]
    fn what_could_mean_another_place_is_refused() {
        let long = format!("https://a/{}", "x".repeat(URL_BYTES_MAX));
        for url in [
            "",
            "https://",
            "https:///path",
            "http://idp.example.com/",
            "ftp://a/",
            "HTTPS://a/",
            "https://user@a/",
            "https://user:secret@a/",
            "https://a/#fragment",
            "https://a:0/",
            "https://a:65536/",
            "https://a:+80/",
            "https://a:080/",
            "https://a:/",
            "https://a..b/",
            "https://a b/",
            "https://a/\n",
            "https://a\\b/",
            "https://[::1/",
            "https://[nothing]/",
            "https://[::1]x/",
            "https://\u{fc}.example/",
            long.as_str(),
        ] {
            assert_eq!(Endpoint::parse(url), None, "{url:?}");
        }
    }
}
