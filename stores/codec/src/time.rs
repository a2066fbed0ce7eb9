//! Days, times and zones as text: ISO 8601, with microseconds where there are any.

use std::fmt;

use crate::error::{Reason, unfit};

/// Microseconds of a second.
const SECOND: i64 = 1_000_000;

/// An offset lies strictly within a day, as in Python.
const DAY: i64 = 24 * 3600 * SECOND;

/// A day of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    /// 1 to 9999.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
}

/// A time of day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Time {
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// 0 to 999,999.
    pub micros: u32,
    /// The second of two equal times, where a clock is put back.
    pub fold: bool,
    /// The zone; `None` for a time that belongs to none.
    pub zone: Option<Zone>,
}

/// A moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DateTime {
    /// The day.
    pub date: Date,
    /// The time of that day.
    pub time: Time,
}

/// A time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Zone {
    /// Always the same offset; UTC is the one of 0 without a name.
    Offset {
        /// East of UTC, less than a day.
        micros: i64,
        /// What it was called.
        name: Option<String>,
    },
    /// One of the time zone database, such as `Europe/Berlin`.
    Key(String),
}

impl Zone {
    /// The offset, if that is all there is to it.
    pub(crate) fn plain(&self) -> Option<Offset> {
        match self {
            Self::Offset { micros, name: None } => Some(Offset(*micros)),
            _ => None,
        }
    }
}

impl Time {
    /// Whether the text says everything; otherwise fold and zone stand beside it.
    pub(crate) fn is_plain(&self) -> bool {
        !self.fold && self.zone.as_ref().is_none_or(|zone| zone.plain().is_some())
    }
}

/// `+02:00`
#[derive(Clone, Copy)]
pub(crate) struct Offset(pub(crate) i64);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// Without fold, and without a zone that is more than an offset.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}:{:02}", self.hour, self.minute, self.second)?;
        if self.micros != 0 {
            write!(f, ".{:06}", self.micros)?;
        }
        self.zone.as_ref().and_then(Zone::plain).map_or(Ok(()), |offset| write!(f, "{offset}"))
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}T{}", self.date, self.time)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { '-' } else { '+' };
        let all = self.0.abs();
        let (seconds, micros) = (all / SECOND, all % SECOND);
        write!(f, "{sign}{:02}:{:02}", seconds / 3600, seconds / 60 % 60)?;
        if seconds % 60 != 0 || micros != 0 {
            write!(f, ":{:02}", seconds % 60)?;
        }
        if micros != 0 { write!(f, ".{micros:06}") } else { Ok(()) }
    }
}

/// Reads a text from its begin.
struct Digits<'a> {
    whole: &'a str,
    rest: &'a [u8],
    wanted: &'static str,
}

impl<'a> Digits<'a> {
    fn new(whole: &'a str, wanted: &'static str) -> Self {
        Self { whole, rest: whole.as_bytes(), wanted }
    }

    fn wrong(&self) -> Reason {
        unfit(format!("'{}' is not {}", self.whole, self.wanted))
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.rest.first() == Some(&byte);
        self.rest = &self.rest[usize::from(found)..];
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), Reason> {
        if self.take(byte) { Ok(()) } else { Err(self.wrong()) }
    }

    /// A number of exactly this many digits, within these limits.
    fn number(&mut self, digits: usize, least: u32, most: u32) -> Result<u32, Reason> {
        let Some((number, rest)) = self.rest.split_at_checked(digits) else { return Err(self.wrong()) };
        if !number.iter().all(u8::is_ascii_digit) {
            return Err(self.wrong());
        }
        let value = number.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        self.rest = rest;
        if (least..=most).contains(&value) { Ok(value) } else { Err(self.wrong()) }
    }

    fn small(&mut self, least: u8, most: u8) -> Result<u8, Reason> {
        let number = self.number(2, least.into(), most.into())?;
        u8::try_from(number).map_err(|_| self.wrong())
    }

    fn date(&mut self) -> Result<Date, Reason> {
        let year = u16::try_from(self.number(4, 1, 9999)?).map_err(|_| self.wrong())?;
        self.expect(b'-')?;
        let month = self.small(1, 12)?;
        self.expect(b'-')?;
        Ok(Date { year, month, day: self.small(1, 31)? })
    }

