//! `gaugefn dev`: live metrics of this machine through a function, to standard output.

use async_trait::async_trait;
use runtime_core::config::settings::{Isolation, LogOptions};
use runtime_core::contract::{Delivery, Facts, Fault, Output, Pull, Sink, Source};
use runtime_core::engine::{Board, End, assemble, run, stop};
use runtime_core::options::Span;

use super::{Context, local, refuse, refuse_all};
use crate::args::FunctionArgs;
use crate::signals::{self, Hangup};
use crate::{deployment, log};

pub(super) async fn dev(context: &Context, function: &FunctionArgs, every: Span, count: Option<u64>) -> u8 {
    let settings = match local::settings(function, &*context.variables, &every.to_string(), Isolation::Process) {
        Ok(settings) => settings,
        Err(problems) => return refuse_all(&problems),
    };
    log::start(&LogOptions::default());
    let around = context.surroundings(&settings, deployment::facts(&*context.variables));
    let board = Board::default();
    let (stopper, stop) = stop();
    if let Err(fault) = signals::listen(stopper, context.leave, Hangup::Stops) {
        return refuse(&fault);
    }
    let [function] = settings.functions.as_slice() else {
        return refuse(&Fault::internal("not exactly one function"));
    };
    let assembled = tokio::select! {
        assembled = assemble(function, &around, &board) => assembled,
        () = stop.requested() => (context.leave)(0),
    };
    let mut parts = match assembled {
        Ok(parts) => parts,
        Err(fault) => return refuse(&fault),
    };
    if let Some(left) = count {
        parts.source = Box::new(Limited { inner: parts.source, left });
    }
    parts.sinks = parts.sinks.into_iter().map(|(label, sink)| (label, Box::new(AtOnce(sink)) as _)).collect();
    match run(parts, stop, board, false).await {
        End::Stopped | End::Fenced | End::Exhausted => 0,
        End::Fault(fault) if local::reader_has_gone(&fault) => 0,
        End::Fault(fault) => refuse(&fault),
        End::NotDrained => (context.leave)(75),
        End::Policy { .. } => 76,
    }
}

/// Standard output of somebody who looks on: what it does not take at once is told, and not tried again.
struct AtOnce(Box<dyn Sink>);

#[async_trait]
impl Sink for AtOnce {
    async fn write(&mut self, outputs: &[Output]) -> Result<(), Fault> {
        let full = |fault: Fault| if fault.retry() { Fault::internal(fault.chain()).fatal() } else { fault };
        self.0.write(outputs).await.map_err(full)
    }

    fn facts(&self) -> Facts {
        self.0.facts()
    }
}

/// A source that ends after so many events.
struct Limited {
    inner: Box<dyn Source>,
    left: u64,
}

#[async_trait]
impl Source for Limited {
    fn delivery(&self) -> Delivery {
        self.inner.delivery()
    }

    async fn next_batch(&mut self, max: usize) -> Result<Pull, Fault> {
        if self.left == 0 {
            return Ok(Pull::Exhausted);
        }
        let room = usize::try_from(self.left).unwrap_or(max).min(max);
        let pull = self.inner.next_batch(room).await?;
        if let Pull::Batch(batch) = &pull {
            self.left -= batch.events.len() as u64;
        }
        Ok(pull)
    }

    async fn woken(&mut self) {
        self.inner.woken().await;
    }

    async fn check(&mut self) -> Result<(), Fault> {
        self.inner.check().await
    }

    fn facts(&self) -> Facts {
        self.inner.facts()
    }

    async fn close(&mut self) -> Result<(), Fault> {
        self.inner.close().await
    }
}
