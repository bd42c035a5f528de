//! HTTP/1.1 as a load generator needs it: one request, one answer, on a connection that is kept, with
//! as little work of its own as can be.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// A connection to a server.
pub struct Connection {
    stream: TcpStream,
    bytes: Vec<u8>,
}

/// An answer, as far as it is looked at.
#[derive(Debug)]
pub struct Answer<'a> {
    pub status: u16,
    head: &'a str,
    body: &'a [u8],
}

enum Length {
    Known(usize),
    Chunked,
    UntilClosed,
}

impl Connection {
    /// From one of the addresses 127.0.0.2, 127.0.0.3, ..., or from 127.0.0.1 for 0.
    pub async fn open(to: SocketAddr, source: u8) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if source > 0 {
            let from = Ipv4Addr::new(127, 0, 0, 1 + source);
            socket.bind(SocketAddr::new(IpAddr::V4(from), 0))?;
        }
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            bytes: Vec::with_capacity(1024),
        })
    }

    pub async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request).await
    }

    /// Reads one whole answer.
    pub async fn answer(&mut self) -> io::Result<Answer<'_>> {
        self.bytes.clear();
        let head = loop {
            self.more().await?;
            if let Some(end) = find(&self.bytes, b"\r\n\r\n") {
                break end + 4;
            }
        };
        let (status, length) = read_head(&self.bytes[..head])?;
        match length {
            Length::Known(length) => {
                while self.bytes.len() < head + length {
                    self.more().await?;
                }
            }
            Length::Chunked => {
                while !self.bytes.ends_with(b"\r\n0\r\n\r\n") {
                    self.more().await?;
                }
            }
            Length::UntilClosed => while self.more().await.is_ok() {},
        }
        let (head, body) = self.bytes.split_at(head);
        let head = str::from_utf8(head).map_err(io::Error::other)?;
        Ok(Answer { status, head, body })
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.bytes).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

impl Answer<'_> {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(self.head, name)
    }

    /// The text of the answer.
    pub fn content(&self) -> String {
        content(&String::from_utf8_lossy(self.body))
    }

    /// The value of a field that is text, the first of its name.
    pub fn text(&self, field: &str) -> Option<&str> {
        let text = str::from_utf8(self.body).ok()?;
        let at = text.find(field)?;
        let string = text[at + field.len()..].trim_start_matches(['"', ':', ' ']);
        Some(&string[..end_of_string(string)])
    }

    pub fn body(&self) -> &[u8] {
        self.body
    }

    /// Whether it came to its proper end.
    pub fn is_whole(&self) -> bool {
        let is_stream = self
            .header("content-type")
            .is_some_and(|kind| kind.contains("event-stream"));
        self.status == 200 && (!is_stream || find(self.body, b"[DONE]").is_some())
    }
}

/// The text of an answer, as JSON has it, without its quotes. Of a stream, that of its deltas.
pub fn content(body: &str) -> String {
    const FIELD: &str = "\"content\":";
    let mut content = String::new();
    let mut rest = body;
    while let Some(at) = rest.find(FIELD) {
        rest = rest[at + FIELD.len()..].trim_start();
        let Some(string) = rest.strip_prefix('"') else {
            continue;
        };
        let end = end_of_string(string);
        content.push_str(&string[..end]);
        rest = &string[end..];
    }
    content
}

fn end_of_string(string: &str) -> usize {
    let mut is_escaped = false;
    let end = string.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    });
    end.unwrap_or(string.len())
}

fn read_head(head: &[u8]) -> io::Result<(u16, Length)> {
    let head = str::from_utf8(head).map_err(io::Error::other)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or(io::ErrorKind::InvalidData)?;
    let length = match header(head, "content-length").and_then(|length| length.parse().ok()) {
        Some(length) => Length::Known(length),
        None if header(head, "transfer-encoding").is_some() => Length::Chunked,
        None => Length::UntilClosed,
    };
    Ok((status, length))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_answer_is_found_as_json_has_it() {
        let answer = Answer {
            status: 200,
            head: "HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n",
            body: br#"{"choices": [{"message": {"role": "assistant", "content": "a \"b\" \\"}}]}"#,
        };

        assert_eq!(answer.content(), r#"a \"b\" \\"#);
        assert_eq!(answer.header("x-a"), Some("b"));
        assert_eq!(answer.text("role"), Some("assistant"));
    }
}
