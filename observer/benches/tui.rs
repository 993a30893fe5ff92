//! What the live view costs: `cargo bench -p observer --bench tui`. Five hundred upstreams, a tenth of them failing, at 160x48: a
//! frame's processor time, the bytes that it sends to the terminal, and the share of a core at 4 frames a second.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use observer::{
    addr::{Endpoint, NetNs},
    event::{Body, ConnectionEnded, Event, Flow, Process, State},
    hooks::Hooks,
    snapshot::{Folded, Frame, Snapshot},
    time::{Time, WallClock},
    tui::View,
};
use ratatui::{Terminal, TerminalOptions, Viewport, backend::CrosstermBackend, layout::Rect};

const WIDTH: u16 = 160;
const HEIGHT: u16 = 48;
const UPSTREAMS: u16 = 500;
/// One in so many fails.
const FAILING: u16 = 10;
const FRAMES: u32 = 100;
const FRAMES_PER_SECOND: u32 = 4;
/// So long traffic goes on before the first frame, so that every column has something to show.
const BEFORE: Duration = Duration::from_mins(1);

/// Events a second that must not make it fall behind.
const FLOOD: u32 = 50_000;
/// Snapshots a second that the pipeline makes.
const SNAPSHOTS_PER_SECOND: u32 = 10;

/// What a frame may take.
const MOST_MILLISECONDS: f64 = 5.0;

fn main() {
    let mut traffic = Traffic {
        folded: Folded::default(),
        now: Time(1_000_000_000_000),
        turn: 0,
        per_second: 2 * u32::from(UPSTREAMS),
    };
    traffic.go_on(BEFORE);
    let frame = Frame {
        since: Time(1_000_000_000_000),
        wall: WallClock { offset: 1_767_323_400_000_000_000 },
        watching: "nginx; ports 8000".to_owned(),
        hooks: Hooks::default(),
    };
    let written = Arc::new(AtomicU64::new(0));
    let area = Rect::new(0, 0, WIDTH, HEIGHT);
    let backend = CrosstermBackend::new(Sink(Arc::clone(&written)));
    let mut terminal = Terminal::with_options(backend, TerminalOptions { viewport: Viewport::Fixed(area) })
        .expect("a terminal that counts");
    let view = View::new();

    let (mut taking, mut drawing) = (Duration::ZERO, Duration::ZERO);
    let mut first = 0;
    for number in 0..=FRAMES {
        traffic.go_on(Duration::from_secs(1) / FRAMES_PER_SECOND);
        let began = processor_time();
        let snapshot = Snapshot::take(&traffic.folded, &frame);
        let taken = processor_time();
        terminal.draw(|frame| view.draw(frame, &snapshot)).expect("it draws");
        if number == 0 {
            // All of the screen is new.
            first = written.swap(0, Ordering::Relaxed);
            continue;
        }
        taking += taken.saturating_sub(began);
        drawing += processor_time().saturating_sub(taken);
    }
    let each = |time: Duration| time.as_secs_f64() * 1e3 / f64::from(FRAMES);
    let share = |time: Duration| each(time) * f64::from(FRAMES_PER_SECOND) / 10.0;
    let bytes = written.load(Ordering::Relaxed) / u64::from(FRAMES);
    println!("{UPSTREAMS} upstreams at {WIDTH}x{HEIGHT}");
    println!(
        "a frame            {:.2} ms, {:.2} % of a core at {FRAMES_PER_SECOND} a second",
        each(drawing),
        share(drawing)
    );
    println!("its snapshot       {:.2} ms, {:.2} % of a core", each(taking), share(taking));
    println!("the first frame    {first} bytes");
    println!("each further one   {bytes} bytes, {} a second", bytes * u64::from(FRAMES_PER_SECOND));
    let unchanged = unchanged(&view, &mut terminal, &Snapshot::take(&traffic.folded, &frame), &written);
    println!("nothing changed    {unchanged} bytes");
    let (taking_in, showing) = flood(&view, &mut terminal, &mut traffic, &frame);
    let percent = |time: Duration| time.as_secs_f64() * 100.0;
    println!(
        "{FLOOD} events/s    {:.1} % of a core to take in with its snapshots, {:.2} % of another to draw",
        percent(taking_in),
        percent(showing)
    );
    if cfg!(not(debug_assertions)) {
        assert!(taking_in + showing < Duration::from_secs(1), "it falls behind");
        assert!(each(drawing) <= MOST_MILLISECONDS, "a frame takes more than {MOST_MILLISECONDS} ms");
    }
}

