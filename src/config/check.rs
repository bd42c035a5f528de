//! What each setting allows beyond its kind: ranges, what fits together, addresses that are safe.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use http::{HeaderName, Uri};
use tracing_subscriber::filter::{LevelFilter, Targets};

use super::values::quoted;
use super::{Config, Conversations, Server};

/// A key whose value is not allowed, and what is.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    pub key: &'static str,
    pub what: String,
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
/// The longest of all: clocks can add it without overflowing.
const YEAR: Duration = Duration::from_secs(31_557_600);
const INSTANT: Duration = Duration::from_millis(1);

/// Everything that is checked, in the order of the file.
pub fn check(config: &Config) -> Result<(), Fault> {
    durations(config)?;
    sizes(config)?;
    counts(config)?;
    fits(config)?;
    server(&config.server)?;
    origin(&config.upstream.url).map_err(|what| fault("upstream.url", what))?;
    if let Some(proxy) = &config.upstream.proxy {
        plain_url(proxy).map_err(|what| fault("upstream.proxy", what))?;
    }
    if config.models.aliases.is_empty() {
        return Err(fault("models.aliases", "name at least one model"));
    }
    for alias in &config.models.aliases {
        if alias.is_empty() || alias.len() > 256 || alias.chars().any(char::is_control) {
            let what = format!("{} is no name of 1 to 256 bytes", quoted(alias));
            return Err(fault("models.aliases", what));
        }
    }
    headers(&config.conversations)?;
    filter(&config.log.filter).map_err(|what| fault("log.filter", what))
}

fn fault(key: &'static str, what: impl Into<String>) -> Fault {
    let what = what.into();
    Fault { key, what }
}

fn durations(config: &Config) -> Result<(), Fault> {
    let (server, upstream, run) = (&config.server, &config.upstream, &config.run);
    for (key, value) in [
        ("server.head_timeout", server.head_timeout),
        ("server.idle_timeout", server.idle_timeout),
        ("server.body_timeout", server.body_timeout),
        ("server.write_timeout", server.write_timeout),
        ("upstream.connect_timeout", upstream.connect_timeout),
        ("upstream.post_timeout", upstream.post_timeout),
        ("upstream.read_timeout", upstream.read_timeout),
        ("upstream.queue_timeout", upstream.queue_timeout),
        ("conversations.max_age", config.conversations.max_age),
        ("run.deadline", run.deadline),
        ("run.limit", run.limit),
        ("run.keep_answers", run.keep_answers),
        ("pace.interval", config.pace.interval),
        ("pace.min_gap", config.pace.min_gap),
    ] {
        within(key, value, INSTANT..=YEAR, time)?;
    }
    let stream = &config.stream;
    within(
        "server.drain_timeout",
        server.drain_timeout,
        Duration::ZERO..=HOUR,
        time,
    )?;
    within(
        "stream.keep_alive_every",
        stream.keep_alive_every,
        SECOND..=10 * SECOND,
        time,
    )?;
    within(
        "stream.begin_within",
        stream.begin_within,
        INSTANT..=MINUTE,
        time,
    )
}

fn sizes(config: &Config) -> Result<(), Fault> {
    let size = bytesize::ByteSize;
    within("server.max_body", config.server.max_body, KIB..=GIB, size)?;
    // hyper reads heads of up to 408 KiB; beyond, it answers with a bare status.
    within(
        "server.max_head",
        config.server.max_head,
        KIB..=384 * KIB,
        size,
    )?;
    within(
        "upstream.max_body",
        config.upstream.max_body,
        KIB..=GIB,
        size,
    )?;
    within(
        "conversations.transcript",
        config.conversations.transcript,
        KIB..=MIB,
        size,
    )
}

fn counts(config: &Config) -> Result<(), Fault> {
    let count = std::convert::identity::<usize>;
    let (server, run) = (&config.server, &config.run);
    within(
        "server.max_connections",
        server.max_connections,
        1..=1_000_000,
        count,
    )?;
    // hyper takes 100.
    within("server.max_headers", server.max_headers, 8..=99, count)?;
    within(
        "upstream.max_connections",
        config.upstream.max_connections,
        1..=10_000,
        count,
    )?;
    within(
        "conversations.max",
        config.conversations.max,
        1..=10_000_000,
        count,
    )?;
    let small = std::convert::identity::<u32>;
    within("run.queue", run.queue, 0..=1_000, small)?;
    within(
        "structured.repairs",
        config.structured.repairs,
        0..=3,
        small,
    )?;
    for (key, value) in [
        ("server.max_waiting", server.max_waiting),
        ("server.max_waiting_per_key", server.max_waiting_per_key),
        ("run.max_active", run.max_active),
        ("run.max_active_per_key", run.max_active_per_key),
    ] {
        within(key, value, 1..=1_000_000, count)?;
    }
    within("run.max_answers", run.max_answers, 1..=10_000_000, count)
}

fn within<T: PartialOrd + Copy, S: std::fmt::Display>(
    key: &'static str,
    value: T,
    range: RangeInclusive<T>,
    shown: impl Fn(T) -> S,
) -> Result<(), Fault> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = (shown(*range.start()), shown(*range.end()));
    let value = shown(value);
    Err(fault(
        key,
        format!("{value} is not within {least} and {most}"),
    ))
}

/// Settings that only make sense together.
fn fits(config: &Config) -> Result<(), Fault> {
    for (key, value, other, bound) in [
        (
            "pace.interval",
            config.pace.interval,
            "pace.min_gap",
            config.pace.min_gap,
        ),
        (
            "run.limit",
            config.run.limit,
            "run.deadline",
            config.run.deadline,
        ),
    ] {
        if value < bound {
            let (value, bound) = (time(value), time(bound));
            return Err(fault(
                key,
                format!("{value} is shorter than {other}, {bound}; lower that too"),
            ));
        }
    }
    Ok(())
}

