//! What the function prints and logs, and what the runtime itself has to say in a worker, as records for the parent.

use std::fmt::{Debug, Write};
use std::os::fd::OwnedFd;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::super::records::{OWN, Sender};

/// From now on everything that is logged in this process goes into the records pipe.
pub(super) fn begin(pipe: OwnedFd) {
    // nothing has been logged before, and nothing else is going to take the place
    let _ = tracing::subscriber::set_global_default(Speech(Sender::new(pipe)));
}

struct Speech(Sender);

impl Subscriber for Speech {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // the parent's filter decides about lines of the function; of the runtime's own, what concerns users is enough
        metadata.target() == "function" || *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        let own = event.metadata().target() != "function";
        let mut parts = Parts { own, ..Parts::default() };
        event.record(&mut parts);
        let stream = if own { OWN } else { &parts.stream };
        self.0.send(*event.metadata().level(), &parts.event, stream, &parts.text);
    }

    // nobody opens spans here
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Parts {
    own: bool,
    event: String,
    stream: String,
    text: String,
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "event" => value.clone_into(&mut self.event),
            "stream" => value.clone_into(&mut self.stream),
            // the parent knows whose worker this is
            "function" => {}
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // writing to a string cannot fail
        match field.name() {
            // before the fields, as a rule
            "message" if self.text.is_empty() => drop(write!(self.text, "{value:?}")),
            "message" => self.text.insert_str(0, &format!("{value:?}")),
            "function" => {}
            name if self.own => drop(write!(self.text, " {name}={value:?}")),
            _ => {}
        }
    }
}
