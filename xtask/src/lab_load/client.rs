//! An HTTP client just large enough to count answers.

use std::io::{BufRead, BufReader, Error, ErrorKind, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any proxy setting of the lab: the proxy gives up first, and so writes down why.
const PATIENCE: Duration = Duration::from_secs(150);

pub(super) struct Client {
    address: SocketAddr,
    keepalive: bool,
    /// Sent with each request.
    body: Option<Vec<u8>>,
    patience: Duration,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    pub(super) fn new(address: SocketAddr, keepalive: bool, body: Option<usize>, patience: Option<Duration>) -> Self {
        let body = body.map(|bytes| vec![b'x'; bytes]);
        Self { address, keepalive, body, patience: patience.unwrap_or(PATIENCE), connection: None }
    }

    /// The status, or `client: ` and what went wrong. Leaving early has the status that nginx gives it.
    pub(super) fn ask(&mut self, path: &str) -> String {
        let reused = self.connection.is_some();
        let mut answer = self.exchange(path);
        // The server may close an idle connection at any moment: to be tried again on a new one.
        if reused && self.body.is_none() && answer.as_ref().is_err_and(is_closed) {
            answer = self.exchange(path);
        }
        answer.unwrap_or_else(|error| {
            self.connection = None;
            match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => "499".to_owned(),
                kind => format!("client: {kind}"),
            }
        })
    }

    fn exchange(&mut self, path: &str) -> Result<String> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        connection.get_mut().write_all(self.head(path).as_bytes())?;
        if let Some(body) = &self.body {
            connection.get_mut().write_all(body)?;
        }
        let head = read_head(&mut connection)?;
        let reusable = read_body(&mut connection, &head)?;
        if self.keepalive && reusable {
            self.connection = Some(connection);
        }
        let status = head.split(' ').nth(1).ok_or(ErrorKind::InvalidData)?;
        Ok(status.to_owned())
    }

    fn head(&self, path: &str) -> String {
        let keep = if self.keepalive { "keep-alive" } else { "close" };
        let (method, length) = match &self.body {
            Some(body) => ("POST", format!("Content-Length: {}\r\n", body.len())),
            None => ("GET", String::new()),
        };
        format!("{method} {path} HTTP/1.1\r\nHost: lab\r\nConnection: {keep}\r\n{length}\r\n")
    }

    fn connect(&self) -> Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect_timeout(&self.address, self.patience)?;
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_nodelay(true)?;
        Ok(BufReader::new(stream))
    }
}

fn is_closed(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// Status line and headers, in lower case.
fn read_head(connection: &mut impl BufRead) -> Result<String> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if connection.read_line(&mut head)? == 0 {
            return Err(Error::from(ErrorKind::UnexpectedEof));
        }
        if head[before..] == *"\r\n" {
            head.make_ascii_lowercase();
            return Ok(head);
        }
    }
}

/// Reads to the end of the body; true when the connection can take another request.
fn read_body(connection: &mut impl BufRead, head: &str) -> Result<bool> {
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let closing = header("connection") == Some("close");
    if let Some(length) = header("content-length") {
        let length = length.parse().map_err(|_| ErrorKind::InvalidData)?;
        let mut body = vec![0; length];
        connection.read_exact(&mut body)?;
        return Ok(!closing);
    }
    if header("transfer-encoding") == Some("chunked") {
        while read_chunk(connection)? > 0 {}
        return Ok(!closing);
    }
    connection.read_to_end(&mut Vec::new())?;
    Ok(false)
}

/// The length of the chunk that was read; zero is the last.
fn read_chunk(connection: &mut impl BufRead) -> Result<usize> {
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let length = usize::from_str_radix(line.trim(), 16).map_err(|_| ErrorKind::InvalidData)?;
    connection.read_exact(&mut vec![0; length + 2])?;
    Ok(length)
}
