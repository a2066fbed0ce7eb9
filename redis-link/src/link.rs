//! The connection that sources, sinks and stores share.
//!
//! A link connects when it is first used and again after its connection broke. It holds no sleep and no back-off: a call
//! that fails says so at once, and the engine above decides when to call again.
//!
//! That a server closes connections nobody uses is no failure: after a pause the connection is looked at before it is
//! used. Where it ends under a command that may run twice, that one is sent once more.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, ScriptInvocation, Value};

use crate::fault::{LinkError, Subject, Trouble, classify, server_answer};
use crate::portion::Portion;
use crate::size::{Closed, Size};
use crate::target::Target;

/// Finding, connecting to and greeting a server takes milliseconds on a healthy network; a second leaves room for one
/// lost packet and keeps the recovery after an outage within two seconds.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// No command of ours blocks on this connection, so that two seconds without an answer mean a hung server. Slow
/// commands of others (a large KEYS, a fork) stay below.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection that was not used for longer is looked at before it is: servers close idle ones after a second at the
/// earliest.
const PAUSE: Duration = Duration::from_millis(500);

/// Commands that only look, or that come to the same when they run twice.
const REPEATABLE: [&str; 13] = [
    "GET", "HGET", "HGETALL", "HMGET", "PTTL", "TYPE", "XLEN", "XINFO", "XPENDING", "XRANGE", "XACK", "INFO", "EXISTS",
];

/// The name shown by CLIENT LIST.
const CLIENT_NAME: &str = "gaugefn";

/// A shared, lazily opened connection to one [`Target`]. Cloning is cheap and shares the connection.
#[derive(Clone)]
pub struct Link {
    inner: Arc<Inner>,
    /// How long an answer may take.
    patience: Duration,
}

struct Inner {
    target: Target,
    live: Mutex<Option<Live>>,
    /// Held while connecting; keeps the error of the last failed attempt for those who waited for it, so that many
    /// waiters do not try one after the other.
    dial: tokio::sync::Mutex<Option<LinkError>>,
    failures: AtomicU64,
    opened: AtomicU64,
    health: AtomicU8,
    /// Of the commands of one [`Link::each`].
    portion: Mutex<Portion>,
    closed: Closed,
}

#[derive(Clone)]
struct Live {
    /// Tells a broken connection from the one that has already replaced it.
    number: u64,
    connection: MultiplexedConnection,
    /// When it was last taken for a command.
    used: Instant,
}

impl Link {
    /// A link that is not connected yet; contacts nothing.
    #[must_use]
    pub fn new(target: Target) -> Self {
        // a counter that nobody has touched is not shown, and an alert on it would not know that it is 0
        metrics::counter!("gaugefn_redis_reconnects_total").increment(0);
        Self {
            inner: Arc::new(Inner {
                target,
                live: Mutex::new(None),
                dial: tokio::sync::Mutex::new(None),
                failures: AtomicU64::new(0),
                opened: AtomicU64::new(0),
                health: AtomicU8::new(UNKNOWN),
                portion: Mutex::new(Portion::new(usize::MAX)),
                closed: Closed::default(),
            }),
            patience: RESPONSE_TIMEOUT,
        }
    }

    /// The same for sending that much, which is on its way for a while.
    pub(crate) fn patient(&self, size: Size) -> Self {
        Self { patience: size.patience(), ..self.clone() }
    }

