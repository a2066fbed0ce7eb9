//! A listener that bears any client: whoever says nothing, or half of something, or does not read the answer, is let
//! go, and there are never more connections than it wants.
//!
//! Where there are as many, a new one takes the place of the one that has been silent for longest. So a probe gets its
//! answer also while somebody holds all connections open and says nothing.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::Instant;

/// Between two tries while the process has no descriptor for another connection.
const PAUSE: Duration = Duration::from_millis(100);

/// No descriptor was wanting for so long: the trouble is over, and another one is another one.
const QUIET: Duration = Duration::from_secs(10);

/// What clients may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// How long a connection may take nothing and bring nothing while no request of it is worked on, and how long a
    /// request may take to arrive.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // twice what scrapers take between two looks, so that theirs stay open
        Self { connections: 64, silence: Duration::from_secs(60) }
    }
}

/// Answers requests of HTTP/1 until it is dropped. `what` it is stands in the log.
pub async fn serve<S, B>(what: &str, listener: TcpListener, service: S, limits: Limits)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut clients = Clients::default();
    // given up for a connection when the process has no other descriptor
    let mut spare = File::open("/dev/null").ok();
    let mut troubled: Option<Instant> = None;
    let mut ticks = tokio::time::interval(limits.silence / 8);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = clients.tasks.join_next_with_id() => {
                clients.ended(id_of(ended));
                continue;
            }
            _ = ticks.tick() => {
                clients.let_go_after(limits.silence);
                if spare.is_none() {
                    spare = File::open("/dev/null").ok();
                }
                continue;
            }
        };
        match accepted {
            Ok((stream, _)) => {
                if troubled.take_if(|last| last.elapsed() > QUIET).is_some() {
                    tracing::info!("{what}: connections are accepted again");
                }
                if clients.known.len() < limits.connections || clients.let_go_one() {
                    clients.add(stream, service.clone(), limits.silence);
                }
            }
            Err(error) if is_exhausted(&error) => {
                if troubled.replace(Instant::now()).is_none() {
                    tracing::error!("{what}: no connection can be accepted: {error}; raise the limit of open files");
                }
                // the rest of the process wants some as well
                let silent = (0..clients.known.len().div_ceil(2)).filter(|_| clients.let_go_one()).count();
                if spare.take().is_none() && silent == 0 {
                    tokio::time::sleep(PAUSE).await;
                }
                for _ in 0..silent {
                    if let Some(ended) = clients.tasks.join_next_with_id().await {
                        clients.ended(id_of(ended));
                    }
                }
            }
            // a client that has gone before it was let in
            Err(error) => tracing::debug!("{what}: {error}"),
        }
    }
}

fn id_of(ended: Result<(Id, ()), JoinError>) -> Id {
    ended.map_or_else(|error| error.id(), |(id, ())| id)
}

/// Whether the process or the system has no descriptor or memory left, which does not pass by asking again.
fn is_exhausted(error: &io::Error) -> bool {
    let passing = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset, io::ErrorKind::Interrupted];
    !passing.contains(&error.kind())
}

#[derive(Default)]
struct Clients {
    tasks: JoinSet<()>,
    known: HashMap<Id, (Arc<Signs>, AbortHandle)>,
}

/// Signs of life of one connection.
struct Signs {
    begin: Instant,
    /// Milliseconds from the beginning to when something was last read or written.
    last: AtomicU64,
    /// Requests that are being worked on.
    busy: AtomicUsize,
}

impl Signs {
    fn moved(&self) {
        self.last.store(self.begin.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// How long it has been silent, unless that is on our side.
    fn silence(&self) -> Option<Duration> {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        (self.busy.load(Ordering::Relaxed) == 0).then(|| self.begin.elapsed().saturating_sub(last))
    }
}

impl Clients {
    fn add<S, B>(&mut self, stream: TcpStream, service: S, silence: Duration)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let signs = Arc::new(Signs { begin: Instant::now(), last: AtomicU64::new(0), busy: AtomicUsize::new(0) });
        let watched = Watched { stream, signs: Arc::clone(&signs) };
        let counted = Counted { service, signs: Arc::clone(&signs) };
        let handle = self.tasks.spawn(async move {
            let mut server = http1::Builder::new();
            let served = server
                .timer(TokioTimer::new())
                .header_read_timeout(silence)
                .serve_connection(TokioIo::new(watched), counted);
            if let Err(error) = served.await {
                tracing::debug!("a client's connection ended: {error}");
            }
        });
        self.known.insert(handle.id(), (signs, handle));
    }

    fn ended(&mut self, id: Id) {
        self.known.remove(&id);
    }

    /// Ends those that have been silent for so long.
    fn let_go_after(&mut self, limit: Duration) {
        for (signs, handle) in self.known.values() {
            if signs.silence().is_some_and(|silence| silence >= limit) {
                handle.abort();
            }
        }
    }

    /// Ends the one that has been silent for longest; false where all are being answered.
    fn let_go_one(&mut self) -> bool {
        let silent = self.known.iter().filter_map(|(id, (signs, _))| Some((signs.silence()?, *id)));
        let Some((_, id)) = silent.max_by_key(|(silence, _)| *silence) else { return false };
        if let Some((_, handle)) = self.known.remove(&id) {
            handle.abort();
        }
        true
    }
}

/// Counts the requests that are being worked on.
struct Counted<S> {
    service: S,
    signs: Arc<Signs>,
}

impl<S> Service<Request<Incoming>> for Counted<S>
where
    S: Service<Request<Incoming>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let busy = Busy::new(&self.signs);
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(busy);
            answer
        })
    }
}

