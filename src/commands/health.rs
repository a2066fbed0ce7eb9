//! `gaugefn health`: asks the admin endpoint of the process that runs on this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Context, say};
use crate::args::ConfigArgs;

/// An answer that takes longer is none; container runtimes wait 30 s by default.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn health(context: &Context, args: &ConfigArgs, ready: bool) -> u8 {
    // whoever asks knows two answers, and why it is this one was said
    let Ok((_, settings)) = context.configured(args) else { return 1 };
    let Some(listen) = settings.admin.listen else {
        say("no admin endpoint is configured; set admin.listen, or GAUGEFN__ADMIN__LISTEN=127.0.0.1:9464");
        return 1;
    };
    let address = local(listen);
    let path = if ready { "/readyz" } else { "/healthz" };
    match tokio::time::timeout(PATIENCE, ask(address, path)).await {
        Ok(Ok((200, body))) => {
            context.print(&format!("{}\n", body.trim_end()));
            0
        }
        Ok(Ok((status, body))) => {
            say(&format!("http://{address}{path} answers {status}: {}", body.trim_end()));
            1
        }
        Ok(Err(error)) => {
            say(&format!(
                "http://{address}{path} cannot be reached: {error}; is gaugefn running with admin.listen = '{listen}'?"
            ));
            1
        }
        Err(_) => {
            say(&format!("http://{address}{path} does not answer within {} s", PATIENCE.as_secs()));
            1
        }
    }
}

/// An address that can be connected to for one that is listened on.
fn local(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// A GET of our own server: the status and the body.
async fn ask(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other("the answer is no HTTP"))?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((status, body))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_every_interface_is_asked_on_the_loopback_one() {
        for (listen, asked) in [
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:9464", "[::1]:9464"),
            ("10.0.0.7:9464", "10.0.0.7:9464"),
            ("[fd00::1]:9464", "[fd00::1]:9464"),
        ] {
            assert_eq!(local(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
