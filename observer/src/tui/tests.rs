//! The screens as text, at every size, and in no colour.

use std::{fmt::Write as _, path::PathBuf, sync::Arc};

use ratatui::{Terminal, backend::TestBackend, buffer::Buffer};

use super::{action::Action, app::App, fixture, page::Room, screen::Screen, theme::Theme, view};
use crate::{
    snapshot::{Snapshot, playback::Standing},
    time::Speed,
};

/// Sizes at which screens are kept: the classic, and a large one.
const SIZES: [(u16, u16); 2] = [(80, 24), (160, 48)];
/// A small pane, for some of them.
const SMALL: (u16, u16) = (60, 15);

/// States in which the sweep over all sizes draws.
const STATES: usize = 88;

fn drawn(app: &App, live: &Snapshot, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(frame, app, live)).unwrap();
    terminal.backend().buffer().clone()
}

fn text_of(buffer: &Buffer) -> String {
    let mut text = String::new();
    for row in buffer.content.chunks(usize::from(buffer.area.width).max(1)) {
        let mut skip = 0;
        let mut line = String::new();
        for cell in row {
            if skip == 0 {
                line.push_str(cell.symbol());
                skip = ratatui::text::Span::raw(cell.symbol()).width().max(1);
            }
            skip -= 1;
        }
        writeln!(text, "{}", line.trim_end()).unwrap();
    }
    text
}

pub(super) fn screen(app: &App, live: &Snapshot, width: u16, height: u16) -> String {
    text_of(&drawn(app, live, width, height))
}

fn after(actions: &[Action], live: &Arc<Snapshot>) -> App {
    let mut app = App::new(Theme::COLOURED);
    for action in actions {
        app.apply(action.clone(), live);
    }
    app
}

const fn show(screen: Screen) -> Action {
    Action::Show(screen)
}

/// The screen must be as it is kept in `snapshots/`; with `OBSERVER_BLESS=1` it is kept as it is.
fn kept(name: &str, actions: &[Action], live: &Arc<Snapshot>, later: &Arc<Snapshot>) {
    kept_at(&SIZES, name, actions, live, later);
}