struct Busy(Arc<Signs>);

impl Busy {
    fn new(signs: &Arc<Signs>) -> Self {
        signs.busy.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(signs))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.moved();
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection whose signs of life are noted.
struct Watched {
    stream: TcpStream,
    signs: Arc<Signs>,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.signs.moved();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.signs.moved();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Answers with what the path says: `/long` with much, `/late` after a while.
    async fn listening(limits: Limits) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
            if request.uri().path() == "/late" {
                tokio::time::sleep(Duration::from_millis(600)).await;
            }
            let length = if request.uri().path() == "/long" { 64 << 20 } else { 2 };
            Ok(Response::new(vec![b'x'; length].into_body()))
        });
        tokio::spawn(async move { serve("test", listener, service, limits).await });
        address
    }

    trait IntoBody {
        fn into_body(self) -> Whole;
    }

    impl IntoBody for Vec<u8> {
        fn into_body(self) -> Whole {
            Whole(Some(self.into()))
        }
    }

    struct Whole(Option<Bytes>);

    impl Body for Whole {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.take().map(|bytes| Ok(hyper::body::Frame::data(bytes))))
        }
    }

    async fn send(address: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// Whether the other side has ended it, whatever it has said before.
    async fn ends(stream: &mut TcpStream) -> bool {
        let mut text = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut text)).await.is_ok()
    }

    async fn is_answered(stream: &mut TcpStream) -> bool {
        let mut text = [0; 12];
        matches!(timeout(PATIENCE, stream.read_exact(&mut text)).await, Ok(Ok(_)) if text == *b"HTTP/1.1 200")
    }

    const REQUEST: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    #[tokio::test]
    async fn whoever_says_nothing_or_half_or_does_not_read_is_let_go() {
        let address = listening(Limits { connections: 10, silence: Duration::from_millis(400) }).await;
        let mut nothing = send(address, "").await;
        let mut half = send(address, "GET / HT").await;
        let mut twice = send(address, REQUEST).await;
        let mut unread = send(address, "GET /long HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let mut drops = send(address, "GET /").await;
        let dropping = tokio::spawn(async move {
            // a letter at a time is no silence, and no request either
            while drops.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let mut late = send(address, "GET /late HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(is_answered(&mut late).await, "what takes longer here is no silence of the client's");
        assert!(ends(&mut nothing).await && ends(&mut half).await && ends(&mut twice).await);
        assert!(timeout(PATIENCE, dropping).await.is_ok());
        tokio::time::sleep(Duration::from_millis(800)).await;
        let mut text = Vec::new();
        let read = timeout(PATIENCE, unread.read_to_end(&mut text)).await.unwrap();
        assert!(read.is_err() || text.len() < 64 << 20, "{} bytes were kept for it", text.len());
    }

    #[tokio::test]
    async fn a_new_client_takes_the_place_of_the_most_silent_one() {
        let address = listening(Limits { connections: 3, silence: PATIENCE }).await;
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(send(address, "").await);
        }
        let mut late = send(address, "GET /late HTTP/1.1\r\nhost: x\r\n\r\n").await;
        for _ in 0..20 {
            silent.push(send(address, "GET").await);
            assert!(is_answered(&mut send(address, REQUEST).await).await);
        }
        assert!(is_answered(&mut late).await, "one that is being answered stays");
        let mut ended = 0;
        for stream in &mut silent {
            let mut text = [0];
            ended += usize::from(timeout(Duration::from_millis(20), stream.read(&mut text)).await.is_ok());
        }
        assert!(ended >= silent.len() - 3, "{ended} of {} were let go", silent.len());
    }
}
