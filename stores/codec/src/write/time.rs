//! Times of day, moments and zones.

use std::fmt::Write as _;

use super::Writer;
use crate::time::{Date, Offset, Time, Zone};

impl Writer {
    pub(super) fn moment(&mut self, date: Option<&Date>, time: &Time) {
        if !time.is_plain() {
            self.text.push_str("{\"at\":");
        }
        self.text.push('"');
        if let Some(date) = date {
            let _ = write!(self.text, "{date}T");
        }
        let _ = write!(self.text, "{time}");
        self.text.push('"');
        if !time.is_plain() {
            if time.fold {
                self.text.push_str(",\"fold\":1");
            }
            if let Some(zone) = time.zone.as_ref().filter(|zone| zone.plain().is_none()) {
                self.text.push(',');
                self.zone(zone);
            }
            self.text.push('}');
        }
    }

    /// The members that say a zone.
    pub(super) fn zone(&mut self, zone: &Zone) {
        match zone {
            Zone::Key(key) => {
                self.text.push_str("\"zone\":");
                self.str(key);
            }
            Zone::Offset { micros, name } => {
                let _ = write!(self.text, "\"offset\":\"{}\"", Offset(*micros));
                if let Some(name) = name {
                    self.text.push_str(",\"name\":");
                    self.str(name);
                }
            }
        }
    }
}
