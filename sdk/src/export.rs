//! What may be exported: typed handlers over serde, and raw ones over bytes.

use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Context;

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handled {
    /// Nothing to store.
    Empty,
    /// The result, as JSON text.
    Output(Vec<u8>),
    /// The call failed, with this reason.
    Failed(String),
    /// The handler was not called: the event is not what it takes.
    Unusable(String),
}

/// A handler behind the border; [`export!`](crate::export!) makes one of each function that it is given.
pub trait Handler {
    /// Calls it with one event.
    fn handle(payload: &[u8], context: &mut Context) -> Handled;
}

/// Calls a typed handler: the event is parsed to its first argument, the result written as JSON. A result that is
/// `null` in JSON, such as `None` or `()`, is empty.
pub fn typed<T, R, E>(
    function: impl FnOnce(T, &mut Context) -> Result<R, E>,
    payload: &[u8],
    context: &mut Context,
) -> Handled
where
    T: DeserializeOwned,
    R: Serialize,
    E: Display,
{
    let event = match serde_json::from_slice(payload) {
        Ok(event) => event,
        Err(error) if error.is_data() => return Handled::Unusable(format!("the event does not fit: {error}")),
        Err(error) => return Handled::Unusable(format!("the event is not json: {error}")),
    };
    let result = match function(event, context) {
        Ok(result) => result,
        Err(error) => {
            context.confirm_execution();
            return Handled::Failed(error.to_string());
        }
    };
    match serde_json::to_vec(&result) {
        Ok(text) => {
            context.confirm_execution();
            if text == b"null" { Handled::Empty } else { Handled::Output(text) }
        }
        // not confirmed: the result cannot be stored
        Err(error) => Handled::Failed(format!("the result is not json: {error}")),
    }
}

/// Calls a raw handler: bytes in, bytes out, nothing is parsed. `None` is empty.
pub fn raw<E: Display>(
    function: impl FnOnce(&[u8], &mut Context) -> Result<Option<Vec<u8>>, E>,
    payload: &[u8],
    context: &mut Context,
) -> Handled {
    let result = function(payload, context);
    context.confirm_execution();
    match result {
        Ok(Some(text)) => Handled::Output(text),
        Ok(None) => Handled::Empty,
        Err(error) => Handled::Failed(error.to_string()),
    }
}

/// Exports functions of this library under the names that a configuration's `handler` chooses from. Once per library.
///
/// ```
/// # use gaugefn_sdk::Context;
/// # use serde_json::Value;
/// fn typed(event: Value, context: &mut Context) -> Result<Value, String> {
///     Ok(event)
/// }
///
/// fn bytes(event: &[u8], context: &mut Context) -> Result<Option<Vec<u8>>, String> {
///     Ok(Some(event.to_vec()))
/// }
///
/// gaugefn_sdk::export! {
///     handler = typed,
///     fast = bytes as raw,
/// }
/// ```
#[macro_export]
macro_rules! export {
    ($($name:ident = $function:path $(as $form:ident)?),+ $(,)?) => {
        const _: () = {
            static FUNCTIONS: &[$crate::abi::Function] = &[$({
                struct Exported;
                impl $crate::export::Handler for Exported {
                    fn handle(payload: &[u8], context: &mut $crate::Context) -> $crate::export::Handled {
                        $crate::__call!($function, payload, context $(, $form)?)
                    }
                }
                $crate::abi::Function::of::<Exported>(stringify!($name))
            }),+];
            const PANIC: u32 =
                if cfg!(panic = "unwind") { $crate::abi::PANIC_UNWIND } else { $crate::abi::PANIC_ABORT };

            // SAFETY: the names are gaugefn's own, and their content is what the documented layout wants
            #[allow(unsafe_code, non_upper_case_globals)]
            #[used]
            #[unsafe(link_section = ".note.gaugefn")]
            static NOTE: $crate::abi::Note = $crate::abi::Note::new(PANIC);

            // SAFETY: as above
            #[allow(unsafe_code, non_upper_case_globals)]
            #[used]
            #[unsafe(no_mangle)]
            static gaugefn_library: $crate::abi::Library = $crate::abi::Library::new(FUNCTIONS, PANIC);
        };
    };
}

/// The two forms that [`export!`] knows.
#[doc(hidden)]
#[macro_export]
macro_rules! __call {
    ($function:path, $payload:ident, $context:ident) => {
        $crate::export::typed($function, $payload, $context)
    };
    ($function:path, $payload:ident, $context:ident, raw) => {
        $crate::export::raw($function, $payload, $context)
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn echo(event: Value, _context: &mut Context) -> Result<Option<Value>, String> {
        if event == "fail" { Err("as asked".to_owned()) } else { Ok(Some(event).filter(|event| event != 0)) }
    }

    #[test]
    fn typed_handlers_parse_and_write() {
        let mut context = Context::for_tests();
        let mut call = |text: &str| typed(echo, text.as_bytes(), &mut context);
        assert_eq!(call(r#"{"a": 1.0}"#), Handled::Output(br#"{"a":1.0}"#.to_vec()));
        assert_eq!(call("0"), Handled::Empty);
        assert_eq!(call("null"), Handled::Empty);
        assert_eq!(call("\"fail\""), Handled::Failed("as asked".to_owned()));
        let Handled::Unusable(text) = call("{") else { panic!("unusable") };
        assert!(text.starts_with("the event is not json: "), "{text}");
        let number = |event: u8, _: &mut Context| Ok::<_, String>(event);
        let Handled::Unusable(text) = typed(number, b"300", &mut context) else { panic!("unusable") };
        assert!(text.starts_with("the event does not fit: "), "{text}");
    }

    #[test]
    fn a_call_whose_result_cannot_be_stored_is_not_confirmed() {
        let mut context = Context::for_tests();
        let odd = |_: Value, _: &mut Context| Ok::<_, String>(std::collections::HashMap::from([((1, 2), 3)]));
        let Handled::Failed(text) = typed(odd, b"1", &mut context) else { panic!("failed") };
        assert!(text.starts_with("the result is not json: "), "{text}");
        assert_eq!(context.last_execution(), None);
        assert_eq!(typed(echo, b"\"fail\"", &mut context), Handled::Failed("as asked".to_owned()));
        assert!(context.last_execution().is_some());
        assert_eq!(typed(echo, json!({}).to_string().as_bytes(), &mut context), Handled::Output(b"{}".to_vec()));
    }

    #[test]
    fn raw_handlers_see_the_bytes() {
        let mut context = Context::for_tests();
        let cut = |event: &[u8], _: &mut Context| match event {
            [] => Err("nothing"),
            [0, ..] => Ok(None),
            event => Ok(Some(event[1..].to_vec())),
        };
        assert_eq!(raw(cut, b"abc", &mut context), Handled::Output(b"bc".to_vec()));
        assert_eq!(raw(cut, b"\0", &mut context), Handled::Empty);
        assert_eq!(raw(cut, b"", &mut context), Handled::Failed("nothing".to_owned()));
    }
}
