//! The date of the manual pages: that of the release, or of the build as long as there is none.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// As mdoc(7) wants it: "March 5, 2026".
pub(crate) fn of_release(changelog: &str, version: &str) -> String {
    let heading = format!("## [{version}] - ");
    let released = changelog.lines().find_map(|line| line.strip_prefix(&heading)).and_then(parse);
    let (year, month, day) = released.unwrap_or_else(|| civil(seconds() / 86_400));
    format!("{} {day}, {year}", MONTHS[month - 1])
}

/// "2026-03-05"; "unreleased" is none.
fn parse(date: &str) -> Option<(u64, usize, u64)> {
    let mut parts = date.trim().splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    Some((year.parse().ok()?, month.parse().ok().filter(|month| (1..=12).contains(month))?, day.parse().ok()?))
}

/// The time of the build, which may be fixed so that two builds give the same.
fn seconds() -> u64 {
    let fixed = env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    fixed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// Year, month and day of the day that begins `days` after 1 January 1970.
fn civil(mut days: u64) -> (u64, usize, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month + 1, days + 1)
}
