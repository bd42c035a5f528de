//! Values as people write them: `3s`, `10MiB`, `""` for none. What cannot be read is said in one line.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::de::{Deserialize, Deserializer, Error};

pub fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text).map_err(|_| {
        D::Error::custom(format!(
            "{} is not a duration, write it like 200ms, 3s or 10m",
            quoted(&text)
        ))
    })
}

pub fn size<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let text = String::deserialize(from)?;
    match text.parse::<ByteSize>() {
        Ok(size) => Ok(size.as_u64()),
        Err(_) => Err(D::Error::custom(format!(
            "{} is not a size, write it like 512KiB or 10MiB",
            quoted(&text)
        ))),
    }
}

/// An address with a port; `localhost` is the one name that is known.
pub fn address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    if let Some(port) = text.strip_prefix("localhost:")
        && let Ok(port) = port.parse()
    {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    text.parse().map_err(|_| {
        D::Error::custom(format!(
            "{} is not an address with a port, write it like 127.0.0.1:8484",
            quoted(&text)
        ))
    })
}

pub fn optional_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Some(String::deserialize(from)?).filter(|text| !text.is_empty()))
}

/// So many per second; above 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(f64);

impl Rate {
    const LEAST: f64 = 0.001;
    const MOST: f64 = 1_000_000.0;

    pub fn new(per_second: f64) -> Option<Self> {
        let is_rate = (Self::LEAST..=Self::MOST).contains(&per_second);
        is_rate.then_some(Self(per_second))
    }

    /// From one to the next.
    pub fn spacing(self) -> Duration {
        Duration::from_secs_f64(1.0 / self.0)
    }
}

pub fn optional_rate<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Rate>, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() {
        return Ok(None);
    }
    let rate = text.parse().ok().and_then(Rate::new);
    rate.map(Some).ok_or_else(|| {
        D::Error::custom(format!(
            "{} is not a number per second, write it like 10 or 0.5",
            quoted(&text)
        ))
    })
}

/// A path is never told in an error: it may be a key, given where a file was meant.
pub fn optional_path<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    let text = String::deserialize(from)?;
    if text.starts_with('~') {
        return Err(D::Error::custom(
            "begins with `~`, which nothing expands here; write the whole path",
        ));
    }
    Ok(Some(PathBuf::from(text)).filter(|path| !path.as_os_str().is_empty()))
}

/// A value in a message: on one line, and not longer than a message can bear.
pub fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let shown: String = text.escape_debug().take(LONGEST).collect();
    let cut = if text.escape_debug().count() > LONGEST {
        ".."
    } else {
        ""
    };
    format!("`{shown}{cut}`")
}

/// A library's message, which may quote a value as it is.
pub fn on_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            line.extend(letter.escape_debug());
        } else {
            line.push(letter);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use serde::de::value::{Error, StrDeserializer};

    use super::*;

    fn from(text: &str) -> StrDeserializer<'_, Error> {
        StrDeserializer::new(text)
    }

    #[test]
    fn durations_are_written_for_people() {
        for (text, millis) in [("200ms", 200), ("3s", 3_000), ("1m 30s", 90_000), ("0", 0)] {
            assert_eq!(duration(from(text)), Ok(Duration::from_millis(millis)));
        }
        for text in ["", "3", "abc", "-3s", "3 parsecs"] {
            assert!(duration(from(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_has_a_port_and_may_be_localhost() {
        for (text, expected) in [
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("[::1]:80", "[::1]:80"),
            ("localhost:80", "127.0.0.1:80"),
        ] {
            assert_eq!(address(from(text)).unwrap().to_string(), expected);
        }
        for text in [
            "",
            "8484",
            ":8484",
            "127.0.0.1",
            "example.org:80",
            "localhost:x",
        ] {
            assert!(address(from(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_written_for_people() {
        for (text, bytes) in [("1MiB", 1 << 20), ("1MB", 1_000_000), ("512", 512)] {
            assert_eq!(size(from(text)), Ok(bytes));
        }
        for text in ["", "abc", "-1", "1 elephant"] {
            assert!(size(from(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_value_in_a_message_stays_on_one_short_line() {
        assert_eq!(quoted("a\nb"), "`a\\nb`");
        assert_eq!(quoted(&"x".repeat(80)), format!("`{}..`", "x".repeat(60)));
    }
}
