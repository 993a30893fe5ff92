//! Which processes are reverse proxies.

/// `comm` names of the proxies that are recognised unless `--comm` says otherwise.
pub const KNOWN: [&str; 8] = ["nginx", "openresty", "haproxy", "apache2", "httpd", "caddy", "envoy", "traefik"];
