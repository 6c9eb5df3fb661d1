//! Answering on the control socket.

use std::any::Any;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::{Answer, CaptureGrant, CaptureQuery, FlowQuery, Listener, Request, RequestLine};
use crate::events::{EventQuery, Heard};
use crate::explain::ExplainQuery;
use crate::history::{WhoQuery, WhoReport};
use crate::report::{DropReport, Explanation, FlowReport, RuleReport, Status};

/// No request is nearly as long.
const MAX_REQUEST: u64 = 4096;
/// Clients served at the same time; further ones wait in the kernel's queue.
const MAX_CLIENTS: usize = 16;
/// For a client to send its line.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// For a client to take one line of the answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Lines that are ready before the client has taken the first.
const LINES_AHEAD: usize = 4;

/// Takes a few flows; breaks if no more are wanted.
pub type Sink<'a> = &'a mut dyn FnMut(Vec<FlowReport>) -> ControlFlow<()>;

/// What is in force for as long as a client keeps its connection open.
pub type Held = Box<dyn Any + Send>;

/// Takes a few events, or none so that a client which has gone away is noticed; breaks if no more are wanted.
pub type Hearer<'a> = &'a mut dyn FnMut(Heard) -> ControlFlow<()>;

/// What the daemon knows. Called on a blocking thread, by several clients at once.
#[expect(missing_docs, reason = "named like the requests")]
pub trait Source: Send + Sync {
    fn status(&self) -> anyhow::Result<Status>;
    fn rules(&self) -> anyhow::Result<Vec<RuleReport>>;
    fn flows(&self, query: &FlowQuery, sink: Sink<'_>) -> anyhow::Result<()>;
    fn drops(&self) -> anyhow::Result<Vec<DropReport>>;
    /// Until `hear` breaks or the daemon ends.
    fn events(&self, query: &EventQuery, hear: Hearer<'_>) -> anyhow::Result<()>;
    fn who(&self, query: &WhoQuery) -> anyhow::Result<WhoReport>;
    /// One sentence about what changed.
    fn reload(&self) -> anyhow::Result<String>;
    fn explain(&self, query: &ExplainQuery) -> anyhow::Result<Explanation>;
    /// Where copies are, and what has them made until it is dropped.
    fn capture(self: Arc<Self>, query: &CaptureQuery) -> anyhow::Result<(CaptureGrant, Held)>;
}

/// Answers until `shutdown` is done; a client that is being served then is cut off.
///
/// # Errors
/// The socket cannot be handed to the runtime.
pub async fn serve(
    listener: Listener,
    source: Arc<dyn Source>,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let socket = UnixListener::from_std(listener.socket()?)?;
    let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
    let mut tasks = tokio::task::JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let client = tokio::select! {
            () = &mut shutdown => return Ok(()),
            client = accept(&socket, &clients) => client,
            Some(_) = tasks.join_next() => continue,
        };
        match client {
            Ok((stream, permit)) => {
                let source = Arc::clone(&source);
                tasks.spawn(async move {
                    if let Err(error) = client_task(stream, source).await {
                        tracing::debug!(%error, "a client of the control socket went away");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                // Most likely out of file descriptors: trying again at once would only burn a core.
                tracing::warn!(%error, "cannot accept a client of the control socket");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

type Client = (UnixStream, tokio::sync::OwnedSemaphorePermit);

async fn accept(socket: &UnixListener, clients: &Arc<Semaphore>) -> anyhow::Result<Client> {
    let permit = Arc::clone(clients).acquire_owned().await?;
    let (stream, _) = socket.accept().await?;
    Ok((stream, permit))
}

async fn client_task(mut stream: UnixStream, source: Arc<dyn Source>) -> anyhow::Result<()> {
    let line = timeout(READ_TIMEOUT, read_request(&mut stream)).await;
    let line = line.unwrap_or_else(|_| {
        let limit = READ_TIMEOUT.as_secs();
        Err(anyhow::anyhow!("no request within {limit} seconds"))
    });
    // A client that reads slowly holds up the one thread that answers it.
    let (send, mut lines) = mpsc::channel(LINES_AHEAD);
    let answering = spawn_blocking(move || {
        let mut send = |line| match send.blocking_send(line) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        match line {
            Ok(line) => answer(&line, source, &mut send),
            Err(error) => {
                _ = send(encode::<()>(Err(error)));
                None
            }
        }
    });
    while let Some(line) = lines.recv().await {
        timeout(WRITE_TIMEOUT, stream.write_all(&line)).await??;
    }
    if let Some(held) = answering.await? {
        // Nothing more is to be said by either side: it ends when the client goes.
        let gone = stream.read(&mut [0]).await;
        spawn_blocking(move || drop(held)).await?;
        gone?;
    }
    Ok(stream.shutdown().await?)
}

async fn read_request(stream: &mut UnixStream) -> anyhow::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(stream.take(MAX_REQUEST))
        .read_until(b'\n', &mut line)
        .await?;
    if line.last() != Some(&b'\n') {
        let short = (line.len() as u64) < MAX_REQUEST;
        let problem = if short {
            "ends too early"
        } else {
            "is too long"
        };
        anyhow::bail!("the request {problem}: expected one line of at most {MAX_REQUEST} bytes");
    }
    Ok(line)
}

/// Sends the answer, and returns what is to be held for the client.
fn answer(
    line: &[u8],
    source: Arc<dyn Source>,
    send: &mut dyn FnMut(Vec<u8>) -> ControlFlow<()>,
) -> Option<Held> {
    let request: RequestLine = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => {
            _ = send(encode::<()>(Err(anyhow::anyhow!("not a request: {error}"))));
            return None;
        }
    };
    if let Some(problem) = request.misplaced() {
        _ = send(encode::<()>(Err(anyhow::anyhow!(problem))));
        return None;
    }
    let line = match request.command {
        Request::Status => encode(source.status()),
        Request::Rules => encode(source.rules()),
        Request::Flows => {
            let mut sink = |flows: Vec<_>| match flows.is_empty() {
                true => ControlFlow::Continue(()),
                false => send(encode(Ok(flows))),
            };
            let result = source.flows(&request.query.unwrap_or_default(), &mut sink);
            encode(result.map(|()| Vec::<FlowReport>::new()))
        }
        Request::Drops => encode(source.drops()),
        Request::Events => {
            let mut hear = |heard: Heard| send(encode(Ok(heard)));
            match source.events(&request.events.unwrap_or_default(), &mut hear) {
                Ok(()) => encode::<()>(Err(anyhow::anyhow!("the forwarder has ended"))),
                Err(error) => encode::<()>(Err(error)),
            }
        }
        Request::Who => match &request.who {
            Some(query) => encode(source.who(query)),
            None => encode::<()>(Err(anyhow::anyhow!("`who` without whom: add `who`"))),
        },
        Request::Reload => encode(source.reload()),
        Request::Explain => {
            let query = request.explain.context("`explain` takes a packet");
            encode(query.and_then(|query| source.explain(&query)))
        }
        Request::Capture => {
            let query = request.capture.context("`capture` takes what to capture");
            let (grant, held) = match query.and_then(|query| source.capture(&query)) {
                Ok((grant, held)) => (Ok(grant), Some(held)),
                Err(error) => (Err(error), None),
            };
            _ = send(encode(grant));
            return held;
        }
    };
    _ = send(line);
    None
}

/// One line of the answer.
fn encode<T: Serialize>(result: anyhow::Result<T>) -> Vec<u8> {
    let answer = match result {
        Ok(value) => Answer::Ok(value),
        Err(error) => Answer::Error(format!("{error:#}")),
    };
    // Reports have string keys and plain numbers only, which is all that JSON asks.
    let mut line = serde_json::to_vec(&answer)
        .unwrap_or_else(|_| br#"{"error":"the answer cannot be written as JSON"}"#.to_vec());
    line.push(b'\n');
    line
}
