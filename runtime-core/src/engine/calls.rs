//! A function as something that is given batches and answers them later, whether it can do so by itself or not.

use std::collections::VecDeque;

use async_trait::async_trait;

use crate::contract::{Call, Event, Fault, Function, Outcome};
use crate::registry::BoxFuture;

/// The events of a batch, and what became of them.
type Answer = (Vec<Event>, Result<Vec<Outcome>, Fault>);

/// The function of a run, for its length.
pub(super) struct Calls<'a> {
    place: &'a mut Box<dyn Function>,
    /// For a function that takes one batch at a time: those that wait, the one that it works on, and its answer.
    waiting: VecDeque<(Vec<Event>, Call)>,
    working: Option<BoxFuture<'static, (Box<dyn Function>, Answer)>>,
    answer: Option<Answer>,
    /// For one that has a pipeline: the events that it was given.
    given: VecDeque<Vec<Event>>,
}

impl<'a> Calls<'a> {
    pub(super) const fn new(place: &'a mut Box<dyn Function>) -> Self {
        Self { place, waiting: VecDeque::new(), working: None, answer: None, given: VecDeque::new() }
    }

    /// The function itself, where nothing is given and not taken.
    pub(super) const fn idle(&mut self) -> &mut Box<dyn Function> {
        self.place
    }

    /// Whether it can be given a batch before it has answered the one before; only where nothing is given.
    pub(super) fn is_pipelined(&mut self) -> bool {
        !self.given.is_empty() || self.place.pipeline().is_some()
    }

    pub(super) async fn give(&mut self, events: Vec<Event>, call: Call) {
        if let Some(pipeline) = self.place.pipeline() {
            pipeline.give(events.as_slice().into(), call).await;
            self.given.push_back(events);
            return;
        }
        self.waiting.push_back((events, call));
        self.work();
    }

    fn work(&mut self) {
        if self.working.is_some() || self.answer.is_some() {
            return;
        }
        if let Some((events, call)) = self.waiting.pop_front() {
            let mut function = std::mem::replace(self.place, Box::new(Away));
            self.working = Some(Box::pin(async move {
                let outcomes = function.invoke(&events, call).await;
                (function, (events, outcomes))
            }));
        }
    }

    /// Resolves when it is time to take the oldest answer. May be dropped at any time.
    pub(super) async fn answered(&mut self) {
        if self.answer.is_some() {
            return;
        }
        match &mut self.working {
            Some(working) => {
                let (function, answer) = working.await;
                *self.place = function;
                self.working = None;
                self.answer = Some(answer);
            }
            None => match self.place.pipeline() {
                Some(pipeline) => pipeline.answered().await,
                None => std::future::pending().await,
            },
        }
    }

    /// The events of the oldest batch, and their outcomes.
    pub(super) async fn take(&mut self) -> Answer {
        if let Some(events) = self.given.pop_front() {
            return match self.place.pipeline() {
                Some(pipeline) => (events, pipeline.take().await),
                None => (events, Err(Fault::internal("a function that was given batches takes none any more"))),
            };
        }
        if self.answer.is_none() && self.working.is_none() {
            return (Vec::new(), Err(Fault::internal("an answer is wanted of a function that was given nothing")));
        }
        self.answered().await;
        let answer = self.answer.take().unwrap_or_else(|| (Vec::new(), Err(Fault::internal("an answer has gone"))));
        self.work();
        answer
    }
}

/// Stands where a function stands that works.
struct Away;

#[async_trait]
impl Function for Away {
    async fn invoke(&mut self, _: &[Event], _: Call) -> Result<Vec<Outcome>, Fault> {
        Err(Fault::internal("a function was called while it works"))
    }
}
