//! When a machine may reboot: days, a time, a length, in a time zone.
//!
//! ```text
//! Mon-Fri 03:00 2h Europe/Berlin, Sat Sun 23:00 6h30m
//! ```
//!
//! A window begins at a time of the clock on the wall, and is as long as it says: where clocks are
//! put back or forward in it, it does not get longer or shorter. A time that a clock skips is the
//! time right after.

use jiff::{
    SignedDuration, Timestamp, ToSpan, Zoned,
    civil::{Time, Weekday},
    tz::TimeZone,
};

/// A window that comes again each week.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// The days on which it begins.
    pub days: Vec<Weekday>,
    /// When, on the clock of `zone`.
    pub start: Time,
    /// For how long.
    pub length: SignedDuration,
    /// Whose clock.
    pub zone: TimeZone,
}

/// Who knows time zones by name.
pub type Zones<'a> = &'a dyn Fn(&str) -> Option<TimeZone>;

/// Why a text is not a list of windows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAWindow {
    /// A word that makes no sense where it is.
    #[error(
        "`{0}` in a reboot window; write days, a time and a length, such as \
         `Mon-Fri 03:00 2h Europe/Berlin`, and a comma between windows"
    )]
    Word(String),
    /// It says no time or no length.
    #[error("the reboot window `{0}` has no {1}; write it as `Mon-Fri 03:00 2h`")]
    Missing(String, &'static str),
    /// The length is no length.
    #[error("`{0}` as the length of a reboot window; write 1m to 168h, such as `1h30m`")]
    Length(String),
    /// Nobody knows the time zone.
    #[error("the time zone `{0}` is not known; write an IANA name such as `Europe/Berlin`")]
    Zone(String),
}

const WEEK: [(&str, Weekday); 7] = [
    ("monday", Weekday::Monday),
    ("tuesday", Weekday::Tuesday),
    ("wednesday", Weekday::Wednesday),
    ("thursday", Weekday::Thursday),
    ("friday", Weekday::Friday),
    ("saturday", Weekday::Saturday),
    ("sunday", Weekday::Sunday),
];

/// Reads windows, those that name no zone in `zone`.
pub fn parse(text: &str, zone: &TimeZone, zones: Zones<'_>) -> Result<Vec<Window>, NotAWindow> {
    let texts = text.split([',', ';']).map(str::trim).filter(|text| !text.is_empty());
    texts.map(|text| parse_one(text, zone, zones)).collect()
}

/// Reads the two settings of locksmith: `Thu 23:00` or `23:00`, and `1h30m`.
pub fn of_locksmith(start: &str, length: &str, zone: &TimeZone) -> Result<Window, NotAWindow> {
    parse_one(&format!("{start} {length}"), zone, &|_| None)
}

fn parse_one(text: &str, zone: &TimeZone, zones: Zones<'_>) -> Result<Window, NotAWindow> {
    let mut words = text.split_whitespace().peekable();
    let mut days = Vec::new();
    let start = loop {
        let word = words.next().ok_or(NotAWindow::Missing(text.to_owned(), "time"))?;
        if word.contains(':') {
            break parse_time(word)?;
        }
        days.extend(parse_days(word).ok_or_else(|| NotAWindow::Word(word.to_owned()))?);
    };
    if days.is_empty() {
        days = WEEK.iter().map(|(_, day)| *day).collect();
    }
    let length = words.next().ok_or(NotAWindow::Missing(text.to_owned(), "length"))?;
    let length = parse_length(length)?;
    let zone = match words.next() {
        None => zone.clone(),
        Some(name) => zones(name).ok_or_else(|| NotAWindow::Zone(name.to_owned()))?,
    };
    match words.next() {
        None => Ok(Window { days, start, length, zone }),
        Some(word) => Err(NotAWindow::Word(word.to_owned())),
    }
}

fn parse_time(word: &str) -> Result<Time, NotAWindow> {
    let (hour, minute) = word.split_once(':').unwrap_or((word, ""));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let both = hour.parse().ok().zip(minute.parse().ok());
    both.filter(|_| plain(hour) && plain(minute) && minute.len() == 2)
        .and_then(|(hour, minute)| Time::new(hour, minute, 0, 0).ok())
        .ok_or_else(|| NotAWindow::Word(word.to_owned()))
}

