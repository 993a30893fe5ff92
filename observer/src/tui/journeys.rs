//! Whole journeys by key and mouse, through the view as [`super::run`] drives it.

use std::{sync::Arc, time::Duration};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};

use super::{
    View,
    action::{Effect, Text},
    app::App,
    fixture, keys,
    page::Room,
    tests::screen,
    theme::Theme,
};
use crate::{
    snapshot::{
        Snapshot, Tail,
        playback::{Command, Standing},
    },
    time::Speed,
};

const WIDTH: u16 = 100;
const HEIGHT: u16 = 40;

/// Somebody at a terminal.
struct Journey {
    view: View,
    live: Arc<Snapshot>,
    size: (u16, u16),
    last: Effect,
}

impl Journey {
    fn on(live: Arc<Snapshot>) -> Self {
        let view = View { app: App::new(Theme::COLOURED) };
        Self { view, live, size: (WIDTH, HEIGHT), last: Effect::Nothing }
    }

    fn room(&self) -> Room {
        Room { width: self.size.0.into(), height: self.size.1.into() }
    }

    /// Presses keys: a character each, `<Enter>` and the like by name.
    fn press(&mut self, keys: &str) -> &mut Self {
        let mut rest = keys;
        while let Some(character) = rest.chars().next() {
            let named = rest.strip_prefix('<').and_then(|named| named.split_once('>')).and_then(|(name, rest)| {
                let code = match name {
                    "Enter" => KeyCode::Enter,
                    "Esc" => KeyCode::Esc,
                    "Tab" => KeyCode::Tab,
                    "Up" => KeyCode::Up,
                    "Down" => KeyCode::Down,
                    "Right" => KeyCode::Right,
                    "PgDn" => KeyCode::PageDown,
                    "PgUp" => KeyCode::PageUp,
                    "End" => KeyCode::End,
                    "Backspace" => KeyCode::Backspace,
                    _ => return None,
                };
                Some((code, rest))
            });
            let (code, left) = named.unwrap_or((KeyCode::Char(character), &rest[character.len_utf8()..]));
            rest = left;
            let room = self.room();
            self.last = self.view.press(KeyEvent::new(code, KeyModifiers::NONE), &self.live, room);
        }
        self
    }

