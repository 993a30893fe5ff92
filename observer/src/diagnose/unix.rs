//! What the causes of failed connects to unix sockets share: one errno each, returned by connect() itself.

use super::{
    evidence::Evidence,
    rule::{Case, Finding, Judgement},
    verdict::Confidence,
};
use crate::{
    addr::{NetNs, UnixPath},
    model::{Ending, Listener},
};

/// A connect() to a unix socket that failed with a certain errno.
pub(super) struct Failed<'a> {
    pub(super) path: UnixPath,
    pub(super) error: u16,
    /// The socket that listens at that path, as last sampled.
    pub(super) listener: Option<(NetNs, &'a Listener)>,
}

impl<'a> Failed<'a> {
    /// The case, if it is one of these errors at a unix socket.
    pub(super) fn with(case: &Case<'a>, errors: &[u16]) -> Option<Self> {
        let path = case.attempt.upstream.path?;
        match case.attempt.ending {
            Ending::ConnectError(error) if errors.contains(&error) => {
                Some(Self { path, error, listener: case.model.unix_listener(&path, case.attempt.time) })
            }
            _ => None,
        }
    }

    /// What all of them rest on.
    pub(super) fn evidence(&self) -> Evidence {
        let listener = self.listener.map(|(_, listener)| listener);
        let process = listener.and_then(|it| it.process.as_ref());
        Evidence::default()
            .with("errno", u32::from(self.error))
            .with("path", self.path.as_str())
            .maybe("queue_depth", listener.map(|it| it.depth))
            .maybe("queue_limit", listener.map(|it| it.limit))
            .maybe("listener_comm", process.map(|process| process.comm))
            .maybe("listener_pid", process.map(|process| process.pid))
            .maybe("listener_processes", listener.map(|it| it.holders).filter(|holders| *holders > 0))
    }

    /// A name in the abstract space, which no file stands for.
    pub(super) fn is_abstract(&self) -> bool {
        self.path.as_str().starts_with('@')
    }
}

/// connect() itself said it, so it is certain; nginx answers 502.
pub(super) fn found(
    because: Option<&'static str>,
    summary: String,
    evidence: Evidence,
    advice: Vec<String>,
) -> Judgement {
    Judgement::Found(Finding {
        confidence: Confidence::Certain,
        status: Some(502),
        because,
        also: Vec::new(),
        summary,
        evidence,
        advice,
    })
}

#[cfg(test)]
pub(super) mod testing {
    use crate::{
        addr::{NetNs, UnixPath},
        diagnose::{Verdict, engine::judge},
        event::{Body, ConnectFailed, Destination, Event, Process, UnixListenerSample},
        model::Model,
        testing::event,
    };

    pub(in crate::diagnose) const PATH: &str = "/run/app.sock";

    /// The socket at [`PATH`], held by gunicorn, at that time.
    pub(in crate::diagnose) fn listening(ms: u64, depth: u32, limit: u32) -> Event {
        let process = Some(Process { pid: 12, comm: "gunicorn".into() });
        let path = UnixPath::new(PATH);
        let sample = UnixListenerSample { path, netns: NetNs(8), depth, limit, process, holders: 9 };
        event(ms, Body::UnixListenerSample(Box::new(sample)))
    }

    /// The verdict on a connect() that failed at 2000 ms, after these events.
    pub(in crate::diagnose) fn failed(before: impl IntoIterator<Item = Event>, to: &str, error: u16) -> Verdict {
        let mut model = Model::default();
        for event in before {
            assert_eq!(model.apply(&event), None);
        }
        let proxy = Process { pid: 42, comm: "nginx".into() };
        let failed =
            ConnectFailed { proxy, to: Destination::Unix(to.into()), error, began: false, answers_visible: false };
        let attempt = model.apply(&event(2_000, Body::ConnectFailed(Box::new(failed)))).unwrap();
        judge(&attempt, &model)
    }
}
