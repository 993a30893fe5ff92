//! The proxy's configuration.

use std::fmt::Write;
use std::net::SocketAddrV4;
use std::path::Path;

use super::scenario::Nginx;

/// Where clients reach it, within its namespace.
pub(crate) const FRONT: &str = "127.0.0.1:8080";
pub(super) const FRONT_PORT: u16 = 8080;

/// One process group in the foreground; everything it writes under `folder`. `proxy_next_upstream off`, since a second
/// try would blur which failure the answer tells of. JSON escapes make the log unambiguous whatever the request.
pub(super) fn configuration(nginx: &Nginx, folder: &Path, upstream: SocketAddrV4) -> String {
    let folder = folder.display();
    let workers = nginx.workers;
    let keepalive = nginx.keepalive.map(|idle| format!("keepalive {idle};")).unwrap_or_default();
    let mut location = String::new();
    for directive in &nginx.location {
        let _ = write!(location, "\n      {directive};");
    }
    format!(
        r#"# Written by xtask.
user root;
daemon off;
worker_processes {workers};
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 16384; }}
http {{
  log_format lab escape=json '{{"status":"$status","upstream_addr":"$upstream_addr","upstream_status":"$upstream_status",'
    '"msec":"$msec","pid":"$pid","request_time":"$request_time","request":"$request"}}';
  access_log {folder}/access.log lab;
  client_body_temp_path {folder}/tmp/body;
  proxy_temp_path {folder}/tmp/proxy;
  fastcgi_temp_path {folder}/tmp/fastcgi;
  uwsgi_temp_path {folder}/tmp/uwsgi;
  scgi_temp_path {folder}/tmp/scgi;
  upstream app {{ server {upstream}; {keepalive} }}
  server {{
    listen {FRONT} backlog=4096;
    location / {{
      proxy_pass http://app;
      proxy_next_upstream off;{location}
    }}
  }}
}}
"#
    )
}
