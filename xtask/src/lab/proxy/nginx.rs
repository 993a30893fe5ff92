//! nginx's configuration.

use std::fmt::Write;

use super::{FRONT, Setup};
use crate::lab::scenario::Nginx;

/// One process group in the foreground; everything it writes under `folder`. JSON escapes make the log unambiguous
/// whatever the request.
pub(super) fn configuration(setup: &Setup) -> String {
    let Setup { folder, nginx, timeouts, .. } = setup;
    let folder = folder.display();
    let Nginx { workers, user, worker_connections, files, scheme, next_upstream, listen, .. } = nginx;
    let servers = servers(setup);
    let keepalive = nginx.keepalive.map(|idle| format!("keepalive {idle};")).unwrap_or_default();
    let mut location = String::new();
    for (directive, seconds) in [("proxy_connect_timeout", timeouts.connect), ("proxy_read_timeout", timeouts.read)] {
        if let Some(seconds) = seconds {
            let _ = write!(location, "\n      {directive} {:.0}ms;", seconds * 1000.0);
        }
    }
    for directive in &nginx.location {
        let _ = write!(location, "\n      {directive};");
    }
    format!(
        r#"# Written by xtask.
user {user};
daemon off;
worker_processes {workers};
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections {worker_connections}; }}
http {{
  log_format lab escape=json '{{"status":"$status","client":"$remote_addr:$remote_port","path":"$request_uri","upstream_addr":"$upstream_addr",'
    '"upstream_status":"$upstream_status","answered_by":"$upstream_http_answered_by","msec":"$msec","pid":"$pid","request_time":"$request_time"}}';
  access_log {folder}/access.log lab;
  client_body_temp_path {folder}/tmp/body;
  proxy_temp_path {folder}/tmp/proxy;
  fastcgi_temp_path {folder}/tmp/fastcgi;
  uwsgi_temp_path {folder}/tmp/uwsgi;
  scgi_temp_path {folder}/tmp/scgi;
  upstream app {{{servers} {keepalive} }}
  server {{
    listen {FRONT} backlog=4096 {listen};
    location / {{
      proxy_pass {scheme}://app;
      proxy_next_upstream {next_upstream};{location}
    }}
  }}
}}
"#
    )
}

fn servers(setup: &Setup) -> String {
    let Setup { nginx, upstream, dead, .. } = setup;
    let mut servers = String::new();
    for address in *dead {
        let _ = write!(servers, " server {address} {};", nginx.server);
    }
    if nginx.alive {
        let _ = write!(servers, " server {upstream} {};", nginx.server);
    }
    servers
}
