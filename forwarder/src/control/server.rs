//! Answering on the control socket.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::{Answer, Listener, Request, RequestLine};
use crate::report::{DropReport, FlowReport, RuleReport, Status};

/// No request is nearly as long.
const MAX_REQUEST: u64 = 4096;
/// Clients served at the same time; further ones wait in the kernel's queue.
const MAX_CLIENTS: usize = 16;
/// For a client to send its line.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// For a client to take the answer, which is some 100 MB with the flow table full.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// What the daemon knows. Called on a blocking thread, by several clients at once.
#[expect(missing_docs, reason = "named like the requests")]
pub trait Source: Send + Sync {
    fn status(&self) -> anyhow::Result<Status>;
    fn rules(&self) -> anyhow::Result<Vec<RuleReport>>;
    fn flows(&self) -> anyhow::Result<Vec<FlowReport>>;
    fn drops(&self) -> anyhow::Result<Vec<DropReport>>;
    /// One sentence about what changed.
    fn reload(&self) -> anyhow::Result<String>;
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
    let mut answer = match line {
        Ok(Ok(line)) => spawn_blocking(move || answer(&line, source.as_ref())).await?,
        Ok(Err(error)) => encode::<()>(Err(error)),
        Err(_) => encode::<()>(Err(anyhow::anyhow!(
            "no request within {} seconds",
            READ_TIMEOUT.as_secs()
        ))),
    };
    answer.push(b'\n');
    timeout(WRITE_TIMEOUT, stream.write_all(&answer)).await??;
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

fn answer(line: &[u8], source: &dyn Source) -> Vec<u8> {
    let request = match serde_json::from_slice(line) {
        Ok(RequestLine { command }) => command,
        Err(error) => return encode::<()>(Err(anyhow::anyhow!("not a request: {error}"))),
    };
    match request {
        Request::Status => encode(source.status()),
        Request::Rules => encode(source.rules()),
        Request::Flows => encode(source.flows()),
        Request::Drops => encode(source.drops()),
        Request::Reload => encode(source.reload()),
    }
}

fn encode<T: Serialize>(result: anyhow::Result<T>) -> Vec<u8> {
    let answer = match result {
        Ok(value) => Answer::Ok(value),
        Err(error) => Answer::Error(format!("{error:#}")),
    };
    // Reports have string keys and plain numbers only, which is all that JSON asks.
    serde_json::to_vec(&answer)
        .unwrap_or_else(|_| br#"{"error":"the answer cannot be written as JSON"}"#.to_vec())
}
