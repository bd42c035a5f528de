//! Asks a proxy on this machine whether it lives, as Docker does every few seconds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(3);

const REQUEST: &[u8] = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// How a good answer begins.
const ALIVE: &[u8] = b"HTTP/1.1 200";

pub fn healthcheck(listen: SocketAddr) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(health(reachable(listen)))
}

async fn health(address: SocketAddr) -> Result<()> {
    match timeout(PATIENCE, ask(address)).await {
        Ok(answer) => answer,
        Err(_) => bail!("{address} did not answer within {} s", PATIENCE.as_secs()),
    }
}

async fn ask(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("{address} cannot be reached"))?;
    stream.write_all(REQUEST).await?;
    let mut answer = [0; ALIVE.len()];
    stream.read_exact(&mut answer).await?;
    if answer != *ALIVE {
        bail!("{address} answered, and not as a living proxy does");
    }
    Ok(())
}

/// Where this machine reaches what listens at `listen`.
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_reached_on_loopback() {
        for (listen, expected) in [
            ("0.0.0.0:8484", "127.0.0.1:8484"),
            ("[::]:8484", "[::1]:8484"),
            ("192.168.1.2:8484", "192.168.1.2:8484"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), expected);
        }
    }

    async fn answered(text: &'static [u8]) -> Result<()> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; REQUEST.len()];
            stream.read_exact(&mut asked).await.unwrap();
            stream.write_all(text).await.unwrap();
        };
        let (health, ()) = tokio::join!(health(address), answer);
        health
    }

    #[tokio::test]
    async fn only_a_200_is_health() {
        assert!(answered(b"HTTP/1.1 200 OK\r\n\r\n").await.is_ok());
        assert!(
            answered(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
                .await
                .is_err()
        );
        assert!(answered(b"SSH-2.0").await.is_err());
    }
}