fn parse_days(word: &str) -> Option<Vec<Weekday>> {
    let range = word.split_once("..").or_else(|| word.split_once('-'));
    let Some((first, last)) = range else {
        return Some(vec![WEEK[parse_day(word)?].1]);
    };
    let (first, last) = (parse_day(first)?, parse_day(last)?);
    let count = (last + 7 - first) % 7 + 1;
    Some((first..first + count).map(|day| WEEK[day % 7].1).collect())
}

fn parse_day(word: &str) -> Option<usize> {
    let word = word.to_ascii_lowercase();
    WEEK.iter().position(|(name, _)| word == *name || word == name[..3])
}

fn parse_length(word: &str) -> Result<SignedDuration, NotAWindow> {
    let length = word.parse::<SignedDuration>().ok();
    let good = SignedDuration::from_mins(1)..=SignedDuration::from_hours(7 * 24);
    length.filter(|length| good.contains(length)).ok_or_else(|| NotAWindow::Length(word.to_owned()))
}

impl Window {
    /// When it ends, if it is open.
    pub fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        let mut ends = self.starts(now, -7..=0).filter(|start| *start <= now);
        ends.find_map(|start| Some(self.end(start)).filter(|end| *end > now))
    }

    /// When it opens next.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        // A day more than a week: today's may be over.
        self.starts(now, 0..=8).find(|start| *start > now)
    }

    fn end(&self, start: Timestamp) -> Timestamp {
        start.saturating_add(self.length).unwrap_or(Timestamp::MAX)
    }

    /// The times at which it begins on days around today, in order.
    fn starts(
        &self,
        now: Timestamp,
        days: std::ops::RangeInclusive<i32>,
    ) -> impl Iterator<Item = Timestamp> {
        let today = Zoned::new(now, self.zone.clone()).date();
        days.filter_map(move |day| {
            let date = today.checked_add(day.days()).ok()?;
            let meant = self.days.contains(&date.weekday());
            let start = date.to_datetime(self.start).to_zoned(self.zone.clone()).ok()?;
            meant.then(|| start.timestamp())
        })
    }
}

/// Whether a machine with these windows may reboot; one without any always may.
pub fn is_open(windows: &[Window], now: Timestamp) -> bool {
    windows.is_empty() || windows.iter().any(|window| window.open_until(now).is_some())
}

