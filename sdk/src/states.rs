//! States of types: live ones, and those of the version before that nobody has asked for yet.

use std::any::{Any, type_name};
use std::cell::Cell;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::context::State;
use crate::panics;

/// The entry that holds all of them: an object, from the type's name to the state.
pub(crate) const STATES: &str = "gaugefn.states";

#[derive(Default)]
pub(crate) struct States {
    /// One slot per type; a function has one or two, so that a list is the quickest map.
    live: Vec<Slot>,
    /// By the type's name. What no version asks for is handed on as it is.
    carried: BTreeMap<String, Box<RawValue>>,
}

struct Slot {
    name: &'static str,
    value: Box<dyn Any + Send>,
    save: fn(&dyn Any) -> Result<Box<RawValue>, String>,
    /// Whether it could not be written when it was last tried.
    lost: Cell<bool>,
}

impl States {
    /// Of the text that [`save`](Self::save) made.
    pub(crate) fn carried(text: &str) -> serde_json::Result<Self> {
        Ok(Self { live: Vec::new(), carried: serde_json::from_str(text)? })
    }

    /// Puts others in the place of these. What could not be written is in no text, and stays.
    pub(crate) fn replace(&mut self, others: Self) {
        self.live.retain(|slot| slot.lost.get());
        self.carried = others.carried;
    }

    /// Makes the state of a type where there is none yet; answers why that of the version before could not be read.
    pub(crate) fn prepare<T: State>(&mut self) -> Option<String> {
        if self.live.iter().any(|slot| slot.value.is::<T>()) {
            return None;
        }
        let name = type_name::<T>();
        // taken in any case, so that an unreadable one is told of once
        let carried = self.carried.remove(name);
        let read = carried.map(|text| match panics::caught(|| serde_json::from_str::<T>(text.get())) {
            Ok(Ok(state)) => Ok(state),
            Ok(Err(error)) => Err(error.to_string()),
            Err(panic) => Err(panic.line),
        });
        let (state, unreadable) = match read {
            None => (T::default(), None),
            Some(Ok(state)) => (state, None),
            Some(Err(reason)) => {
                let told = format!("the state {name} of the version before cannot be read, it begins anew: {reason}");
                (T::default(), Some(told))
            }
        };
        self.live.push(Slot { name, value: Box::new(state), save: save::<T>, lost: Cell::new(false) });
        unreadable
    }

    /// The state of a type that [`prepare`](Self::prepare) was called for.
    pub(crate) fn get<T: State>(&mut self) -> &mut T {
        let found = self.live.iter_mut().find_map(|slot| slot.value.downcast_mut());
        found.expect("the slot was there, or was just made")
    }

    /// The text of all that can be written, `None` where there is nothing; and what cannot, with the reason.
    pub(crate) fn save(&self) -> (Option<String>, Vec<(String, String)>) {
        let mut lost = Vec::new();
        let mut texts: BTreeMap<&str, _> =
            self.carried.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
        for slot in &self.live {
            let saved = panics::caught(|| (slot.save)(&*slot.value)).unwrap_or_else(|panic| Err(panic.line));
            let saved = saved.and_then(|text| match texts.insert(slot.name, text) {
                None => Ok(()),
                Some(_) => Err("another type has the same name".to_owned()),
            });
            slot.lost.set(saved.is_err());
            lost.extend(saved.err().map(|reason| (slot.name.to_owned(), reason)));
        }
        let texts = (!texts.is_empty()).then_some(texts);
        (texts.map(|texts| serde_json::to_string(&texts).expect("texts of JSON are JSON")), lost)
    }
}