    /// Where the link leads to.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.inner.target
    }

    /// The live connection, or a new one: at most one second. It is shared, so no blocking command may be sent on it,
    /// and it fails after two seconds without an answer. Report its errors through [`Link::fault`]; [`Link::query`] and
    /// [`Link::pipeline`] do so by themselves.
    ///
    /// # Errors
    /// The server is away, hung, or refuses these credentials.
    pub async fn connection(&self) -> Result<MultiplexedConnection, LinkError> {
        Ok(self.live().await?.connection)
    }

    /// Runs one command. A failure that leaves the connection unusable discards it, so that the next call connects.
    ///
    /// # Errors
    /// Named with the command and its key. A timeout says nothing about whether the server has run the command.
    pub async fn query<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, LinkError> {
        let subject = Subject::of(cmd);
        let asked = self.query_once(cmd, &subject).await;
        match asked {
            Err(error) if error.is_cut() && subject.is_one_of(&REPEATABLE) => {
                tracing::debug!(%subject, "sent once more, as the connection was closed: {error}");
                self.query_once(cmd, &subject).await.map_err(|error| error.cut_at(&self.inner.target, &subject))
            }
            asked => asked,
        }
    }

    async fn query_once<T: FromRedisValue>(&self, cmd: &Cmd, subject: &Subject) -> Result<T, LinkError> {
        let Live { number, mut connection, .. } = self.live().await?;
        let result = cmd.query_async(&mut connection).await;
        self.settle(number, result, |_| subject.clone())
    }

    /// Runs a pipeline in one round trip, like [`Link::query`]. The first command that the server refuses is named.
    ///
    /// # Errors
    /// As for [`Link::query`]; other commands of the pipeline may have run, unless it is atomic.
    pub async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, LinkError> {
        let size = Size::of_all(pipeline);
        let Live { number, mut connection, .. } = self.patient(size).live().await?;
        let result = pipeline.query_async(&mut connection).await;
        let settled = self.settle(number, result, |error| {
            let index = server_answer(error).map_or(0, |(index, _, _)| index);
            pipeline.cmd_iter().nth(index).map_or_else(|| Subject::named("a pipeline"), Subject::of)
        });
        match settled {
            Err(error) => Err(self.weighed(size, error).await),
            answer => answer,
        }
    }

    /// Runs commands that write, in one round trip, and never twice; an answer for each, as a key of another type is no
    /// trouble of the others.
    ///
    /// # Errors
    /// As for [`Link::pipeline`]; the first refusal that is none of the key itself.
    pub async fn all<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<Vec<Result<T, LinkError>>, LinkError> {
        let (size, commands) = (Size::of_all(pipeline), pipeline.cmd_iter().collect::<Vec<_>>());
        match self.patient(size).some(&commands).await {
            Err(error) => Err(self.weighed(size, error).await),
            answers => answers,
        }
    }

    /// Runs a script by its hash, and gives the server its text where it does not know it (any more). Messages speak
    /// of `command`, which the script runs on `key`.
    ///
    /// # Errors
    /// As for [`Link::query`]. A timeout says nothing about whether the server has run the script.
    pub async fn script<T: FromRedisValue>(
        &self,
        invocation: &ScriptInvocation<'_>,
        command: &str,
        key: &str,
    ) -> Result<T, LinkError> {
        let Live { number, mut connection, .. } = self.live().await?;
        let result = invocation.invoke_async(&mut connection).await;
        self.settle(number, result, |error| {
            let denied = server_answer(error).is_some_and(|(_, code, _)| code == "NOPERM");
            Subject::script(if denied { "EVALSHA" } else { command }, key)
        })
    }

    /// The same for a script that recognises a repetition: sent once more where the connection was closed under it.
    ///
    /// # Errors
    /// As for [`Link::script`].
    pub async fn repeatable_script<T: FromRedisValue>(
        &self,
        invocation: &ScriptInvocation<'_>,
        command: &str,
        key: &str,
    ) -> Result<T, LinkError> {
        match self.script(invocation, command, key).await {
            Err(error) if error.is_cut() => {
                tracing::debug!(command, key, "sent once more, as the connection was closed: {error}");
                self.script(invocation, command, key).await
            }
            ran => ran,
        }
    }

    /// Runs commands that only look, in one round trip, or in several where the answers are too large to come at once; an
    /// answer for each command, as a key of another type is no trouble of the others.
    ///
    /// # Errors
    /// As for [`Link::pipeline`]; the first refusal that is none of the key itself.
    pub async fn each<T: FromRedisValue>(&self, pipeline: Pipeline) -> Result<Vec<Result<T, LinkError>>, LinkError> {
        let commands: Vec<&Cmd> = pipeline.cmd_iter().collect();
        let mut answers = Vec::with_capacity(commands.len());
        // a connection that was closed for another reason gets a second try
        let mut again = true;
        while answers.len() < commands.len() {
            let most = self.portion().now().min(commands.len() - answers.len());
            match self.some(&commands[answers.len()..answers.len() + most]).await {
                Ok(some) => {
                    answers.extend(some);
                    again = true;
                    self.portion().succeed();
                }
                Err(error) if error.is_cut() || error.is_late() => {
                    let less = self.portion().halve(most);
                    if less.is_none() && !std::mem::replace(&mut again, false) {
                        return Err(error.cut_at(&self.inner.target, &Subject::of(commands[answers.len()])));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(answers)
    }

    async fn some<T: FromRedisValue>(&self, commands: &[&Cmd]) -> Result<Vec<Result<T, LinkError>>, LinkError> {
        let mut pipeline = Pipeline::with_capacity(commands.len());
        for cmd in commands {
            pipeline.add_command((*cmd).clone());
        }
        pipeline.ignore_errors();
        let Live { number, mut connection, .. } = self.live().await?;
        let result = pipeline.query_async::<Vec<RedisResult<T>>>(&mut connection).await;
        let answers = self.settle(number, result, |_| Subject::named("a pipeline"))?;
        let named = answers.into_iter().zip(commands).map(|(answer, cmd)| {
            match answer.map_err(|error| classify(&self.inner.target, &Subject::of(cmd), error)) {
                Err(error) if error.kind() != Trouble::WrongType => {
                    self.note(Some(&error));
                    self.let_go(number, &error);
                    Err(error)
                }
                answer => Ok(answer),
            }
        });
        named.collect()
    }

    fn portion(&self) -> MutexGuard<'_, Portion> {
        self.inner.portion.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The string under `key`, None where the key does not exist.
    ///
    /// # Errors
    /// As for [`Link::query`]; a key of another type is named as such ([`Trouble::WrongType`](crate::Trouble)).
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, LinkError> {
        self.query(redis::cmd("GET").arg(key.as_ref())).await
    }

    /// Names an error that came from a connection of [`Link::connection`], and discards the connection where the error
    /// leaves it unusable. `command` is what was asked, for the message.
    #[must_use]
    pub fn fault(&self, error: RedisError, command: &str) -> LinkError {
        let fault = classify(&self.inner.target, &Subject::named(command), error);
        self.note(Some(&fault));
        if fault.breaks_connection() {
            self.discard();
        }
        fault
    }

    pub(crate) fn closed(&self) -> &Closed {
        &self.inner.closed
    }

    /// Forgets the connection; the next call makes a new one. Calls under way on it run to their end.
    pub fn discard(&self) {
        *self.slot() = None;
    }

    /// How often a broken connection was replaced.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.inner.opened.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// Whether the last contact found a server that serves these credentials. False before the first contact.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.inner.health.load(Ordering::Relaxed) == UP
    }

    fn slot(&self) -> MutexGuard<'_, Option<Live>> {
        self.inner.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that is there, unless it has ended while nobody used it: then nothing was sent that could have been
    /// lost with it.
    fn at_hand(&self) -> Option<Live> {
        let mut slot = self.slot();
        let live = slot.as_mut()?;
        if std::mem::replace(&mut live.used, Instant::now()).elapsed() > PAUSE && is_over(&mut live.connection) {
            tracing::debug!(endpoint = %self.inner.target.endpoint(), "the connection was closed while nobody used it");
            *slot = None;
        }
        slot.clone()
    }

    async fn live(&self) -> Result<Live, LinkError> {
        let mut live = self.connected().await?;
        live.connection.set_response_timeout(self.patience);
        Ok(live)
    }

    async fn connected(&self) -> Result<Live, LinkError> {
        if let Some(live) = self.at_hand() {
            return Ok(live);
        }
        let inner = &self.inner;
        let failures = inner.failures.load(Ordering::Acquire);
        let mut last = inner.dial.lock().await;
        if let Some(live) = self.at_hand() {
            return Ok(live);
        }
        if inner.failures.load(Ordering::Acquire) != failures
            && let Some(fault) = &*last
        {
            return Err(fault.clone());
        }
        match dial(&inner.target, Some(RESPONSE_TIMEOUT)).await {
            Ok(connection) => {
                let number = inner.opened.fetch_add(1, Ordering::Relaxed) + 1;
                if number > 1 {
                    metrics::counter!("gaugefn_redis_reconnects_total").increment(1);
                }
                tracing::debug!(endpoint = %inner.target.endpoint(), number, "connected to redis");
                let live = Live { number, connection, used: Instant::now() };
                *self.slot() = Some(live.clone());
                *last = None;
                self.note(None);
                Ok(live)
            }
            Err(fault) => {
                inner.failures.fetch_add(1, Ordering::Release);
                *last = Some(fault.clone());
                self.note(Some(&fault));
                Err(fault)
            }
        }
    }

    fn settle<T>(
        &self,
        number: u64,
        result: RedisResult<T>,
        subject: impl FnOnce(&RedisError) -> Subject,
    ) -> Result<T, LinkError> {
        let error = match result {
            Ok(value) => {
                self.note(None);
                return Ok(value);
            }
            Err(error) => error,
        };
        let subject = subject(&error);
        let fault = classify(&self.inner.target, &subject, error);
        self.note(Some(&fault));
        self.let_go(number, &fault);
        Err(fault)
    }

    /// Forgets this connection, unless another one has taken its place, where the error leaves it unusable.
    fn let_go(&self, number: u64, error: &LinkError) {
        if error.breaks_connection() {
            let mut slot = self.slot();
            if slot.as_ref().is_some_and(|live| live.number == number) {
                *slot = None;
            }
        }
    }

    /// A refused key or command comes from a server that is up.
    fn note(&self, fault: Option<&LinkError>) {
        let outage = fault.is_some_and(|fault| fault.kind().is_outage());
        self.inner.note(if outage { DOWN } else { UP });
    }
}

/// Shows the endpoint and the state, never a secret.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("endpoint", &self.inner.target.endpoint())
            .field("up", &self.is_up())
            .field("reconnects", &self.reconnects())
            .finish()
    }
}