    fn mouse(&mut self, kind: MouseEventKind, column: u16, row: u16) -> &mut Self {
        let room = self.room();
        let event = MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE };
        let intent = keys::pointed(event).unwrap();
        self.last = self.view.wish(intent, &self.live, room);
        self
    }

    /// Clicks on the first place where the screen has that text.
    fn click(&mut self, text: &str) -> &mut Self {
        let drawn = self.screen();
        let row = drawn.lines().position(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text} in\n{drawn}"));
        let line = drawn.lines().nth(row).unwrap();
        let column = line[..line.find(text).unwrap()].chars().count();
        self.mouse(MouseEventKind::Down(MouseButton::Left), u16::try_from(column).unwrap(), u16::try_from(row).unwrap())
    }

    fn screen(&self) -> String {
        screen(&self.view.app, &self.live, self.size.0, self.size.1)
    }

    #[track_caller]
    fn sees(&mut self, text: &str) -> &mut Self {
        assert!(self.screen().contains(text), "no {text:?} in\n{}", self.screen());
        self
    }

    #[track_caller]
    fn misses(&mut self, text: &str) -> &mut Self {
        assert!(!self.screen().contains(text), "{text:?} in\n{}", self.screen());
        self
    }

    /// What was to be copied or written.
    #[track_caller]
    fn text(&self) -> &Text {
        match &self.last {
            Effect::Copy(text) | Effect::Write(text) => text,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn from_the_headline_to_the_fix_in_one_key() {
    let mut journey = Journey::on(fixture::one());
    journey.sees("● 504s: 12.3/s for").sees("fix: add workers").sees("[1 now]");
    journey.press("c").sees("[3 cause]").sees("accept-queue-overflow at 10.0.0.2:8000").sees("why");
    journey.press("y");
    assert!(journey.text().what.starts_with("more workers"), "{:?}", journey.text());
    journey.size = (80, 24);
    for title in ["▸ 2. ", "▸ 3. ", "▸ 1. "] {
        journey.press("s").sees(title);
    }
    journey.size = (WIDTH, HEIGHT);
    journey.press("<Esc>").sees("[1 now]");
    journey.press("<Enter>").sees("[2 upstream]").sees("129/128 FULL").sees("last failures");
    journey.press("<Enter>").sees("[3 cause]");
    journey.press("<Esc><Esc>").sees("[1 now]");
    journey.press("<Esc>");
    assert_eq!(journey.last, Effect::Nothing);
}

#[test]
fn screens_by_number_and_by_tab() {
    let mut journey = Journey::on(fixture::one());
    for (key, name) in [("2", "upstream"), ("3", "cause"), ("4", "events"), ("5", "hooks"), ("1", "now")] {
        journey.press(key).sees(&format!("[{key} {name}]"));
    }
    for name in ["upstream", "cause", "events", "hooks", "now"] {
        journey.press("<Tab>").sees(&format!(" {name}]"));
    }
    journey.click(" 5 hooks").sees("[5 hooks]").sees("hooks: 16 of 16 see everything");
}

#[test]
fn upstreams_are_selected_sorted_and_filtered() {
    let mut journey = Journey::on(fixture::three());
    journey.sees("► 192.0.2.10:9000").press("j").sees("► 10.0.0.2:8000").press("G").sees("► 10.0.0.2:8081");
    journey.press("gk").sees("► 192.0.2.10:9000");
    journey.sees("▼fail/s").press(">").misses("▼fail/s").press("<").sees("▼fail/s").press("i").sees("▲fail/s");
    journey.click("tries/s").sees("▼tries/s").click("tries/s").sees("▲tries/s");
    journey.press("/port:8081").sees("/port:8081▏").sees("► 10.0.0.2:8081").misses("  192.0.2.10:9000");
    journey.press("<Enter>").sees("filter port:8081: 1 of 3 upstreams");
    journey.press("<Esc>").misses("filter port").sees("192.0.2.10:9000  ");
    journey.press("/port:8000").sees("── 10.0.0.2:8000 ──").press("<Esc>").sees("── 192.0.2.10:9000 ──");
    journey.press("/nobody").sees("none fits").press("<Esc>").misses("none fits");
    journey.click("10.0.0.2:8000           ").sees("► 10.0.0.2:8000");
    journey.click("► 10.0.0.2:8000").sees("[2 upstream]");
    journey.press(">").sees("── 192.0.2.10:9000, 3 of 3").press("<Esc>").sees("► 192.0.2.10:9000");
}

#[test]
fn incidents_are_clicked_and_gone_through() {
    let mut journey = Journey::on(fixture::three());
    journey.click("nobody listens on 10.0.0.2:8081").sees("upstream-refused at 10.0.0.2:8081, 3 of 3");
    journey.press("<").sees(", 2 of 3").press("<<<").sees(", 1 of 3").sees("port-exhaustion at");
    journey.press(">>").sees("upstream-refused at");
}

#[test]
fn long_screens_scroll_to_their_end_and_no_further() {
    let mut journey = Journey::on(fixture::one());
    journey.size = (60, 15);
    journey.press("3").sees("more lines");
    journey.press("G").misses("more lines").press("jjjj");
    let end = journey.screen();
    journey.press("k").sees("more lines").press("j");
    assert_eq!(journey.screen(), end);
    journey.press("<PgUp>").press("g").sees("── accept-queue-overflow");
    journey.mouse(MouseEventKind::ScrollDown, 5, 5).misses("── accept-queue-overflow");
    journey.mouse(MouseEventKind::ScrollUp, 5, 5).sees("── accept-queue-overflow");
    journey.press("?").sees("keys: ? or Esc closes").press("G").sees("unknown").press("<Esc>").misses("unknown");
}

/// The same with events that came since.
fn later(live: &Snapshot, more: u64) -> Arc<Snapshot> {
    let mut tail = Tail::clone(live.tail.as_ref().unwrap());
    let last = tail.events.last().unwrap().clone();
    tail.passed += more;
    for _ in 0..more {
        let mut event = tail.events[0].clone();
        event.time = last.time + Duration::from_secs(1);
        tail.events.push(event);
        tail.events.remove(0);
        tail.first += 1;
    }
    Arc::new(Snapshot { tail: Some(Arc::new(tail)), now: live.now + Duration::from_secs(1), ..Snapshot::clone(live) })
}

#[test]
fn events_hold_still_while_one_reads() {
    let mut journey = Journey::on(fixture::one());
    journey.press("4").sees("following");
    journey.press("<Up><Up>").sees("HELD, 0 newer");
    let table = |journey: &Journey| journey.screen().lines().skip(4).take(20).collect::<Vec<_>>().join("\n");
    let before = table(&journey);
    journey.live = later(&journey.live, 290);
    journey.sees("HELD, 290 newer");
    assert_eq!(table(&journey), before, "what came since moves nothing");
    journey.press("<Up><Down>");
    assert_eq!(table(&journey), before);
    journey.press("G").sees("following");
    assert_ne!(table(&journey), before);
    journey.press("<Up>").sees("HELD").press("<Down><Down>").sees("following");
}

#[test]
fn events_are_filtered_and_told_in_full() {
    let mut journey = Journey::on(fixture::one());
    journey.press("4/kind:verdict<Enter>").sees("filter kind:verdict").misses("sent again");
    journey.press("<Up>").sees("── verdict, ").sees("confidence certain");
    journey.press("<Enter>").sees("[3 cause]").sees("accept-queue-overflow at").press("<Esc>").sees("[4 events]");
    journey.press("<Esc>").misses("filter kind").press("/port:8081 kind:connection<Enter>").misses(":8000");
    journey.press("y");
    assert!(journey.text().text.contains("connection_ended"), "{:?}", journey.text());
    journey.press("<Esc>/pid:4711<Enter>").sees("in its accept queue").misses("closed by the proxy");
    journey
        .press("<Esc>/cause:accept addr:10.0.0.2<Enter>")
        .sees("accept-queue-overflow: ")
        .misses("in its accept queue");
}

#[test]
fn all_that_a_screen_has_is_written() {
    let mut journey = Journey::on(fixture::crowded());
    journey.size = (60, 15);
    journey.press("w");
    let text = journey.text();
    assert_eq!(text.what, "observer-now-20260102T031300Z");
    let rows = text.text.lines().filter(|line| line.starts_with("  [2001:db8:")).count();
    assert_eq!(rows, 60, "{}", text.text);
    assert!(!text.text.contains('\u{1b}'));
    journey.press("4w");
    assert!(journey.text().text.lines().count() > 300);
    journey.press("5w");
    assert!(journey.text().text.contains("kept at most"));
    let folder = tempfile::tempdir().unwrap();
    let text = journey.text().clone();
    journey.view.write(folder.path(), &text);
    journey.size = (200, 40);
    journey.sees("written: ").sees("observer-hooks-20260102T031300Z.txt");
    journey.press("t").misses("written: ");
}

#[test]
fn times_are_told_both_ways() {
    let mut journey = Journey::on(fixture::one());
    journey.sees("failed since 03:11:00Z").press("t").sees("failed for 119 s").press("t").sees("since 03:11:00Z");
    journey.press("4").sees(" 03:1").press("t").sees(" s ago");
}

#[test]
fn freezing_and_recording() {
    let mut journey = Journey::on(fixture::one());
    journey.press(" ").sees("FROZEN");
    let mut quiet = Snapshot::clone(&fixture::quiet());
    quiet.now = journey.live.now + Duration::from_secs(30);
    journey.live = Arc::new(quiet);
    journey.sees("FROZEN 30 s ago").sees("FAILING").press(" ").misses("FROZEN").misses("FAILING");
    journey.press("r");
    assert_eq!(journey.last, Effect::Record);
    journey.press("q");
    assert_eq!(journey.last, Effect::Quit);
}

#[test]
fn a_replay_keeps_its_keys_on_every_screen() {
    let mut journey = Journey::on(fixture::replay(75, 180, Standing::Playing, Speed::Times(4.0)));
    for screen in ["1", "2", "3", "4", "5"] {
        journey.press(screen).sees("▲ 03:11:15Z");
        for (key, command) in [(" ", Command::Pause), ("n", Command::NextIncident), ("0", Command::Begin)] {
            journey.press(key);
            assert_eq!(journey.last, Effect::Replay(command));
        }
    }
    journey.press("5").sees("a recording does not say");
}

#[test]
fn nothing_to_select_is_no_trouble() {
    let mut journey = Journey::on(fixture::idle());
    for screen in ["1", "2", "3", "4", "5"] {
        journey.press(screen).press("jkgG<Enter>cy<>si<PgDn><PgUp><Esc>t w");
    }
    journey.press("1").sees("none seen yet");
    journey.press("3").sees("nothing has failed");
}
