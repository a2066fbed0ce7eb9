//! What a function measured, on its way to the process whose metrics are read.

use std::hash::{Hash, Hasher};

use metrics::Label;
use serde::{Deserialize, Serialize};

use super::frame;
use super::rare::Rare;
use crate::measure::{Kind, arrived};

/// A metric with its labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// The whole name.
    pub name: String,
    /// In the order in which they were given.
    pub labels: Vec<(String, String)>,
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.labels.hash(state);
    }
}

/// One measurement. Values are bits: JSON has no NaN and no infinity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Measure {
    /// A counter has grown.
    Count {
        /// Which.
        name: Name,
        /// By this.
        value: u64,
    },
    /// A counter stands there at least.
    CountAt {
        /// Which.
        name: Name,
        /// Where.
        value: u64,
    },
    /// A gauge is there.
    Set {
        /// Which.
        name: Name,
        /// Where.
        #[serde(with = "bits")]
        value: f64,
    },
    /// A gauge has grown, or shrunk.
    Raise {
        /// Which.
        name: Name,
        /// By this.
        #[serde(with = "bits")]
        value: f64,
    },
    /// One value of a distribution.
    Observe {
        /// Which.
        name: Name,
        /// The value.
        #[serde(with = "bits")]
        value: f64,
    },
}

/// Measurements of one batch, and of what happened before it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// In their order, counters first.
    pub measures: Vec<Measure>,
}

impl Rare for Measures {
    const KIND: frame::Kind = frame::Kind::Measures;
}

impl Measures {
    /// Does in this process what was done in the other.
    pub fn replay(self) {
        let labels = |name: &mut Name| {
            std::mem::take(&mut name.labels).into_iter().map(|(key, value)| Label::new(key, value)).collect::<Vec<_>>()
        };
        for measure in self.measures {
            let (kind, name) = match &measure {
                Measure::Count { name, .. } | Measure::CountAt { name, .. } => (Kind::Count, name),
                Measure::Set { name, .. } | Measure::Raise { name, .. } => (Kind::Gauge, name),
                Measure::Observe { name, .. } => (Kind::Observe, name),
            };
            if !arrived(kind, &name.name, &name.labels) {
                continue;
            }
            match measure {
                Measure::Count { mut name, value } => {
                    metrics::counter!(name.name.clone(), labels(&mut name)).increment(value)
                }
                Measure::CountAt { mut name, value } => {
                    metrics::counter!(name.name.clone(), labels(&mut name)).absolute(value)
                }
                Measure::Set { mut name, value } => metrics::gauge!(name.name.clone(), labels(&mut name)).set(value),
                Measure::Raise { mut name, value } => {
                    metrics::gauge!(name.name.clone(), labels(&mut name)).increment(value)
                }
                Measure::Observe { mut name, value } => {
                    metrics::histogram!(name.name.clone(), labels(&mut name)).record(value)
                }
            }
        }
    }
}

mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.to_bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn odd_numbers_arrive() {
        let name = || Name { name: "n".to_owned(), labels: vec![("a".to_owned(), "b".to_owned())] };
        let measures = [f64::INFINITY, -0.0, 1.5].map(|value| Measure::Set { name: name(), value });
        let sent = Measures { measures: measures.to_vec() };
        let text = serde_json::to_vec(&sent).unwrap();
        assert_eq!(serde_json::from_slice::<Measures>(&text).unwrap(), sent);
    }
}
