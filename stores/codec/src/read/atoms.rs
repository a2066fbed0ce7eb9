//! What tags say of values without parts.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Reader, needed};
use crate::build::Build;
use crate::error::{Error, Reason, unfit};
use crate::scan::Scan;
use crate::time::{self, Time, Zone};
use crate::value::{Atom, Float};

impl<'a, B: Build> Reader<'a, '_, B> {
    pub(super) fn float(&mut self) -> Result<Float, Error> {
        if !self.scan.take(b'{') {
            let text = self.scan.number()?;
            return text.parse().map(Float).map_err(|_| unfit(format!("{text} is no float")).into());
        }
        if self.scan.string()? != "$float" {
            return Err(self.scan.wrong("a float, or the tag $float").into());
        }
        self.scan.expect(b':', "a colon")?;
        let float = self.special_float()?;
        self.scan.expect(b'}', "the end of the object")?;
        Ok(float)
    }

    pub(super) fn special_float(&mut self) -> Result<Float, Error> {
        match &*self.scan.string()? {
            "nan" => Ok(Float(f64::NAN)),
            "inf" => Ok(Float(f64::INFINITY)),
            "-inf" => Ok(Float(f64::NEG_INFINITY)),
            other => Err(unfit(format!("'{other}' is none of nan, inf and -inf")).into()),
        }
    }

    pub(super) fn complex(&mut self) -> Result<Atom<'static>, Error> {
        self.scan.expect(b'[', "[real,imaginary]")?;
        let real = self.float()?;
        self.scan.expect(b',', "the imaginary part")?;
        let imaginary = self.float()?;
        self.scan.expect(b']', "the end of the number")?;
        Ok(Atom::Complex(real, imaginary))
    }

    pub(super) fn timedelta(&mut self) -> Result<Atom<'static>, Error> {
        self.scan.expect(b'[', "[days,seconds,microseconds]")?;
        let days = self.whole("a number of days")?;
        self.scan.expect(b',', "the seconds")?;
        let seconds = self.whole("a number of seconds")?;
        self.scan.expect(b',', "the microseconds")?;
        let micros = self.whole("a number of microseconds")?;
        self.scan.expect(b']', "the end of the duration")?;
        if seconds >= 86_400 || micros >= 1_000_000 {
            return Err(unfit("seconds are below 86400 and microseconds below 1000000").into());
        }
        Ok(Atom::TimeDelta { days, seconds, micros })
    }

    pub(super) fn big_int(&mut self) -> Result<Cow<'a, str>, Error> {
        let text = self.scan.string()?;
        let digits = text.strip_prefix('-').unwrap_or(&text).strip_prefix("0x");
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        match digits {
            Some(digits) if !digits.is_empty() && digits.bytes().all(hex) => Ok(text),
            _ => Err(unfit(format!("'{text}' is no integer such as 0x10000000000000000")).into()),
        }
    }

    pub(super) fn base64(&mut self) -> Result<Vec<u8>, Error> {
        let text = self.scan.string()?;
        STANDARD.decode(&*text).map_err(|error| unfit(format!("no base64: {error}")).into())
    }

    pub(super) fn surrogates(&mut self) -> Result<Atom<'static>, Error> {
        let data = self.base64()?;
        match String::from_utf8(data) {
            Ok(text) => Ok(Atom::Str(text.into())),
            Err(error) if has_surrogates(error.as_bytes()) => Ok(Atom::Surrogates(error.into_bytes().into())),
            Err(_) => Err(unfit("neither UTF-8 nor UTF-8 with lone surrogates").into()),
        }
    }

    /// A text, or an object with `at` and what a text does not say.
    pub(super) fn moment<T>(
        &mut self,
        parse: fn(&str) -> Result<T, Reason>,
        time: impl FnOnce(&mut T) -> &mut Time,
    ) -> Result<T, Error> {
        if self.scan.peek() == Some(b'"') {
            return Ok(parse(&self.scan.string()?)?);
        }
        let (mut at, mut fold, mut zone) = (None, 0, ZoneParts::default());
        self.members(["at", "fold", "offset", "name", "zone"], |reader, member| {
            match member {
                0 => at = Some(parse(&reader.scan.string()?)?),
                1 => fold = reader.whole("a fold; write 0 or 1")?,
                _ => zone.read(&mut reader.scan, member - 2)?,
            }
            Ok(())
        })?;
        let mut moment = needed(at, "at")?;
        let inner = time(&mut moment);
        inner.fold = match fold {
            0 => false,
            1 => true,
            other => return Err(unfit(format!("{other} is not a fold; write 0 or 1")).into()),
        };
        match (zone.finish()?, &inner.zone) {
            (Some(_), Some(_)) => return Err(unfit("two zones: one in 'at', one beside it").into()),
            (Some(zone), None) => inner.zone = Some(zone),
            (None, _) => {}
        }
        Ok(moment)
    }

    pub(super) fn zone(&mut self) -> Result<Zone, Error> {
        if self.scan.peek() == Some(b'"') {
            return Ok(Zone::Offset { micros: time::offset(&self.scan.string()?)?, name: None });
        }
        let mut zone = ZoneParts::default();
        self.members(["offset", "name", "zone"], |reader, member| Ok(zone.read(&mut reader.scan, member)?))?;
        needed(zone.finish()?, "offset' or 'zone")
    }
}

/// The members of an object that say a zone.
#[derive(Default)]
struct ZoneParts {
    offset: Option<i64>,
    name: Option<String>,
    key: Option<String>,
}

impl ZoneParts {
    /// The member of this number in the order `offset`, `name`, `zone`.
    fn read(&mut self, scan: &mut Scan<'_>, member: usize) -> Result<(), Reason> {
        let text = scan.string()?;
        match member {
            0 => self.offset = Some(time::offset(&text)?),
            1 => self.name = Some(text.into_owned()),
            _ => self.key = Some(text.into_owned()),
        }
        Ok(())
    }

    fn finish(self) -> Result<Option<Zone>, Reason> {
        match (self.offset, self.name, self.key) {
            (None, None, None) => Ok(None),
            (Some(micros), name, None) => Ok(Some(Zone::Offset { micros, name })),
            (None, None, Some(key)) => Ok(Some(Zone::Key(key))),
            _ => Err(unfit("a zone is an 'offset', with or without a 'name', or a 'zone'")),
        }
    }
}

/// UTF-8 in which code points between U+D800 and U+DFFF are encoded like others.
fn has_surrogates(mut data: &[u8]) -> bool {
    while let Err(error) = std::str::from_utf8(data) {
        match &data[error.valid_up_to()..] {
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, rest @ ..] => data = rest,
            _ => return false,
        }
    }
    true
}