/// A second of it: what the pipeline's thread takes for its events and snapshots, and what the view's takes to draw.
fn flood(
    view: &View,
    terminal: &mut Terminal<CrosstermBackend<Sink>>,
    traffic: &mut Traffic,
    frame: &Frame,
) -> (Duration, Duration) {
    let (mut taking_in, mut showing) = (Duration::ZERO, Duration::ZERO);
    traffic.per_second = FLOOD;
    for _ in 0..SNAPSHOTS_PER_SECOND {
        let began = processor_time();
        traffic.go_on(Duration::from_secs(1) / SNAPSHOTS_PER_SECOND);
        let snapshot = Snapshot::take(&traffic.folded, frame);
        let taken = processor_time();
        terminal.draw(|frame| view.draw(frame, &snapshot)).expect("it draws");
        taking_in += taken.saturating_sub(began);
        showing += processor_time().saturating_sub(taken);
    }
    // Not every snapshot is drawn.
    (taking_in, showing * FRAMES_PER_SECOND / SNAPSHOTS_PER_SECOND)
}

fn unchanged(
    view: &View,
    terminal: &mut Terminal<CrosstermBackend<Sink>>,
    snapshot: &Snapshot,
    written: &AtomicU64,
) -> u64 {
    let mut bytes = 0;
    for _ in 0..2 {
        written.store(0, Ordering::Relaxed);
        terminal.draw(|frame| view.draw(frame, snapshot)).expect("it draws");
        bytes = written.load(Ordering::Relaxed);
    }
    bytes
}

/// Counts what is written.
struct Sink(Arc<AtomicU64>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(u64::try_from(bytes.len()).unwrap_or(0), Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Tries that end at one upstream after the other.
struct Traffic {
    folded: Folded,
    now: Time,
    turn: u16,
    per_second: u32,
}

impl Traffic {
    fn go_on(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now = self.now + Duration::from_secs(1) / self.per_second;
            self.turn = (self.turn + 1) % UPSTREAMS;
            let body = Body::ConnectionEnded(Box::new(ended(self.turn, self.now)));
            self.folded.apply(&Event { time: self.now, body }, &mut |_| {});
        }
        self.folded.apply(&Event { time: self.now, body: Body::Tick }, &mut |_| {});
    }
}

fn ended(upstream: u16, now: Time) -> ConnectionEnded {
    let [high, low] = upstream.to_be_bytes();
    let at = |ip, port| Endpoint { ip: IpAddr::V4(ip), port };
    let fails = upstream.is_multiple_of(FAILING);
    let port = 10_000 + u16::try_from(now.0 / 1_000_000 % 50_000).unwrap_or(0);
    ConnectionEnded {
        flow: Flow {
            local: at(Ipv4Addr::new(10, 0, 0, 1), port),
            remote: at(Ipv4Addr::new(10, 1, high, low), 8000),
            netns: NetNs(7),
        },
        proxy: Process { pid: 42, comm: "nginx".into() },
        started: now - Duration::from_millis(5),
        established: (!fails).then(|| now - Duration::from_millis(4)),
        old: if fails { State::SynSent } else { State::Established },
        new: if fails { State::Close } else { State::FinWait1 },
        error: if fails { 111 } else { 0 },
        closed_by_proxy: !fails,
        reset_received: fails,
        bytes_sent: if fails { 0 } else { 80 },
        bytes_acked: if fails { 0 } else { 80 },
        bytes_received: if fails { 0 } else { 900 },
        unacked: 0,
        data_segments_out: u32::from(!fails),
        since_sent: (!fails).then_some(Duration::from_millis(4)),
        since_received: (!fails).then_some(Duration::from_millis(1)),
        sent_last: false,
        written_since_read: None,
        unread: 0,
        answer_status: None,
        soft_error: 0,
        last_read: None,
        exchanges: u32::from(!fails),
        answers_visible: false,
        answers_unwatched: false,
        syn_retransmits: 0,
        data_retransmits: 0,
    }
}

/// Spent by this thread, whatever else the machine is busy with.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has this clock").into()
}
