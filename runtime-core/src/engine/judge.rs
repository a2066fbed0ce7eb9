//! Whether a result can go where its own text sends it. Found out before anything of its batch is written, so that it is
//! the call that has failed.

use std::sync::Arc;

use super::assemble::Parts;
use crate::config::Taken;
use crate::contract::{Event, Fault, Outcome, Output, Returned, Route, Sink};

/// Judges the results of one function.
#[derive(Default)]
pub(super) struct Judge {
    function: Arc<str>,
    /// Of the sinks whose results say where they go, by label.
    routes: Vec<(String, Arc<dyn Route>)>,
    taken: Taken,
}

impl Judge {
    pub(super) fn of(parts: &Parts) -> Self {
        let route = |(label, sink): &(String, Box<dyn Sink>)| Some((label.clone(), sink.route()?));
        Self {
            function: Arc::clone(&parts.name),
            routes: parts.sinks.iter().filter_map(route).collect(),
            taken: parts.taken.clone(),
        }
    }

    /// Makes those outcomes failed ones whose result a sink could never store; their places. Counts them where `last` says
    /// that they are not called again for the sake of others.
    pub(super) fn judge(&self, events: &[Event], outcomes: &mut [Outcome], last: bool) -> Vec<usize> {
        if self.routes.is_empty() {
            return Vec::new();
        }
        let mut places = Vec::new();
        for (place, (event, outcome)) in events.iter().zip(outcomes).enumerate() {
            let Returned::Output(payload) = &outcome.returned else { continue };
            let output = Output { event_id: event.id.clone(), event: event.payload.clone(), payload: payload.clone() };
            if let Some((label, fault)) = self.refuses(&output) {
                if last {
                    metrics::counter!("gaugefn_write_failures_total", "function" => self.function.to_string(), "sink" => label.to_owned())
                        .increment(1);
                }
                outcome.returned = Returned::Failed(fault);
                places.push(place);
            }
        }
        places
    }

    /// The sink that cannot store it, and why.
    fn refuses(&self, output: &Output) -> Option<(&str, Fault)> {
        self.routes.iter().find_map(|(label, route)| {
            let why = match route.address(output) {
                Ok(address) => self.taken.refuses(&self.function, &address)?,
                Err(fault) => fault.chain(),
            };
            Some((label.as_str(), Fault::function(format!("the result cannot be stored by sink '{label}': {why}"))))
        })
    }
}