fn save<T: State>(state: &dyn Any) -> Result<Box<RawValue>, String> {
    let state = state.downcast_ref::<T>().expect("the slot was made for this type");
    let text = serde_json::value::to_raw_value(state).map_err(|error| error.to_string())?;
    // NaN and infinity are written so, and are read by no number
    if text.get().contains("null") {
        serde_json::from_str::<T>(text.get()).map_err(|error| format!("what it writes cannot be read: {error}"))?;
    }
    Ok(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Context, Level};
    use serde::{Deserialize, Serialize};
    use std::collections::HashMap;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Window(Vec<f64>);

    fn texts(entries: &[(&str, &str)]) -> Vec<(String, String)> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_later_version_goes_on_with_env_and_the_states_of_types() {
        let mut old = Context::for_tests();
        old.env.insert("n".to_owned(), serde_json::json!({"a": [1.0, 7]}));
        old.state::<Window>().0.push(0.1);
        *old.state::<u64>() = u64::MAX;
        let saved = old.save();
        assert_eq!(saved.lost, []);
        assert_eq!(saved.entries[0], ("n".to_owned(), r#"{"a":[1.0,7]}"#.to_owned()));

        let mut new = Context::for_tests();
        *new.state::<u64>() = 5;
        new.load(saved.entries.clone()).unwrap();
        // nobody has asked for a state yet
        assert_eq!(new.save(), saved);
        assert_eq!(new.state::<u64>(), &u64::MAX);
        assert_eq!(new.env, old.env);
        assert_eq!(new.save(), saved);
        assert_eq!(new.state::<Window>(), &Window(vec![0.1]));
        assert!(new.logged().is_empty(), "{:?}", new.logged());

        new.load([]).unwrap();
        assert_eq!(new.save(), Default::default());
        assert_eq!(new.state::<u64>(), &0);
    }

    #[test]
    fn an_unreadable_state_is_told_of_once_and_begins_anew() {
        let mut context = Context::for_tests();
        context.load(texts(&[(STATES, r#"{"u64": "seven", "i8": 7}"#)])).unwrap();
        assert_eq!((*context.state::<u64>(), *context.state::<u64>()), (0, 0));
        let [logged] = context.logged() else { panic!("{:?}", context.logged()) };
        assert_eq!(logged.level, Level::Error);
        let start = "the state u64 of the version before cannot be read, it begins anew: invalid type: string";
        assert!(logged.text.starts_with(start), "{}", logged.text);
        assert_eq!(context.save().entries, texts(&[(STATES, r#"{"i8":7,"u64":0}"#)]));

        #[derive(Default, Serialize)]
        struct Bomb;
        impl<'de> Deserialize<'de> for Bomb {
            fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
                panic!("no")
            }
        }
        context.load(texts(&[(STATES, &format!(r#"{{"{}": 1}}"#, type_name::<Bomb>()))])).unwrap();
        context.state::<Bomb>();
        assert!(context.logged()[1].text.ends_with(": no"), "{:?}", context.logged());
    }

    #[test]
    fn what_cannot_be_written_is_named_and_the_rest_is_there() {
        let mut context = Context::for_tests();
        context.state::<HashMap<(u8, u8), u8>>().insert((1, 2), 3);
        context.state::<Window>().0.push(f64::NAN);
        *context.state::<Option<u8>>() = None;
        context.env.insert(STATES.to_owned(), 1.into());
        let saved = context.save();
        assert_eq!(saved.entries, texts(&[(STATES, r#"{"core::option::Option<u8>":null}"#)]));
        let lost: Vec<_> = saved.lost.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
        assert_eq!(lost[0], "gaugefn.states: the key is reserved: use another one");
        assert!(lost[1].contains("HashMap") && lost[1].ends_with(": key must be a string"), "{}", lost[1]);
        // and stays where the rest is replaced
        context.load([]).unwrap();
        assert_eq!((context.state::<Window>().0.len(), context.save().entries.len()), (1, 0));
        assert!(lost[2].contains("Window: what it writes cannot be read: invalid type: null"), "{}", lost[2]);
    }

    #[test]
    fn what_is_no_json_is_refused_and_nothing_changes() {
        let mut context = Context::for_tests();
        *context.state::<u64>() = 5;
        for (key, value) in [("a", "{"), (STATES, "[]")] {
            let reason = context.load(texts(&[("b", "1"), (key, value)])).unwrap_err();
            assert!(reason.starts_with(&format!("the value of '{key}' cannot be read: ")), "{reason}");
        }
        assert_eq!((context.env.len(), *context.state::<u64>()), (0, 5));
    }
}
