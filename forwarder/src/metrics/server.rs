//! `GET /metrics`, on a thread of its own: it answers while the daemon sweeps or loads, and however slowly somebody
//! reads, nothing else waits.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use thiserror::Error;
use tokio::{
    net::TcpStream,
    runtime::{Builder, Runtime},
    sync::{Semaphore, oneshot},
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{snapshot::Snapshot, text};

/// Connections served at the same time; further ones wait in the kernel's queue.
const MAX_CLIENTS: usize = 16;
/// For a client to ask its one question and take the answer.
const TIME: Duration = Duration::from_secs(30);

/// What is asked for every scrape, on a thread that may block.
pub trait Source: Send + Sync {
    /// The figures now.
    ///
    /// # Errors
    /// The kernel refuses to read a map, or there is nothing yet.
    fn snapshot(&self) -> anyhow::Result<Snapshot>;
}

/// Why metrics cannot be served. Each says what to do next.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum MetricsError {
    #[error(
        "cannot serve metrics on {0}: something listens there already; stop it, or change `listen` of `[metrics]`"
    )]
    InUse(SocketAddr),
    #[error(
        "cannot serve metrics on {0}: this host does not have the address; add it, or change `listen` of `[metrics]`"
    )]
    NoAddress(SocketAddr),
    #[error(
        "cannot serve metrics on {0}: not permitted; choose a port from 1024 on for `listen` of `[metrics]`, or restart the daemon as root"
    )]
    Permission(SocketAddr),
    #[error("cannot serve metrics on {address}: {error}; change `listen` of `[metrics]`")]
    Io {
        address: SocketAddr,
        error: io::Error,
    },
}

impl MetricsError {
    fn of(address: SocketAddr, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::InUse(address),
            io::ErrorKind::AddrNotAvailable => Self::NoAddress(address),
            io::ErrorKind::PermissionDenied => Self::Permission(address),
            _ => Self::Io { address, error },
        }
    }
}

/// A port that is taken but not served yet.
#[derive(Debug)]
pub struct Listener {
    socket: std::net::TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Takes `address`.
    ///
    /// # Errors
    /// The kernel does not give it.
    pub fn bind(address: SocketAddr) -> Result<Self, MetricsError> {
        let of = |error| MetricsError::of(address, error);
        let socket = std::net::TcpListener::bind(address).map_err(of)?;
        socket.set_nonblocking(true).map_err(of)?;
        Ok(Self {
            address: socket.local_addr().map_err(of)?,
            socket,
        })
    }

    /// What was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves it from now on.
    ///
    /// # Errors
    /// There can be no further thread.
    pub fn serve(self, source: Arc<dyn Source>) -> Result<Server, MetricsError> {
        let address = self.address;
        let of = |error| MetricsError::of(address, error);
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(of)?;
        let (stop, stopped) = oneshot::channel();
        let socket = self.socket;
        let thread = thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || run(runtime, socket, source, stopped))
            .map_err(of)?;
        Ok(Server {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic has been told already.
            let _ended = thread.join();
        }
    }
}

fn run(
    runtime: Runtime,
    socket: std::net::TcpListener,
    source: Arc<dyn Source>,
    stopped: oneshot::Receiver<()>,
) {
    runtime.block_on(async {
        let accepting = async {
            if let Err(error) = accept(socket, source).await {
                tracing::warn!(%error, "metrics are not served any more");
            }
        };
        tokio::select! {
            () = accepting => {}
            _ = stopped => {}
        }
    });
    // Not to wait for a scrape that is being answered.
    runtime.shutdown_background();
}

async fn accept(socket: std::net::TcpListener, source: Arc<dyn Source>) -> anyhow::Result<()> {
    let socket = tokio::net::TcpListener::from_std(socket)?;
    let router = Router::new()
        .route("/metrics", get(scrape))
        .with_state(source);
    let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let permit = Arc::clone(&clients).acquire_owned().await?;
        match socket.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    if timeout(TIME, answer(stream, router)).await.is_err() {
                        tracing::debug!("a client of the metrics was too slow");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                // Most likely out of file descriptors: trying again at once would only burn a core.
                tracing::warn!(%error, "cannot accept a client of the metrics");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One question a connection: a scraper that stays away must not keep a place.
async fn answer(stream: TcpStream, router: Router) {
    let served = http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a client of the metrics went away");
    }
}

async fn scrape(State(source): State<Arc<dyn Source>>) -> Response {
    let text = spawn_blocking(move || source.snapshot().map(text::render)).await;
    match text {
        Ok(Ok(text)) => ([(CONTENT_TYPE, text::CONTENT_TYPE)], text).into_response(),
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}\n")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
