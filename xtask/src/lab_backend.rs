//! `xtask lab-backend`: an HTTP backend that misbehaves as the request's path asks.
//!
//! `/sleep/SECONDS` answers late, `/fin` closes without an answer, `/rst` resets after reading the request, `/unread`
//! closes without reading it (which resets too), `/nolen` answers without a length and closes; all else is answered at
//! once on a connection that is kept.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    listen: SocketAddr,
}

/// Serves until killed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let listener = TcpListener::bind(args.listen).context("cannot listen")?;
    for stream in listener.incoming() {
        let stream = stream.context("cannot accept")?;
        thread::spawn(move || {
            // A client that has gone away is none of our business.
            let _ = serve(stream);
        });
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while let Some(path) = peek_path(&stream)? {
        if path == "/unread" {
            return Ok(());
        }
        read_head(&mut stream, &mut buffer)?;
        match path.as_str() {
            "/fin" => return Ok(()),
            "/rst" => return reset(&stream),
            "/nolen" => {
                stream.write_all(b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nok\n")?;
                return Ok(());
            }
            _ => {}
        }
        if let Some(seconds) = path.strip_prefix("/sleep/") {
            thread::sleep(Duration::try_from_secs_f64(seconds.parse()?)?);
        }
        let close = head_says_close(&buffer);
        buffer.clear();
        let connection = if close { "Connection: close\r\n" } else { "" };
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n{connection}\r\nok\n").as_bytes())?;
        if close {
            return Ok(());
        }
    }
    Ok(())
}

/// The path of the next request, which stays unread. None when the client closed.
fn peek_path(stream: &TcpStream) -> Result<Option<String>> {
    let mut bytes = [0; 256];
    let length = stream.peek(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes[..length]);
    Ok((length > 0).then(|| text.split(' ').nth(1).unwrap_or_default().to_owned()))
}

fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<()> {
    let mut chunk = [0; 4096];
    while !buffer.ends_with(b"\r\n\r\n") {
        match stream.read(&mut chunk)? {
            0 => return Err(std::io::Error::from(ErrorKind::UnexpectedEof).into()),
            length => buffer.extend_from_slice(&chunk[..length]),
        }
    }
    Ok(())
}

fn head_says_close(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    head.lines().next().is_some_and(|line| line.ends_with("http/1.0")) || head.contains("\r\nconnection: close\r\n")
}

/// Closing with a linger time of zero sends a reset instead of a FIN.
fn reset(stream: &TcpStream) -> Result<()> {
    setsockopt(stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).context("cannot set SO_LINGER")
}
