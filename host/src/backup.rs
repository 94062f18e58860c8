//! A backup of a running manager: one archive with the data base as it was at one moment, the files that it
//! names, and a manifest with their digests.
//!
//! Taken by the API for `doorbell backup`; taken in by `restore`, with no manager running. While one is taken
//! nothing is removed, so that what the data base names is there. What belongs to requests that are still open
//! may grow meanwhile, and is in the archive as it was when its turn came.
//!
//! - [`manifest`] what is in it · [`restore`] the way back

pub mod manifest;
pub mod restore;

use crate::actor::Actor;
use crate::cause::Cause;
use crate::manager::Manager;
use crate::programs::Programs;
use crate::signer::FILE as KEY;
use crate::store::{Named, StoreError};
use crate::sum::Hashing;
use doorbell_archive::Writer;
use doorbell_wire::ids::RequestId;
use manifest::{Entry, FORMAT, Manifest, NAME, TOP};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;
use tempfile::TempDir;
use tokio::sync::OwnedMutexGuard;

/// A backup that can be written: the data base's copy is made, and nothing is removed as long as this lives.
#[derive(Debug)]
pub struct Backup {
    state_dir: PathBuf,
    named: Named,
    manifest: Manifest,
    // The copy of the data base is in it.
    aside: TempDir,
    _alone: OwnedMutexGuard<()>,
}

impl Manager {
    /// Begins a backup. That it was begun is in the audit trail, and so in the backup itself.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] while another one or a sweep is under way, [`StoreError::NoSpace`] when the copy of
    /// the data base does not fit the disk.
    pub async fn begin_backup(&self, by: &Actor, cause: &Cause) -> Result<Backup, StoreError> {
        let alone = Arc::clone(&self.housekeeping).try_lock_owned().map_err(|_| {
            StoreError::conflict("a sweep or another backup is under way: ask again when it is over")
        })?;
        let store = self.store.because(cause);
        store.audit_note(by, "backup-begun", None, None, "of the whole state".into()).await?;
        let state_dir = self.config.state_dir.clone();
        let aside = crate::disk::blocking(move || aside_in(&state_dir)).await?;
        let (named, head) = self.store.copy_to(&aside.path().join(DATA_BASE)).await?;
        let manifest = Manifest {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            taken_at_ms: crate::time::unix_ms(),
            taken_by: by.to_string(),
            audit_records: head.number,
            audit_head: hex::encode(head.hash),
            guests: named.guests,
            requests: named.requests,
            files: Vec::new(),
            missing: Vec::new(),
        };
        Ok(Backup { state_dir: self.config.state_dir.clone(), named, manifest, aside, _alone: alone })
    }
}

impl Backup {
    /// About how many bytes it will have.
    #[must_use]
    pub fn about(&self) -> u64 {
        let len = |path: PathBuf| path.metadata().map_or(0, |file| file.len());
        let files = self.places().into_iter().map(|(place, _)| len(self.state_dir.join(place)));
        files.fold(len(self.aside.path().join(DATA_BASE)), u64::saturating_add)
    }

    /// Writes the archive to its end; for a thread that may block.
    ///
    /// # Errors
    /// When something cannot be read or the archive not be written.
    pub fn write(mut self, out: impl Write) -> io::Result<()> {
        let mut archive = Writer::new(out);
        archive.directory(TOP)?;
        let data_base = self.aside.path().join(DATA_BASE);
        let entry = add(&mut archive, Path::new(DATA_BASE), File::open(data_base)?)?;
        self.manifest.files.push(entry);
        for (place, must_be) in self.places() {
            match crate::disk::absent_is_none(File::open(self.state_dir.join(&place)))? {
                Some(file) => self.manifest.files.push(add(&mut archive, &place, file)?),
                None if must_be => self.manifest.missing.push(place.display().to_string()),
                None => {}
            }
        }
        let text = serde_json::to_vec_pretty(&self.manifest)?;
        archive.file(&format!("{TOP}/{NAME}"), text.len() as u64, 0, &mut text.as_slice())?;
        archive.finish().map(drop)
    }

    /// Where the files are that the data base names, and whether each must be there.
    fn places(&self) -> Vec<(PathBuf, bool)> {
        let Named { programs, outputs, inputs, .. } = &self.named;
        let output = |id: &RequestId, stream: &str| PathBuf::from(format!("output/{id}.{stream}"));
        let key = [(PathBuf::from(KEY), true)];
        let programs = programs.iter().map(|digest| (Programs::place_of(digest), false));
        let outputs = outputs.iter().flat_map(|(id, stdout, stderr)| {
            [(output(id, "stdout"), *stdout), (output(id, "stderr"), *stderr)]
        });
        let inputs = inputs
            .iter()
            .flat_map(|id| [format!("input/{id}"), format!("input/{id}.end")])
            .map(|place| (place.into(), false));
        key.into_iter().chain(programs).chain(outputs).chain(inputs).collect()
    }
}

/// A directory for the copy of the data base. What a crash left of another one is removed.
fn aside_in(state_dir: &Path) -> Result<TempDir, StoreError> {
    let made = || {
        let dir = state_dir.join("backup");
        crate::disk::private_dir(&dir)?;
        for entry in dir.read_dir()? {
            std::fs::remove_dir_all(entry?.path())?;
        }
        tempfile::Builder::new().prefix("copy.").tempdir_in(dir)
    };
    made().map_err(|error: io::Error| StoreError::io("make room for the copy of the data base", error))
}

/// Adds a file as long as it is now.
fn add(archive: &mut Writer<impl Write>, place: &Path, file: File) -> io::Result<Entry> {
    let found = file.metadata()?;
    let mtime = found.modified()?.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut hashing = Hashing::of(file);
    let path = place.display().to_string();
    archive.file(&format!("{TOP}/{path}"), found.len(), mtime, &mut hashing)?;
    Ok(Entry { path, len: found.len(), sha256: hashing.finish() })
}

const DATA_BASE: &str = "doorbell.sqlite";

#[cfg(test)]
mod tests;
