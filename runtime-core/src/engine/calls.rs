//! A function as something that is given batches and answers them later, whether it can do so by itself or not.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;

use crate::contract::{Call, Event, Fault, Function, Outcome};
use crate::registry::BoxFuture;

type Invoked = (Box<dyn Function>, Result<Vec<Outcome>, Fault>);

/// The function of a run, for its length.
pub(super) struct Calls<'a> {
    place: &'a mut Box<dyn Function>,
    /// For a function that takes one batch at a time: those that wait, the one that it works on, and its answer.
    waiting: VecDeque<(Arc<[Event]>, Call)>,
    working: Option<BoxFuture<'static, Invoked>>,
    answer: Option<Result<Vec<Outcome>, Fault>>,
}

impl<'a> Calls<'a> {
    pub(super) const fn new(place: &'a mut Box<dyn Function>) -> Self {
        Self { place, waiting: VecDeque::new(), working: None, answer: None }
    }

    /// The function itself, where nothing is given and not taken.
    pub(super) const fn idle(&mut self) -> &mut Box<dyn Function> {
        self.place
    }

    pub(super) async fn give(&mut self, events: Arc<[Event]>, call: Call) {
        if let Some(pipeline) = self.place.pipeline() {
            return pipeline.give(events, call).await;
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
                (function, outcomes)
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
                let (function, outcomes) = working.await;
                *self.place = function;
                self.working = None;
                self.answer = Some(outcomes);
            }
            None => match self.place.pipeline() {
                Some(pipeline) => pipeline.answered().await,
                None => std::future::pending().await,
            },
        }
    }

    /// The outcomes of the oldest batch.
    pub(super) async fn take(&mut self) -> Result<Vec<Outcome>, Fault> {
        if self.answer.is_none() && self.working.is_none() {
            return match self.place.pipeline() {
                Some(pipeline) => pipeline.take().await,
                None => Err(Fault::internal("an answer is wanted of a function that was given nothing")),
            };
        }
        self.answered().await;
        let answer = self.answer.take().unwrap_or_else(|| Err(Fault::internal("an answer has gone")));
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