fn kept_at(sizes: &[(u16, u16)], name: &str, actions: &[Action], live: &Arc<Snapshot>, later: &Arc<Snapshot>) {
    let app = after(actions, live);
    let mut wrong = Vec::new();
    for (width, height) in sizes.iter().copied() {
        let path =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("src/tui/snapshots/{name}-{width}x{height}.txt"));
        let now = screen(&app, later, width, height);
        if std::env::var_os("OBSERVER_BLESS").is_some_and(|value| value == "1") {
            std::fs::write(&path, &now).unwrap();
        }
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        if before != now {
            wrong.push(format!("{}\n--- kept\n{before}--- drawn\n{now}", path.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "the screen has changed. Look at it; if it is better now, keep it:\n  \
         OBSERVER_BLESS=1 cargo test -p observer --lib tui && git diff observer/src/tui/snapshots\n\n{}",
        wrong.join("\n")
    );
}

/// Every screen of it.
fn all_kept(name: &str, live: &Arc<Snapshot>) {
    kept(name, &[], live, live);
    for screen in &Screen::ALL[1..] {
        kept(&format!("{name}-{}", screen.name()), &[show(*screen)], live, live);
    }
}

#[test]
fn quiet() {
    all_kept("quiet", &fixture::quiet());
}

#[test]
fn idle() {
    let live = fixture::idle();
    kept_at(&[SMALL, SIZES[0]], "idle", &[], &live, &live);
}

#[test]
fn before_and_after_a_change() {
    let [before, later] = fixture::changed();
    kept("changed", &[Action::Compare], &before, &later);
    let app = after(&[Action::Compare, Action::Compare], &before);
    assert!(!screen(&app, &later, 80, 24).contains("before against after"), "it is forgotten");
    let app = after(&[Action::Compare], &later);
    assert!(screen(&app, &before, 80, 24).contains("later than what is shown"), "a replay went back");
}

#[test]
fn one_incident() {
    let live = fixture::one();
    all_kept("one", &live);
    kept_at(&[SMALL], "one", &[], &live, &live);
    kept("help", &[Action::Help], &live, &live);
}

#[test]
fn a_configuration_held_against_what_is_measured() {
    let live = fixture::configured();
    for screen in [Screen::Upstream, Screen::Cause] {
        kept(&format!("configured-{}", screen.name()), &[show(screen)], &live, &live);
    }
    let upstream = screen(&after(&[show(Screen::Upstream)], &live), &live, 80, 48);
    let place = |text: &str| upstream.find(text).unwrap_or_else(|| panic!("no {text} in\n{upstream}"));
    assert!(place("app.conf:12: keepalive-not-in-effect") < place("app.conf:8: connect-timeout-long (not settled)"));
    assert!(place("connections carried a single request") < place("proxy_http_version 1.1;"));
    assert!(!upstream.contains("unequal-upstreams"), "what is no mistake unless it is measured:\n{upstream}");
    let other = live.upstreams.iter().find(|row| row.key.to_string() == "10.0.0.2:8081").unwrap().key;
    let other = screen(&after(&[Action::Select(Some(other)), show(Screen::Upstream)], &live), &live, 80, 48);
    assert!(!other.contains("app.conf"), "it is about another upstream:\n{other}");
}

#[test]
fn an_incident_that_is_over() {
    let live = fixture::over();
    kept("over", &[], &live, &live);
}

#[test]
fn three_incidents_with_warnings() {
    let live = fixture::three();
    all_kept("three", &live);
    kept_at(&[SMALL], "three", &[], &live, &live);
    let second = live.upstreams[1].key;
    kept("three-second", &[Action::Select(Some(second)), show(Screen::Upstream)], &live, &live);
}

#[test]
fn a_warning_comes_before_all_is_well() {
    let live = fixture::three();
    let mut warned = Snapshot { incidents: Vec::new(), ..Snapshot::clone(&live) };
    warned.upstreams.iter_mut().for_each(|row| row.failed_per_second = 0.0);
    let now = screen(&App::new(Theme::COLOURED), &warned, 80, 24);
    let place = |text: &str| now.find(text).unwrap_or_else(|| panic!("no {text} in\n{now}"));
    assert!(place("! warning for") < place("○ no request has failed"), "{now}");
    let cause = screen(&after(&[show(Screen::Cause)], &Arc::new(warned.clone())), &warned, 80, 24);
    assert!(cause.contains("! warning since") && !cause.contains("nothing has failed"), "{cause}");
}

#[test]
fn a_dead_server_that_a_pool_hides_is_told() {
    let live = fixture::three();
    let hidden = Snapshot { incidents: Vec::new(), warnings: Vec::new(), ..Snapshot::clone(&live) };
    let now = screen(&App::new(Theme::COLOURED), &hidden, 120, 24);
    assert!(now.contains("of the tries at 10.0.0.2:8081 fail: nobody is seen to listen there; no request"), "{now}");
    assert!(now.contains("fix: start the application there"), "{now}");
    let told = screen(&App::new(Theme::COLOURED), &live, 120, 24);
    assert!(!told.contains("no request is seen"), "{told}");
}

#[test]
fn losses_and_degraded_hooks() {
    all_kept("losses", &fixture::degraded());
}

#[test]
fn more_than_fits() {
    let live = fixture::crowded();
    let last = live.upstreams.last().map(|row| row.key);
    kept_at(&SIZES[..1], "crowded", &[Action::Select(last)], &live, &live);
}

#[test]
fn frozen() {
    let live = fixture::one();
    let mut later = Snapshot::clone(&fixture::quiet());
    later.now = live.now + std::time::Duration::from_secs(75);
    kept_at(&SIZES[..1], "frozen", &[Action::Freeze], &live, &Arc::new(later));
}

#[test]
fn a_replay() {
    let playing = fixture::replay(75, 180, Standing::Playing, Speed::Times(4.0));
    all_kept("replay", &playing);
    kept_at(&[SMALL], "replay", &[], &playing, &playing);
    kept("replay-help", &[Action::Help], &playing, &playing);
}

#[test]
fn a_replay_that_has_just_begun() {
    let early = fixture::replay(12, 70, Standing::Paused, Speed::Times(1.0));
    kept_at(&SIZES[..1], "replay-early", &[], &early, &early);
}

#[test]
fn a_damaged_recording_at_its_end() {
    let mut ended = Snapshot::clone(&fixture::replay(180, 180, Standing::Ended, Speed::Max));
    if let Some(playback) = &mut ended.playback {
        playback.trouble = Some("/srv/traces/edge-7.arrows is damaged at byte 4711: it ends within a message".into());
    }
    let ended = Arc::new(ended);
    kept_at(&SIZES[..1], "replay-ended", &[], &ended, &ended);
}

#[test]
fn every_size_draws() {
    let empty = {
        let mut empty = Snapshot::clone(&fixture::idle());
        empty.hooks.0.clear();
        Arc::new(empty)
    };
    let snapshots = [
        empty,
        fixture::idle(),
        fixture::quiet(),
        fixture::one(),
        fixture::over(),
        fixture::three(),
        fixture::degraded(),
        fixture::crowded(),
        fixture::configured(),
        fixture::replay(75, 180, Standing::Playing, Speed::Times(4.0)),
        fixture::replay(12, 12, Standing::Seeking, Speed::Max),
    ];
    let typed = Action::Typed('1');
    let journeys: [&[Action]; 8] = [
        &[],
        &[Action::Help, Action::Scroll(7)],
        &[show(Screen::Upstream), Action::Scroll(3)],
        &[show(Screen::Cause), Action::Times],
        &[show(Screen::Events), Action::Type, typed.clone()],
        &[show(Screen::Hooks), Action::Scroll(999)],
        &[Action::Freeze, Action::Type, typed.clone(), Action::Accept],
        &[Action::Sort(super::action::Sort { by: Some("connect"), reversed: true })],
    ];
    // Every size is drawn in some state, and every tiny one in all.
    let mut turn = 0;
    for live in &snapshots {
        for actions in journeys {
            let app = after(actions, live);
            turn += 1;
            for width in 0..=120_u16 {
                for height in 0..=40_u16 {
                    let small = width <= 2 && height <= 2;
                    if small || (usize::from(width) * 41 + usize::from(height)) % STATES == turn % STATES {
                        drawn(&app, live, width, height);
                        clicked(&app, live, width, height);
                    }
                }
            }
        }
        drawn(&after(&[], live), live, 300, 100);
    }
    assert_eq!(turn, STATES);
}

/// A click anywhere does no harm, whatever it does.
fn clicked(app: &App, live: &Arc<Snapshot>, width: u16, height: u16) {
    let room = Room { width: width.into(), height: height.into() };
    let page = view::frame(&view::Context::new(app, live), room);
    for (line, cell) in [(0, 0), (height / 2, width / 2), (height, width)] {
        if let Some(action) = page.at(line.into(), cell.into()) {
            app.clone().apply(action.clone(), live);
        }
    }
}

#[test]
fn the_smallest_screen_has_the_headline() {
    let screen = screen(&App::new(Theme::COLOURED), &fixture::one(), 20, 5);
    assert!(screen.starts_with(" FAILING 12.3/s"), "{screen}");
    assert!(screen.contains("● 504s: 12.3/s for"), "{screen}");
}

#[test]
fn without_colour_there_is_none_and_nothing_is_lost() {
    use ratatui::style::Color;
    for live in [fixture::three(), fixture::replay(75, 180, Standing::Paused, Speed::Max)] {
        let plain = drawn(&App::new(Theme::PLAIN), &live, 120, 40);
        assert!(plain.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
        let coloured = drawn(&App::new(Theme::COLOURED), &live, 120, 40);
        assert!(coloured.content.iter().any(|cell| cell.fg == Color::Red));
        assert_eq!(text_of(&plain), text_of(&coloured));
    }
}

#[test]
fn colours_are_those_that_every_background_can_show() {
    use ratatui::style::Color;
    const SHOWN: [Color; 7] =
        [Color::Reset, Color::Red, Color::Yellow, Color::Green, Color::Magenta, Color::Cyan, Color::Blue];
    for screen in Screen::ALL {
        for live in [fixture::three(), fixture::degraded()] {
            let buffer = drawn(&after(&[show(screen)], &live), &live, 160, 48);
            assert!(buffer.content.iter().all(|cell| SHOWN.contains(&cell.fg) && cell.bg == Color::Reset));
            let blinks = ratatui::style::Modifier::SLOW_BLINK | ratatui::style::Modifier::RAPID_BLINK;
            assert!(buffer.content.iter().all(|cell| !cell.modifier.intersects(blinks)));
        }
    }
}

#[test]
fn quiet_looks_quiet() {
    use ratatui::style::Color;
    let live = fixture::quiet();
    for (width, height) in SIZES {
        let buffer = drawn(&App::new(Theme::COLOURED), &live, width, height);
        assert!(buffer.content.iter().all(|cell| !matches!(cell.fg, Color::Red | Color::Yellow)));
    }
}