fn time(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(duration)
}

fn server(server: &Server) -> Result<(), Fault> {
    for host in &server.allowed_hosts {
        let is_name = host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        let is_address = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<Ipv6Addr>()
            .is_ok();
        if host.is_empty() || !(is_name || is_address) {
            let what = format!(
                "{} is not a host name; write it without scheme and port",
                quoted(host)
            );
            return Err(fault("server.allowed_hosts", what));
        }
    }
    for origin in &server.allowed_origins {
        if plain_url(origin).is_err() || origin.ends_with('/') {
            let what = format!(
                "{} is not an origin, write it as browsers send it: https://chat.example",
                quoted(origin)
            );
            return Err(fault("server.allowed_origins", what));
        }
    }
    Ok(())
}

/// The upstream's origin: never told in an error, since people have put keys into URLs.
fn origin(url: &str) -> Result<(), String> {
    let uri = plain_url(url)?;
    let secure = uri.scheme_str() == Some("https");
    if secure || uri.host().is_some_and(is_loopback) {
        Ok(())
    } else {
        Err(
            "must begin with https://, since a key goes there; http:// is for this machine alone"
                .to_owned(),
        )
    }
}

/// A URL of scheme, host and port alone.
fn plain_url(url: &str) -> Result<Uri, String> {
    let uri: Uri = url
        .parse()
        .map_err(|_| "is not a URL, write it like https://host or http://127.0.0.1:8485")?;
    let scheme = uri.scheme_str().unwrap_or_default();
    let authority = uri.authority().map_or("", http::uri::Authority::as_str);
    if !["http", "https"].contains(&scheme) {
        Err("must begin with https:// or http://".to_owned())
    } else if authority.contains('@') {
        Err("must not hold a user name or password".to_owned())
    } else if !["", "/"].contains(&uri.path()) || url.contains(['?', '#']) {
        Err("must end after host and port: no path, no query".to_owned())
    } else if authority.is_empty() || uri.host().is_none_or(str::is_empty) {
        Err("names no host".to_owned())
    } else {
        Ok(uri)
    }
}

/// Whether a URL's host is this machine, by its spelling alone.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn headers(conversations: &Conversations) -> Result<(), Fault> {
    for (key, names) in [
        (
            "conversations.narrow_headers",
            &conversations.narrow_headers,
        ),
        ("conversations.user_headers", &conversations.user_headers),
        (
            "conversations.side_call_headers",
            &conversations.side_call_headers,
        ),
    ] {
        for name in names {
            match name.parse::<HeaderName>() {
                Err(_) => {
                    return Err(fault(key, format!("{} is not a header name", quoted(name))));
                }
                Ok(header) if header == http::header::AUTHORIZATION => {
                    return Err(fault(
                        key,
                        "Authorization holds a key, and names no conversation",
                    ));
                }
                Ok(_) => {}
            }
        }
    }
    Ok(())
}

/// Which lines are wanted of which modules. `None` where the text is no filter.
pub fn targets(text: &str) -> Option<Targets> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    parts.join(",").parse().ok()
}

/// A bare word is a module to the filter, so a misspelt level would switch everything off.
fn filter(text: &str) -> Result<(), String> {
    let misspelt = text.split(',').map(str::trim).find(|part| {
        let is_word = part.chars().all(|letter| letter.is_ascii_alphanumeric());
        is_word && (part.is_empty() || part.parse::<LevelFilter>().is_err())
    });
    if misspelt.is_some() || targets(text).is_none() {
        return Err(format!(
            "{} is not a filter; levels are off, error, warn, info, debug and trace, as in \
             info,chaturdata_proxy::run=debug",
            quoted(misspelt.unwrap_or(text))
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_allowed() {
        assert_eq!(check(&Config::default()), Ok(()));
    }

    #[test]
    fn an_upstream_is_an_origin_and_nothing_more() {
        for (url, allowed) in [
            ("https://www.chaturdata.com", true),
            ("https://www.chaturdata.com/", true),
            ("https://www.chaturdata.com:8443", true),
            ("http://127.0.0.1:8485", true),
            ("http://localhost:8485", true),
            ("http://[::1]:8485", true),
            ("http://www.chaturdata.com", false),
            ("http://localhost.evil.test", false),
            ("http://127.0.0.1.evil.test", false),
            ("https://user:pass@www.chaturdata.com", false),
            ("https://www.chaturdata.com/api", false),
            ("https://www.chaturdata.com?x=1", false),
            ("https://www.chaturdata.com#x", false),
            ("ftp://www.chaturdata.com", false),
            ("www.chaturdata.com", false),
            ("https://", false),
            ("https://:443", false),
            ("", false),
        ] {
            assert_eq!(origin(url).is_ok(), allowed, "{url}");
        }
    }

    #[test]
    fn a_misspelt_level_is_not_a_filter() {
        for (text, allowed) in [
            ("info", true),
            ("off", true),
            ("warn,chaturdata_proxy::run=trace", true),
            ("warn, chaturdata_proxy = trace", false),
            ("warn, chaturdata_proxy=trace", true),
            ("verbose", false),
            ("info,debugg", false),
            ("", false),
            ("info,chaturdata_proxy=loud", false),
        ] {
            assert_eq!(filter(text).is_ok(), allowed, "{text}");
        }
    }
}
