//! `xtask lab-backend`: an HTTP backend that misbehaves as the request's path asks.
//!
//! All is answered at once on a connection that is kept, except:
//!
//! | path             | what it does                                                  |
//! | ---------------- | ------------------------------------------------------------- |
//! | `/sleep/SECONDS` | answers late                                                  |
//! | `/fin`           | closes without an answer                                      |
//! | `/rst`           | resets after reading the request                              |
//! | `/unread`        | closes without reading the request, which resets too          |
//! | `/nolen`         | answers without a length and closes                           |
//! | `/parthdr`       | closes in the middle of a header                              |
//! | `/badhdr`        | answers with a NUL in a header                                |
//! | `/bighdr`        | answers with a header that is larger than proxies take        |
//! | `/okrst`         | answers in full, and resets when idle or closed on            |
//! | `/502`, `/504`   | answers so, in the application's own name                     |

mod connection;
pub(crate) mod listener;

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use self::connection::Connection;

/// What a busy application asks for.
const BACKLOG: i32 = 4096;
/// Proxies take 4 to 64 KiB.
const BIG: usize = 512 * 1024;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// ADDRESS:PORT or unix:PATH
    #[arg(long)]
    listen: String,
    #[arg(long, default_value_t = BACKLOG)]
    backlog: i32,
    /// Seconds after which an idle connection is closed
    #[arg(long)]
    idle: Option<f64>,
}

/// Serves until killed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let idle = args.idle.map(Duration::try_from_secs_f64).transpose().context("not a time")?;
    let listener = listener::open(&args.listen, args.backlog)?;
    loop {
        let mut connection = Connection::new(listener::accept(&listener)?, idle)?;
        thread::spawn(move || {
            // A client that has gone away is none of our business.
            let _ = serve(&mut connection);
        });
    }
}

fn serve(connection: &mut Connection) -> Result<()> {
    while let Some(path) = connection.peek_path()? {
        if path == "/unread" {
            return Ok(());
        }
        let Some(request) = connection.read_request()? else {
            return connection.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        };
        match path.as_str() {
            "/fin" => return Ok(()),
            "/rst" => return connection.reset(),
            "/nolen" => return connection.write("HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nok\n"),
            "/parthdr" => return connection.write("HTTP/1.1 200 OK\r\nContent-Len"),
            "/badhdr" => return connection.write("HTTP/1.1 200 OK\r\nbad\0header: 1\r\nContent-Length: 0\r\n\r\n"),
            "/bighdr" => {
                let value = "x".repeat(BIG);
                return connection.write(&format!("HTTP/1.1 200 OK\r\nbig: {value}\r\nContent-Length: 0\r\n\r\n"));
            }
            _ => {}
        }
        if let Some(seconds) = path.strip_prefix("/sleep/") {
            thread::sleep(Duration::try_from_secs_f64(seconds.parse()?)?);
        }
        let status = match path.as_str() {
            "/502" => "502 Bad Gateway",
            "/504" => "504 Gateway Timeout",
            _ => "200 OK",
        };
        let close = if request.close { "Connection: close\r\n" } else { "" };
        connection
            .write(&format!("HTTP/1.1 {status}\r\nContent-Length: 3\r\nAnswered-By: application\r\n{close}\r\nok\n"))?;
        if path == "/okrst" {
            connection.reset()?;
        }
        if request.close {
            return Ok(());
        }
    }
    Ok(())
}
