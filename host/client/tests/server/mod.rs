//! A server on a Unix socket in a directory of its own, for the tests of the SDK.
//!
//! Used by both suites; what it answers is theirs.

use axum::Router;
use doorbell_client::Client;
use std::path::PathBuf;
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};

/// Where a server is, or is not.
pub(crate) struct Place {
    _dir: tempfile::TempDir,
    pub(crate) socket: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("doorbelld.sock");
        Self { _dir: dir, socket }
    }

    pub(crate) fn serve(&self, router: Router) -> Server {
        let _ = std::fs::remove_file(&self.socket);
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(&self.socket).expect("a socket")
        };
        runtime.spawn(async move { axum::serve(listener, router).await.expect("served") });
        Server(Some(runtime))
    }

    pub(crate) fn client(&self) -> Client {
        Client::at(&self.socket).expect("a client")
    }
}

/// A server with a runtime of its own: when it is dropped, all its connections are cut, as by kill -9.
pub(crate) struct Server(Option<Runtime>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.take().expect("dropped once").shutdown_background();
    }
}
