//! The column `detail`: what a kind has to say besides, as JSON. Keys that are not known are passed over, keys that are
//! missing read as nothing: both are what another version of observer may write.

use serde::{Deserialize, Serialize};

use crate::{
    event::{Application, Death, MAX_WITHIN, Process, Request, Software},
    untrusted::at_most,
};

/// What connections, answers, resets and signals seldom have to say.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Seldom {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) soft_error: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) death: Option<Death>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) told_before_ns: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) number: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<Process>,
}

impl Seldom {
    pub(super) fn is_empty(&self) -> bool {
        let Self { soft_error, death, told_before_ns, number, from } = self;
        soft_error.is_none() && death.is_none() && told_before_ns.is_none() && number.is_none() && from.is_none()
    }
}

/// Of a listener, and of one on a unix socket (`holders` alone).
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Held {
    pub(super) holders: u32,
    #[serde(skip_serializing_if = "zero")]
    pub(super) stopped: u32,
    #[serde(skip_serializing_if = "zero")]
    pub(super) runnable: u32,
    #[serde(skip_serializing_if = "zero")]
    pub(super) accepted_open: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) arrivals: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes what it serialises by reference")]
fn zero(number: &u32) -> bool {
    *number == 0
}

/// Of a proxy's process.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Files {
    pub(super) open_files: u64,
    pub(super) open_files_limit: u64,
}

/// Of an upstream's answers.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Within {
    #[serde(deserialize_with = "at_most::<MAX_WITHIN, _, _, _>")]
    pub(super) within: Vec<(u64, u32)>,
    pub(super) unmeasured: u64,
}

/// Of a log line.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Written {
    pub(super) said: String,
    pub(super) after_ns: i64,
    pub(super) connection: u64,
    pub(super) request: Request,
}

/// Of an application server.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Serving {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) software: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) workers: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) threads: Option<u32>,
    pub(super) event_loop: bool,
}

impl Serving {
    pub(super) fn of(application: Option<Application>) -> Self {
        application.map_or_else(Self::default, |Application { software, workers, threads, event_loop }| Self {
            software: Some(software.name().to_owned()),
            workers,
            threads,
            event_loop,
        })
    }

    /// Nothing of a server that only a newer observer knows.
    pub(super) fn application(self) -> Option<Application> {
        let Self { software, workers, threads, event_loop } = self;
        let some = |count: &u32| *count > 0;
        let software = Software::named(&software?)?;
        Some(Application { software, workers: workers.filter(some), threads: threads.filter(some), event_loop })
    }
}

/// Of a verdict.
#[derive(Serialize)]
pub(super) struct Also<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) also: &'a [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request: Option<&'a Request>,
}

/// Of a warning.
#[derive(Serialize)]
pub(super) struct Warned<'a> {
    pub(super) subject: &'a str,
    pub(super) summary: &'a str,
}
