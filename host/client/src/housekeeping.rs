//! Housekeeping: what is kept no longer goes, and a backup of all that is kept.

use crate::client::Client;
use crate::error::ClientError;
use bytes::Bytes;
use doorbell_api::retention::{BACKUP_ABOUT, Sweep};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use reqwest::Method;
use std::time::Duration;

/// A backup on its way.
pub struct Backup {
    /// About how many bytes it will have.
    pub about: Option<u64>,
    /// The archive. It is whole only when this ends without an error.
    pub bytes: BoxStream<'static, Result<Bytes, ClientError>>,
}

impl std::fmt::Debug for Backup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backup").field("about", &self.about).finish_non_exhaustive()
    }
}

impl Client {
    /// Has the manager remove what its configuration keeps no longer, or only say what that is.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn sweep(&self, dry_run: bool) -> Result<Sweep, ClientError> {
        let call = self.call(Method::POST, &["gc"])?.query(&[("dry_run", dry_run)]).timeout(SWEEP_IN);
        self.json(call).await
    }

    /// The whole state of the manager as one archive.
    ///
    /// # Errors
    /// Any [`ClientError`]; what breaks off later comes out of the stream.
    pub async fn backup(&self) -> Result<Backup, ClientError> {
        // As long as it takes: only silence would be a fault, and the manager ends that.
        let call = self.untimed(Method::GET, self.url(&["backup"])?);
        let answer = self.send(call).await?;
        let about = answer.headers().get(BACKUP_ABOUT).and_then(|value| value.to_str().ok()?.parse().ok());
        let socket = self.socket().to_owned();
        let bytes = answer.bytes_stream();
        let bytes =
            bytes.map(move |piece| piece.map_err(|error| ClientError::transport(&socket, error))).boxed();
        Ok(Backup { about, bytes })
    }
}

/// A sweep looks at every file there is.
const SWEEP_IN: Duration = Duration::from_secs(600);
