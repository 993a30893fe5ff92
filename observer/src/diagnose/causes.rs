//! One file per cause, with its page beside it.

pub mod accept_queue_overflow;
pub mod bad_response;
pub mod connect_timeout;
pub mod keepalive_off;
pub mod keepalive_race;
pub mod no_live_upstreams;
pub mod packet_loss;
pub mod port_exhaustion;
pub mod proxy_limits;
pub mod syn_queue_overflow;
pub mod unix_backlog_full;
pub mod unix_missing;
pub mod unix_permission;
pub mod unix_refused;
pub mod unknown;
pub mod upstream_closed_early;
pub mod upstream_refused;
pub mod upstream_reset;
pub mod upstream_timeout;
pub mod upstream_unreachable;
