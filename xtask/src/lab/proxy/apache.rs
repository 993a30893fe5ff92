//! Apache httpd with mod_proxy_http.

use super::{FRONT, Setup};

/// Where Debian has its modules.
const MODULES: &str = "/usr/lib/apache2/modules";

/// The log has no name for the upstream, but there is only one.
pub(super) fn configuration(setup: &Setup) -> String {
    let folder = setup.folder.display();
    let upstream = setup.upstream;
    let connect = (setup.timeouts.connect.unwrap_or(60.0) * 1000.0).round();
    // Whole seconds only, unlike the other.
    let read = setup.timeouts.read.unwrap_or(60.0).ceil();
    format!(
        r#"# Written by xtask.
LoadModule mpm_event_module {MODULES}/mod_mpm_event.so
LoadModule authz_core_module {MODULES}/mod_authz_core.so
LoadModule proxy_module {MODULES}/mod_proxy.so
LoadModule proxy_http_module {MODULES}/mod_proxy_http.so
ServerName lab
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/apache.pid
User nobody
Group nogroup
ErrorLog {folder}/error.log
LogFormat "{{\"status\":\"%>s\",\"client\":\"%a:%{{remote}}p\",\"path\":\"%U\",\"upstream_addr\":\"{upstream}\",\"answered_by\":\"%{{Answered-By}}o\",\"msec\":\"%{{end:sec}}t.%{{end:msec_frac}}t\",\"pid\":\"%{{pid}}P\"}}" lab
CustomLog {folder}/access.log lab
Listen {FRONT}
ListenBacklog 4096
ProxyPass / http://{upstream}/ connectiontimeout={connect}ms timeout={read} retry=0 disablereuse=on
"#
    )
}
