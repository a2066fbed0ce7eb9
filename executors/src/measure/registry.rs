//! Which names and series there are on the page of this process.

use std::collections::{HashMap, HashSet};
use std::sync::{LazyLock, Mutex, PoisonError};

use super::{Kind, Series};

/// Series of one function: a distribution is one, whatever it has of buckets.
const MOST: usize = 1000;

/// Metrics of the runtime whose names begin as those of functions do.
const OWN: [&str; 1] = ["info"];

/// What a distribution is made of on the page.
const PARTS: [&str; 3] = ["_sum", "_count", "_bucket"];

static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);

/// Series that another process has admitted.
static ADMITTED: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

/// Whether the series may be on the page; from now on it is.
///
/// # Errors
/// Why not, and what to do.
pub(crate) fn admit(series: &Series<'_>) -> Result<(), String> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner).admit(series)
}

/// Asks about a series that is new to this process.
///
/// # Errors
/// As [`admit`].
pub(super) fn once(series: &Series<'_>, ask: impl Fn(&Series<'_>) -> Result<(), String>) -> Result<(), String> {
    let key = key(series);
    let admitted = || ADMITTED.lock().unwrap_or_else(PoisonError::into_inner);
    if !admitted().contains(&key) {
        ask(series)?;
        admitted().insert(key);
    }
    Ok(())
}

/// Everything that tells it from others.
fn key(series: &Series<'_>) -> String {
    let mut key = format!("{} {}", series.kind, series.name);
    for (label, text) in series.labels {
        // no name has either, and the length says where a text ends
        key.push_str(&format!(" {label}={}={text}", text.len()));
    }
    key
}

#[derive(Default)]
struct Registry {
    /// By which method a name is used, and by which function first.
    names: HashMap<String, (Kind, String)>,
    functions: HashMap<String, HashSet<String>>,
}

impl Registry {
    fn admit(&mut self, series: &Series<'_>) -> Result<(), String> {
        let key = key(series);
        if self.functions.get(series.function).is_some_and(|known| known.contains(&key)) {
            return Ok(());
        }
        self.check_name(series)?;
        let known = self.functions.entry(series.function.to_owned()).or_default();
        if known.len() == MOST {
            let labels: Vec<_> = series.labels.iter().map(|(label, text)| format!("{label}={text:?}")).collect();
            return Err(format!(
                "the function has {MOST} series, and {} would be one more; give labels few values, and put what has \
                 many into results or logs",
                if labels.is_empty() { "this".to_owned() } else { labels.join(", ").chars().take(200).collect() }
            ));
        }
        known.insert(key);
        if !self.names.contains_key(series.name) {
            self.names.insert(series.name.to_owned(), (series.kind, series.function.to_owned()));
        }
        Ok(())
    }

    fn check_name(&self, series: &Series<'_>) -> Result<(), String> {
        let (name, kind) = (series.name, series.kind);
        if OWN.contains(&name) {
            return Err(format!("'{name}' is a metric of the runtime; use another name"));
        }
        let by = |function: &str| {
            if function == series.function { String::new() } else { format!(" by function '{function}'") }
        };
        match self.names.get(name) {
            Some((known, function)) if *known != kind => {
                return Err(format!(
                    "the name was used for another kind before, with {known}{}; {kind} needs a name of its own",
                    by(function)
                ));
            }
            Some(_) => return Ok(()),
            None => {}
        }
        if kind == Kind::Observe {
            for part in PARTS {
                if let Some((known, function)) = self.names.get(&format!("{name}{part}")) {
                    return Err(format!(
                        "a distribution has a part '{name}{part}', and that name was used before, with {known}{}; use \
                         another name",
                        by(function)
                    ));
                }
            }
        }
        let whole = PARTS
            .iter()
            .find_map(|part| name.strip_suffix(part))
            .and_then(|whole| Some((whole, self.names.get(whole)?)));
        match whole {
            Some((whole, (Kind::Observe, function))) => Err(format!(
                "the name is that of a part of the distribution '{whole}', measured with observe(){}; use another name",
                by(function)
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn admit(registry: &mut Registry, function: &str, kind: Kind, name: &str, labels: &[(&str, &str)]) -> String {
        let labels: Vec<_> = labels.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        registry.admit(&Series { function, kind, name, labels: &labels }).err().unwrap_or_default()
    }

    #[test]
    fn names_meet_neither_each_other_nor_parts_nor_the_runtimes_own() {
        let mut all = Registry::default();
        let mut take = |function, kind, name| admit(&mut all, function, kind, name, &[]);
        assert_eq!(take("a", Kind::Count, "calls"), "");
        assert_eq!(take("b", Kind::Count, "calls"), "");
        assert_eq!(
            take("a", Kind::Gauge, "calls"),
            "the name was used for another kind before, with count(); gauge() needs a name of its own"
        );
        assert_eq!(
            take("b", Kind::Observe, "calls"),
            "the name was used for another kind before, with count() by function 'a'; observe() needs a name of its own"
        );
        assert_eq!(take("a", Kind::Observe, "size"), "");
        for name in ["size_sum", "size_count", "size_bucket"] {
            assert_eq!(
                take("b", Kind::Gauge, name),
                "the name is that of a part of the distribution 'size', measured with observe() by function 'a'; use \
                 another name"
            );
        }
        assert_eq!(take("a", Kind::Gauge, "load_count"), "");
        assert!(take("a", Kind::Observe, "load").starts_with("a distribution has a part 'load_count', and that name"));
        assert_eq!(take("a", Kind::Gauge, "info"), "'info' is a metric of the runtime; use another name");
    }

    #[test]
    fn a_function_has_so_many_series_and_others_have_theirs() {
        let mut all = Registry::default();
        for n in 0..MOST {
            assert_eq!(admit(&mut all, "a", Kind::Count, "calls", &[("n", &n.to_string())]), "");
        }
        assert_eq!(
            admit(&mut all, "a", Kind::Count, "calls", &[("n", "x\"")]),
            "the function has 1000 series, and n=\"x\\\"\" would be one more; give labels few values, and put what has \
             many into results or logs"
        );
        assert!(admit(&mut all, "a", Kind::Gauge, "other", &[]).contains("and this would be one more"));
        assert_eq!(admit(&mut all, "a", Kind::Count, "calls", &[("n", "7")]), "", "it is one of them");
        assert_eq!(admit(&mut all, "b", Kind::Count, "calls", &[("n", "x")]), "");
    }
}
