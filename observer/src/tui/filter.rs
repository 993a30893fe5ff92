//! What the user has typed to see less: words that must all fit.
//!
//! ```text
//! port:8000 cause:accept gunicorn
//! ```

/// A filter as typed, understood. An empty one lets everything through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Cause(String),
    Kind(String),
    Addr(String),
    Port(Option<u16>),
    Pid(Option<u32>),
    Anything(String),
}

/// What there is to type before the colon, and what it means.
pub(crate) const FIELDS: [(&str, &str); 5] = [
    ("cause:", "part of a cause's name"),
    ("port:", "a port, of either end"),
    ("pid:", "a process"),
    ("addr:", "the beginning of an address, of either end"),
    ("kind:", "part of the name of a kind of event, or `verdict`"),
];

/// What can be asked of something that is filtered. Parts of text come in lower case.
pub(crate) trait Filtered {
    /// Whether such a cause has to do with it.
    fn has_cause(&self, part: &str) -> bool;
    /// Whether its kind is called so.
    fn has_kind(&self, part: &str) -> bool;
    /// Whether an address begins so.
    fn has_addr(&self, beginning: &str) -> bool;
    /// Whether it has to do with that port.
    fn has_port(&self, port: u16) -> bool;
    /// Whether it has to do with that process.
    fn has_pid(&self, pid: u32) -> bool;
    /// Whether its line has that in it.
    fn has_text(&self, part: &str) -> bool;
}

impl Filter {
    /// As typed. What is not a number lets nothing through where one is asked for.
    pub(crate) fn new(typed: &str) -> Self {
        let terms = typed.split_whitespace().map(|word| {
            let word = word.to_lowercase();
            match word.split_once(':') {
                Some(("cause", part)) => Term::Cause(part.to_owned()),
                Some(("kind", part)) => Term::Kind(part.to_owned()),
                Some(("addr", part)) => Term::Addr(part.to_owned()),
                Some(("port" | "pid", "")) => Term::Anything(String::new()),
                Some(("port", number)) => Term::Port(number.parse().ok()),
                Some(("pid", number)) => Term::Pid(number.parse().ok()),
                _ => Term::Anything(word),
            }
        });
        Self(terms.collect())
    }

    /// Whether it lets that through.
    pub(crate) fn passes(&self, it: &impl Filtered) -> bool {
        self.0.iter().all(|term| match term {
            Term::Cause(part) => it.has_cause(part),
            Term::Kind(part) => it.has_kind(part),
            Term::Addr(beginning) => it.has_addr(beginning),
            Term::Port(port) => port.is_some_and(|port| it.has_port(port)),
            Term::Pid(pid) => pid.is_some_and(|pid| it.has_pid(pid)),
            Term::Anything(part) => part.is_empty() || it.has_text(part),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing;

    impl Filtered for Thing {
        fn has_cause(&self, part: &str) -> bool {
            "accept-queue-overflow".contains(part)
        }
        fn has_kind(&self, part: &str) -> bool {
            "verdict".contains(part)
        }
        fn has_addr(&self, beginning: &str) -> bool {
            "10.0.0.2".starts_with(beginning)
        }
        fn has_port(&self, port: u16) -> bool {
            port == 8000
        }
        fn has_pid(&self, pid: u32) -> bool {
            pid == 42
        }
        fn has_text(&self, part: &str) -> bool {
            "nginx".contains(part)
        }
    }

    #[test]
    fn all_words_must_fit() {
        let passes = |typed| Filter::new(typed).passes(&Thing);
        for typed in ["", "  ", "NGI", "cause:accept", "port:8000 pid:42", "addr:10.0 kind:verd nginx", "port:", "pid:"]
        {
            assert!(passes(typed), "{typed}");
        }
        for typed in ["apache", "cause:refused", "port:800", "port:x", "pid:4", "addr:0.0.2", "nginx pid:1", "x:y"] {
            assert!(!passes(typed), "{typed}");
        }
    }
}
