//! What a panic said and where, kept from the hook until the shim that catches it asks.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

/// A caught panic.
pub(crate) struct Panic {
    /// One line: the text's first line with file and line.
    pub(crate) line: String,
    /// The whole text with its place; the stack too, where `RUST_BACKTRACE` asks for it.
    pub(crate) report: String,
}

/// Where this thread's last panic was; `None` outside of [`caught`].
enum Watch {
    Off,
    On(Option<Place>),
}

struct Place {
    at: String,
    stack: Option<String>,
}

thread_local! {
    static WATCH: RefCell<Watch> = const { RefCell::new(Watch::Off) };
}

/// Runs `work`; a panic in it is an error and is not printed.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panic> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !noted(info) {
                before(info);
            }
        }));
    });
    let outer = WATCH.replace(Watch::On(None));
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    let watched = WATCH.replace(outer);
    result.map_err(|payload| {
        let place = if let Watch::On(place) = watched { place } else { None };
        let text = text(&*payload);
        // what a panic carries may itself panic when it is dropped
        if let Err(second) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(second);
        }
        told(&text, place)
    })
}

/// Whether the panic is one that [`caught`] will catch.
fn noted(info: &PanicHookInfo<'_>) -> bool {
    WATCH
        .try_with(|watch| {
            let Ok(mut watch) = watch.try_borrow_mut() else { return false };
            let Watch::On(place) = &mut *watch else { return false };
            let at = info.location().map_or_else(
                || "an unknown place".to_owned(),
                |location| format!("{}:{}:{}", location.file(), location.line(), location.column()),
            );
            let stack = Backtrace::capture();
            let stack = (stack.status() == BacktraceStatus::Captured).then(|| stack.to_string());
            *place = Some(Place { at, stack });
            true
        })
        .unwrap_or(false)
}

fn text(payload: &(dyn Any + Send)) -> String {
    let literal = payload.downcast_ref::<&str>().copied();
    let text = literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a text").to_owned()
}

fn told(text: &str, place: Option<Place>) -> Panic {
    // a hook of the function's own has taken ours away
    let Place { at, stack } = place.unwrap_or(Place { at: "an unknown place".to_owned(), stack: None });
    let first = text.lines().next().unwrap_or_default();
    let stack = stack.map(|stack| format!("\n{stack}")).unwrap_or_default();
    Panic { line: format!("panicked at {at}: {first}"), report: format!("panicked at {at}:\n{text}{stack}") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn text_and_place_of_literal_formatted_and_other_panics() {
        let line = line!() + 1;
        let literal = caught(|| panic!("boom")).err().unwrap();
        assert_eq!(literal.line.rsplit_once(':').unwrap().1, " boom");
        assert!(literal.line.contains(&format!("panics.rs:{line}:")), "{}", literal.line);
        let formatted = caught(|| panic!("bad value {}\nsecond line", 7)).err().unwrap();
        assert!(formatted.line.ends_with(": bad value 7"), "{}", formatted.line);
        assert!(formatted.report.contains("bad value 7\nsecond line"), "{}", formatted.report);
        let other = caught(|| panic::panic_any(7)).err().unwrap();
        assert!(other.line.ends_with("a panic without a text"), "{}", other.line);
        assert_eq!(caught(|| 5).ok(), Some(5));
    }

    #[test]
    fn a_payload_that_panics_when_dropped_is_caught_as_well() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("second");
            }
        }
        let panic = caught(|| panic::panic_any(Bomb)).err().unwrap();
        assert!(panic.line.contains("panics.rs"), "{}", panic.line);
    }
}