    fn time(&mut self) -> Result<Time, Reason> {
        let hour = self.small(0, 23)?;
        self.expect(b':')?;
        let minute = self.small(0, 59)?;
        self.expect(b':')?;
        let second = self.small(0, 59)?;
        let micros = if self.take(b'.') { self.number(6, 0, 999_999)? } else { 0 };
        let zone = match self.rest.first() {
            Some(b'+' | b'-') => Some(Zone::Offset { micros: self.offset()?, name: None }),
            _ => None,
        };
        Ok(Time { hour, minute, second, micros, fold: false, zone })
    }

    fn offset(&mut self) -> Result<i64, Reason> {
        let negative = self.take(b'-');
        if !negative {
            self.expect(b'+')?;
        }
        let hours = i64::from(self.small(0, 23)?);
        self.expect(b':')?;
        let minutes = i64::from(self.small(0, 59)?);
        let seconds = if self.take(b':') { i64::from(self.small(0, 59)?) } else { 0 };
        let micros = if self.take(b'.') { i64::from(self.number(6, 0, 999_999)?) } else { 0 };
        let all = ((hours * 60 + minutes) * 60 + seconds) * SECOND + micros;
        debug_assert!(all < DAY, "each part is within its limits");
        Ok(if negative { -all } else { all })
    }

    fn end<T>(&self, value: T) -> Result<T, Reason> {
        if self.rest.is_empty() { Ok(value) } else { Err(self.wrong()) }
    }
}

pub(crate) fn date(text: &str) -> Result<Date, Reason> {
    let mut digits = Digits::new(text, "a date such as 2024-05-01");
    let date = digits.date()?;
    digits.end(date)
}

pub(crate) fn time(text: &str) -> Result<Time, Reason> {
    let mut digits = Digits::new(text, "a time such as 12:30:00, 12:30:00.000001 or 12:30:00+02:00");
    let time = digits.time()?;
    digits.end(time)
}

pub(crate) fn datetime(text: &str) -> Result<DateTime, Reason> {
    let mut digits = Digits::new(text, "a moment such as 2024-05-01T12:30:00, with or without .000001 and +02:00");
    let date = digits.date()?;
    digits.expect(b'T')?;
    let time = digits.time()?;
    digits.end(DateTime { date, time })
}

pub(crate) fn offset(text: &str) -> Result<i64, Reason> {
    let mut digits = Digits::new(text, "an offset such as +02:00");
    let offset = digits.offset()?;
    digits.end(offset)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn texts_read_back() {
        for text in
            ["00:00:00", "23:59:59.000001", "12:30:00+00:00", "12:30:00-11:30", "12:30:00.100000+00:00:01.000002"]
        {
            assert_eq!(time(text).unwrap().to_string(), text);
            let moment = format!("2024-02-29T{text}");
            assert_eq!(datetime(&moment).unwrap().to_string(), moment);
        }
        assert_eq!(date("0001-01-01").unwrap().to_string(), "0001-01-01");
        assert_eq!(offset("-23:59:59.999999").unwrap(), -(DAY - 1));
        assert_eq!(Offset(-1).to_string(), "-00:00:00.000001");
    }

    #[test]
    fn what_is_none_is_refused_with_an_example() {
        for text in
            ["", "24:00:00", "1:00:00", "12:60:00", "12:00", "12:00:00.5", "12:00:00Z", "12:00:00+2:00", "12:00:00 "]
        {
            assert!(time(text).unwrap_err().to_string().contains("such as 12:30:00"), "{text}");
        }
        for text in ["2024-13-01", "2024-1-01", "0000-01-01", "2024-01-00", "2024-01-01T", "٢٠٢٤-01-01"] {
            assert!(date(text).is_err(), "{text}");
        }
        let error = datetime("2024-05-01 12:00:00").unwrap_err().to_string();
        assert!(error.starts_with("'2024-05-01 12:00:00' is not a moment such as 2024-05-01T12:30:00"), "{error}");
    }
}
