//! The frames that travel once, as JSON: a minor version may add fields, and readers ignore what they do not know.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use runtime_core::Fault;
use runtime_core::contract::{Blame, Brief, Facts, Module, Revision};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::frame::{self, Kind};
use super::outcome::{causes, fault};
use super::{ProtocolError, VERSION};

/// A frame whose body is JSON.
pub trait Rare: Serialize + DeserializeOwned {
    /// The kind of its frame.
    const KIND: Kind;

    /// Appends the frame.
    ///
    /// # Errors
    /// It is too long.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        self.encode_as(Self::KIND, out)
    }

    /// Appends a frame of another kind with the same body.
    ///
    /// # Errors
    /// It is too long.
    fn encode_as(&self, kind: Kind, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        frame::encode(out, kind, |out| {
            serde_json::to_writer(out, self).map_err(|error| ProtocolError::Json(kind, error))
        })
    }

    /// Reads the body of a frame of this kind.
    ///
    /// # Errors
    /// The body is damaged.
    fn decode(body: &Bytes) -> Result<Self, ProtocolError> {
        serde_json::from_slice(body).map_err(|error| ProtocolError::Json(Self::KIND, error))
    }
}

/// The child's first frame. No version of the protocol may change these fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Must be the same on both sides.
    pub major: u16,
    /// The lower one of both sides counts.
    pub minor: u16,
    /// The version of the binary, for messages.
    pub build: String,
    /// The process that speaks.
    pub pid: u32,
}

impl Rare for Hello {
    const KIND: Kind = Kind::Hello;
}

impl Hello {
    /// This process's own.
    #[must_use]
    pub fn own() -> Self {
        let (major, minor) = VERSION;
        Self { major, minor, build: env!("CARGO_PKG_VERSION").to_owned(), pid: std::process::id() }
    }

    /// Whether this side understands the other one.
    ///
    /// # Errors
    /// The major versions differ.
    pub fn check(&self) -> Result<(), ProtocolError> {
        if self.major == VERSION.0 {
            return Ok(());
        }
        Err(ProtocolError::Version {
            theirs: format!("{}.{} ({})", self.major, self.minor, self.build),
            ours: format!("{}.{} ({})", VERSION.0, VERSION.1, env!("CARGO_PKG_VERSION")),
        })
    }
}

/// Load a function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prepare {
    /// The executor's name in the registry.
    pub executor: String,
    /// Its options, as the configuration has them.
    pub options: serde_json::Value,
    /// The code, where the executor needs some.
    pub module: Option<ModuleForm>,
    /// The function's label in the configuration.
    pub function: String,
    /// The entry function's name.
    pub handler: String,
    /// For the context.
    #[serde(with = "FactsForm")]
    pub facts: Facts,
    /// Where in an event the name of its state stands.
    #[serde(default)]
    pub state_key: Option<String>,
    /// How long a state stays that is not used.
    #[serde(default)]
    pub state_ttl: Option<Duration>,
}

impl Rare for Prepare {
    const KIND: Kind = Kind::Prepare;
}

impl Prepare {
    /// Out of what [`Executor::prepare`](runtime_core::contract::Executor::prepare) is given.
    #[must_use]
    pub fn new(executor: &str, options: serde_json::Value, module: Option<&Module>, brief: &Brief) -> Self {
        Self {
            executor: executor.to_owned(),
            options,
            module: module.map(ModuleForm::of),
            function: brief.function.to_string(),
            handler: brief.handler.clone(),
            facts: brief.facts.clone(),
            state_key: brief.state_key.as_deref().map(str::to_owned),
            state_ttl: brief.state_ttl,
        }
    }

    /// What the executor of the child is told.
    #[must_use]
    pub fn brief(&self) -> Brief {
        Brief {
            function: Arc::from(self.function.as_str()),
            handler: self.handler.clone(),
            facts: self.facts.clone(),
            state_key: self.state_key.as_deref().map(Arc::from),
            state_ttl: self.state_ttl,
            ..Brief::default()
        }
    }
}

/// [`Facts`], field by field.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Facts")]
struct FactsForm {
    host: Option<String>,
    port: Option<u16>,
    input_key: Option<String>,
    output_key: Option<String>,
}

/// A [`Module`] without its owner: the parent keeps an unpacked folder for as long as the child lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleForm {
    root: PathForm,
    entry: PathForm,
    revision: String,
    /// Seconds and nanoseconds since 1970.
    modified: (u64, u32),
}

impl ModuleForm {
    /// Of a module of this process.
    #[must_use]
    pub fn of(module: &Module) -> Self {
        let since = module.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            root: PathForm::of(&module.root),
            entry: PathForm::of(&module.entry),
            revision: module.revision.as_str().to_owned(),
            modified: (since.as_secs(), since.subsec_nanos()),
        }
    }

    /// As this process uses it.
    #[must_use]
    pub fn module(self) -> Module {
        let (seconds, nanoseconds) = self.modified;
        let since = Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanoseconds.into()));
        Module {
            root: self.root.path(),
            entry: self.entry.path(),
            revision: Revision::new(self.revision),
            modified: SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH),
            keep: None,
        }
    }
}

