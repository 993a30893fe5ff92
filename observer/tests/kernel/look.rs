//! The light look and the close one.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use aya::maps::{MapData, RingBuf};
use observer::{
    event::{Body, ConnectionEnded},
    kernel::{Kernel, decode::Decoder},
};

use crate::common::{PATIENCE, eventually, in_netns, nobody_starts, only};

/// Attached programs, and what they tell.
struct Watched {
    kernel: Kernel,
    ring: RingBuf<MapData>,
    decoder: Decoder,
}

impl Watched {
    fn start(comm: &str, port: u16) -> Self {
        let mut kernel = Kernel::attach(&only(comm, port)).unwrap();
        let (ring, decoder) = (kernel.take_ring().unwrap(), kernel.decoder());
        Self { kernel, ring, decoder }
    }

    /// Takes effect at once: a program that is just starting would hold what is let go of.
    fn look(&mut self, closely: bool) -> Result<bool, String> {
        let _here = nobody_starts();
        self.kernel.look(closely)
    }

    /// The next connection that is told to have ended.
    fn next_end(&mut self) -> ConnectionEnded {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            while let Some(record) = self.ring.next() {
                if let Body::ConnectionEnded(ended) = self.decoder.decode(&record).unwrap().body {
                    return *ended;
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("no connection was told to have ended");
    }
}

/// A connection on which each exchange is a request and an answer of plain bytes.
struct Kept(TcpStream, TcpStream);

impl Kept {
    fn open(listener: &TcpListener) -> Self {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        Self(client, listener.accept().unwrap().0)
    }

    fn exchange(&mut self) {
        let Self(client, server) = self;
        let mut bytes = [0; 64];
        client.write_all(&[b'q'; 64]).unwrap();
        server.read_exact(&mut bytes).unwrap();
        server.write_all(&[b'a'; 64]).unwrap();
        client.read_exact(&mut bytes).unwrap();
    }

    /// The proxy's side closes.
    fn close(self) {
        drop(self.0);
    }
}

#[test]
fn what_is_read_counts_only_within_one_close_look() {
    in_netns("obs-look", || {
        let listener = TcpListener::bind("127.0.0.1:7301").unwrap();
        let mut watched = Watched::start("obs-look", 7301);
        assert!(watched.kernel.looks_closely());

        let mut kept = Kept::open(&listener);
        (0..3).for_each(|_| kept.exchange());
        kept.close();
        let ended = watched.next_end();
        assert_eq!((ended.exchanges, ended.written_since_read), (3, Some(0)), "{ended:?}");

        // Without a close look reads are not seen, and nothing is said of them.
        let mut kept = Kept::open(&listener);
        kept.exchange();
        assert_eq!(watched.look(false), Ok(true));
        assert_eq!(watched.look(false), Ok(false));
        kept.exchange();
        kept.close();
        let ended = watched.next_end();
        assert_eq!((ended.exchanges, ended.written_since_read, ended.last_read), (0, None, None), "{ended:?}");
        assert_eq!(ended.bytes_received, 128);
        assert!(!ended.answers_visible);

        // What was read in an earlier look is not added to.
        let mut kept = Kept::open(&listener);
        kept.exchange();
        assert_eq!(watched.look(true), Ok(true));
        kept.exchange();
        assert_eq!(watched.look(false), Ok(true));
        kept.exchange();
        assert_eq!(watched.look(true), Ok(true));
        (0..2).for_each(|_| kept.exchange());
        kept.close();
        let ended = watched.next_end();
        assert_eq!((ended.exchanges, ended.written_since_read), (2, Some(0)), "{ended:?}");
        assert_eq!(watched.kernel.counters().unwrap().connections_ended, 3);
    });
}

#[test]
fn without_a_close_look_nothing_runs_for_reads_writes_and_packets() {
    in_netns("obs-light", || {
        let listener = TcpListener::bind("127.0.0.1:7302").unwrap();
        let mut watched = Watched::start("obs-light", 7302);
        let mut statistics = watched.kernel.statistics();
        statistics.measure(true);
        let runs = || statistics.read().iter().map(|program| (program.name.clone(), program.runs)).collect::<Vec<_>>();
        let mut kept = Kept::open(&listener);
        let before = runs();
        kept.exchange();
        assert_ne!(runs(), before);
        assert_eq!(watched.look(false), Ok(true));
        // A program that another process had begun may end yet; those that are attached run in each round.
        eventually("a round for which none of them runs", || {
            let before = runs();
            (0..100).for_each(|_| kept.exchange());
            // Other processes of this host open and close connections, and have theirs reset, meanwhile.
            let changed: Vec<_> =
                runs().into_iter().zip(before).filter(|(now, before)| now != before).map(|(now, _)| now.0).collect();
            let close =
                ["tcp_rcv_space_adjust", "listen_overflow", "sys_enter_write", "sys_enter_sendto", "sys_enter_connect"];
            close.iter().all(|name| !changed.iter().any(|program| program == name)).then_some(())
        });
    });
}