/// When the next of them opens.
pub fn next(windows: &[Window], now: Timestamp) -> Option<Timestamp> {
    windows.iter().filter_map(|window| window.next(now)).min()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn read(text: &str) -> Result<Vec<Window>, NotAWindow> {
        parse(text, &TimeZone::UTC, &|name| (name == "Europe/Berlin").then(berlin))
    }

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn check(text: &str, now: &str, expect: Expect) {
        let windows = read(text).unwrap();
        let now = time(now);
        let open = windows.iter().find_map(|window| window.open_until(now));
        let shown = match open {
            Some(end) => format!("open until {end}"),
            None => next(&windows, now).map_or("never".to_owned(), |next| format!("from {next}")),
        };
        assert_eq!(open.is_some(), is_open(&windows, now));
        expect.assert_eq(&shown);
    }

    #[test]
    fn a_window_is_open_from_its_start_until_just_before_its_end() {
        let window = "Thu 23:00 1h30m";
        // A Thursday.
        check(window, "2026-11-19T22:59:59Z", expect!["from 2026-11-19T23:00:00Z"]);
        check(window, "2026-11-19T23:00:00Z", expect!["open until 2026-11-20T00:30:00Z"]);
        check(window, "2026-11-20T00:29:59Z", expect!["open until 2026-11-20T00:30:00Z"]);
        check(window, "2026-11-20T00:30:00Z", expect!["from 2026-11-26T23:00:00Z"]);
    }

    #[test]
    fn days_are_names_and_ranges_over_the_end_of_a_week() {
        check("Sat..Mon 3:00 1h", "2026-11-19T00:00:00Z", expect!["from 2026-11-21T03:00:00Z"]);
        check("Sat-monday 03:00 1h", "2026-11-22T12:00:00Z", expect!["from 2026-11-23T03:00:00Z"]);
        check("tue fri 03:00 1h", "2026-11-19T00:00:00Z", expect!["from 2026-11-20T03:00:00Z"]);
        check("03:00 1h", "2026-11-19T03:30:00Z", expect!["open until 2026-11-19T04:00:00Z"]);
    }

    #[test]
    fn the_nearest_of_several_windows_counts() {
        let windows = "Mon 03:00 1h, Fri 03:00 1h; Wed 03:00 1h";
        check(windows, "2026-11-19T00:00:00Z", expect!["from 2026-11-20T03:00:00Z"]);
    }

    #[test]
    fn a_window_is_on_the_clock_of_its_zone() {
        let window = "Fri 00:30 1h Europe/Berlin";
        // Friday in Berlin, still Thursday in UTC.
        check(window, "2026-11-19T23:40:00Z", expect!["open until 2026-11-20T00:30:00Z"]);
        check(window, "2026-07-02T22:40:00Z", expect!["open until 2026-07-02T23:30:00Z"]);
    }

    #[test]
    fn where_clocks_change_a_window_is_as_long_as_it_says() {
        // 2026-03-29: 02:00 becomes 03:00. The window at 02:30 is the one at 03:30.
        let window = "Sun 02:30 1h Europe/Berlin";
        check(window, "2026-03-29T01:29:59Z", expect!["from 2026-03-29T01:30:00Z"]);
        check(window, "2026-03-29T01:30:00Z", expect!["open until 2026-03-29T02:30:00Z"]);
        // 2026-10-25: 03:00 becomes 02:00. It is the first of the two, once.
        check(window, "2026-10-25T00:30:00Z", expect!["open until 2026-10-25T01:30:00Z"]);
        check(window, "2026-10-25T01:30:00Z", expect!["from 2026-11-01T01:30:00Z"]);
    }

    #[test]
    fn a_window_of_a_week_is_always_open() {
        let windows = read("Mon 00:00 168h").unwrap();
        for day in 15..25 {
            assert!(is_open(&windows, time(&format!("2026-11-{day}T13:00:00Z"))));
        }
    }

    #[test]
    fn the_settings_of_locksmith_are_a_window() {
        let window = of_locksmith("Thu 23:00", "1h30m", &TimeZone::UTC).unwrap();
        assert_eq!(vec![window], read("Thu 23:00 1h30m").unwrap());
    }

    #[test]
    fn what_is_not_a_window_is_said_with_what_is() {
        let wrong = |text: &str| read(text).unwrap_err().to_string();
        expect![[r#"
            `Funday` in a reboot window; write days, a time and a length, such as `Mon-Fri 03:00 2h Europe/Berlin`, and a comma between windows
            the reboot window `Mon` has no time; write it as `Mon-Fri 03:00 2h`
            the reboot window `Mon 03:00` has no length; write it as `Mon-Fri 03:00 2h`
            `25:00` in a reboot window; write days, a time and a length, such as `Mon-Fri 03:00 2h Europe/Berlin`, and a comma between windows
            `0s` as the length of a reboot window; write 1m to 168h, such as `1h30m`
            `200h` as the length of a reboot window; write 1m to 168h, such as `1h30m`
            the time zone `Mars/North` is not known; write an IANA name such as `Europe/Berlin`
            `more` in a reboot window; write days, a time and a length, such as `Mon-Fri 03:00 2h Europe/Berlin`, and a comma between windows"#]]
        .assert_eq(&[
            wrong("Funday 03:00 1h"),
            wrong("Mon"),
            wrong("Mon 03:00"),
            wrong("25:00 1h"),
            wrong("03:00 0s"),
            wrong("03:00 200h"),
            wrong("03:00 1h Mars/North"),
            wrong("03:00 1h Europe/Berlin more"),
        ].join("\n"));
    }

    proptest! {
        #[test]
        fn a_window_that_is_closed_opens_when_it_says(
            second in 1_700_000_000i64..1_900_000_000,
            days in prop::collection::vec(0usize..7, 1..4),
            hour in 0..24, minute in 0..60, length in 1..600,
        ) {
            let days: Vec<&str> = days.iter().map(|day| WEEK[*day].0).collect();
            let text = format!(
                "{} {hour}:{minute:02} {length}m Europe/Berlin", days.join(" ")
            );
            let windows = read(&text).unwrap();
            let now = Timestamp::from_second(second).unwrap();
            let opens = next(&windows, now).unwrap();
            prop_assert!(opens > now && is_open(&windows, opens), "{text}");
            if !is_open(&windows, now) {
                let before = opens - SignedDuration::from_secs(1);
                prop_assert!(!is_open(&windows, before), "{text}");
            }
        }

        #[test]
        fn no_text_breaks_the_reader(text in "[A-Za-z0-9:,;. +-]{0,40}") {
            let _ = read(&text);
        }
    }
}