/// A path of Linux is bytes; JSON has texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum PathForm {
    Text(String),
    Bytes(Vec<u8>),
}

impl PathForm {
    fn of(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Bytes(path.as_os_str().to_owned().into_vec()),
        }
    }

    fn path(self) -> PathBuf {
        match self {
            Self::Text(text) => text.into(),
            Self::Bytes(bytes) => OsString::from_vec(bytes).into(),
        }
    }
}

/// The function is loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The signal that makes the child write the stack of every thread into the dump pipe, where it knows one. Sent
    /// to a child without, it would end it.
    #[serde(default)]
    pub dump_signal: Option<i32>,
}

impl Rare for Ready {
    const KIND: Kind = Kind::Ready;
}

/// A request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why.
    pub fault: FaultForm,
}

impl Rare for Refused {
    const KIND: Kind = Kind::Refused;
}

/// A [`Fault`] in parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultForm {
    blame: String,
    retry: bool,
    fatal: bool,
    message: String,
    report: Option<String>,
    causes: Option<String>,
}

impl FaultForm {
    /// Of a fault of this process.
    #[must_use]
    pub fn of(fault: &Fault) -> Self {
        Self {
            blame: fault.blame().as_str().to_owned(),
            retry: fault.retry(),
            fatal: fault.is_fatal(),
            message: fault.to_string(),
            report: fault.report().map(str::to_owned),
            causes: causes(fault),
        }
    }

    /// As this process uses it. A blame that is not known is internal.
    #[must_use]
    pub fn fault(self) -> Fault {
        let known = [Blame::Config, Blame::File, Blame::Function, Blame::Event, Blame::Backend, Blame::Internal];
        let blame = known.into_iter().find(|blame| blame.as_str() == self.blame).unwrap_or(Blame::Internal);
        fault(blame, self.retry, self.fatal, self.message, self.report, self.causes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Splitter;
    use super::*;

    fn body(frame: &impl Rare, kind: Kind) -> Bytes {
        let (mut out, mut splitter) = (Vec::new(), Splitter::default());
        frame.encode(&mut out).unwrap();
        splitter.buffer().extend_from_slice(&out);
        splitter.next_frame().unwrap().unwrap().expect(kind).unwrap()
    }

    #[test]
    fn another_major_version_is_refused_with_a_sentence() {
        let mut hello = Hello::own();
        hello.minor += 7;
        hello.check().unwrap();
        hello.major += 1;
        let error = Hello::decode(&body(&hello, Kind::Hello)).unwrap().check().unwrap_err().to_string();
        let build = env!("CARGO_PKG_VERSION");
        assert_eq!(
            error,
            format!(
                "the worker speaks protocol 3.7 ({build}), this process 2.0 ({build}): the binary was replaced while \
                 it ran, restart it"
            )
        );
    }

    #[test]
    fn fields_of_later_versions_are_ignored() {
        let later = br#"{"major":1,"minor":4,"build":"9.9.9","pid":3,"mood":"good"}"#;
        let hello = Hello::decode(&Bytes::from_static(later)).unwrap();
        assert_eq!((hello.minor, hello.pid), (4, 3));
        assert_eq!(Ready::decode(&Bytes::from_static(b"{}")).unwrap().dump_signal, None);
    }

    #[test]
    fn a_prepare_carries_everything_that_an_executor_is_given() {
        let module = Module {
            root: OsString::from_vec(b"/tmp/\xff".to_vec()).into(),
            entry: "/tmp/main.py".into(),
            revision: Revision::new("abc"),
            modified: SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789),
            keep: None,
        };
        let facts = Facts { host: Some("h".to_owned()), port: Some(1), input_key: None, output_key: None };
        let brief = Brief { function: Arc::from("vm"), handler: "handler".to_owned(), facts, ..Brief::default() };
        let sent = Prepare::new("python", serde_json::json!({"path": ["a"]}), Some(&module), &brief);
        let got = Prepare::decode(&body(&sent, Kind::Prepare)).unwrap();
        assert_eq!(got, sent);
        assert_eq!(got.brief().facts, brief.facts);
        let back = got.module.unwrap().module();
        assert_eq!((back.root, back.entry, back.modified), (module.root, module.entry, module.modified));
        assert_eq!(back.revision, module.revision);
    }

    #[test]
    fn a_refusal_is_the_same_fault_again() {
        let fault = Fault::function("usermodule.py: no function 'handler'").with_report("line 1").caused_by("why");
        let sent = Refused { fault: FaultForm::of(&fault) };
        let got = Refused::decode(&body(&sent, Kind::Refused)).unwrap().fault.fault();
        assert_eq!((got.blame(), got.chain(), got.report()), (fault.blame(), fault.chain(), fault.report()));
    }
}