/// Whether a connection has ended, as far as this process has heard. Nothing goes to the server for it: a question is
/// put into the queue of a connection that lives and taken back, and that of one that has ended takes none. The question
/// is one that every user may ask, should it be sent after all.
pub(crate) fn is_over(connection: &mut MultiplexedConnection) -> bool {
    let question = redis::cmd("HELLO");
    let asked = connection.req_packed_command(&question).now_or_never();
    asked.is_some_and(|answer| answer.is_err_and(|error| error.is_connection_dropped()))
}

/// Connects and introduces itself in one round trip, by commands of our own: the redis crate's handshake hides the
/// server's words behind "password authentication failed".
pub(crate) async fn dial(target: &Target, response: Option<Duration>) -> Result<MultiplexedConnection, LinkError> {
    tokio::time::timeout(CONNECT_TIMEOUT, greet(target, response)).await.unwrap_or_else(|_| {
        let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
        Err(classify(target, &Subject::connect(), late.into()))
    })
}

async fn greet(target: &Target, response: Option<Duration>) -> Result<MultiplexedConnection, LinkError> {
    let failed = |error| classify(target, &Subject::connect(), error);
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(response);
    let client = target.client().map_err(failed)?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.map_err(failed)?;

    let mut greeting = redis::pipe();
    let mut required = Vec::new();
    if let Some(password) = target.password() {
        greeting.cmd("AUTH").arg(target.username()).arg(password);
        required.push("AUTH");
    }
    if target.db() != 0 {
        greeting.cmd("SELECT").arg(target.db());
        required.push("SELECT");
    }
    // any answer will do, also a refusal: it proves that somebody is there
    greeting.cmd("CLIENT").arg("SETNAME").arg(CLIENT_NAME);
    greeting.ignore_errors();
    let answers: Vec<RedisResult<Value>> = greeting.query_async(&mut connection).await.map_err(failed)?;
    let mut answers = answers.into_iter();
    for (command, answer) in required.iter().zip(answers.by_ref()) {
        answer.map_err(|error| classify(target, &Subject::named(command), error))?;
    }
    if let Some(Err(error)) = answers.next() {
        let fault = classify(target, &Subject::connect(), error);
        // a server that wants a password, is full or in protected mode says so to the first command it gets
        if fault.kind().is_outage() || fault.redis().and_then(RedisError::code) == Some("DENIED") {
            return Err(fault);
        }
    }
    Ok(connection)
}

const UNKNOWN: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;

/// The links of this process that are down: the gauge says 1 while there are none.
static LINKS_DOWN: Mutex<u64> = Mutex::new(0);

impl Inner {
    fn note(&self, state: u8) {
        let before = self.health.load(Ordering::Relaxed);
        if before == state {
            return;
        }
        let mut down = LINKS_DOWN.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.health.swap(state, Ordering::Relaxed), state) {
            (DOWN, DOWN) => {}
            (DOWN, _) => *down = down.saturating_sub(1),
            (_, DOWN) => *down += 1,
            _ => {}
        }
        if state != UNKNOWN {
            metrics::gauge!("gaugefn_redis_up").set(if *down == 0 { 1.0 } else { 0.0 });
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.note(UNKNOWN);
    }
}
