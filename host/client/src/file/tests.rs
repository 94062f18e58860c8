//! Both ways without a guest in between: what was packed is received, placed in one step, or not at all.

use super::*;
use std::os::unix::fs::symlink;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;

fn tree() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    std::fs::write(dir.path().join("sub/file"), vec![7; 200_000]).unwrap();
    symlink("file", dir.path().join("sub/link")).unwrap();
    dir
}

async fn packed(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    Packing::of(path.to_owned(), |fault| panic!("{fault}")).unwrap().read_to_end(&mut bytes).await.unwrap();
    bytes
}

async fn received(to: &Path, bytes: &[u8]) -> Result<Received, FileError> {
    let mut receiving = Receiving::begin(Destination::open(to, "id")?, |_| {})?;
    for piece in bytes.chunks(10_000) {
        receiving.write(piece).await?;
    }
    receiving.finish().await
}

fn names(dir: &TempDir) -> Vec<String> {
    let list = std::fs::read_dir(dir.path()).unwrap();
    let mut names: Vec<_> = list.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_tree_is_placed_whole_and_replaces_another_only_when_told() {
    let (from, to) = (tree(), tempfile::tempdir().unwrap());
    let bytes = packed(from.path()).await;
    let target = to.path().join("tree");
    received(&target, &bytes).await.unwrap().place(false).unwrap();
    assert_eq!(std::fs::read(target.join("sub/link")).unwrap(), vec![7; 200_000]);
    std::fs::write(target.join("old"), "old").unwrap();
    let refused = received(&target, &bytes).await.unwrap().place(false).unwrap_err();
    assert!(matches!(refused, FileError::Occupied(_)), "{refused}");
    assert!(target.join("old").exists());
    assert_eq!(names(&to), ["tree"]);
    received(&target, &bytes).await.unwrap().place(true).unwrap();
    assert!(!target.join("old").exists());
    assert_eq!(names(&to), ["tree"]);
}

#[tokio::test]
async fn a_file_takes_the_place_of_a_file_and_of_no_directory() {
    let (from, to) = (tree(), tempfile::tempdir().unwrap());
    let bytes = packed(&from.path().join("sub/file")).await;
    let target = to.path().join("file");
    std::fs::write(&target, "before").unwrap();
    let whole = received(&target, &bytes).await.unwrap();
    assert_eq!(whole.digest(), Some(hex::encode(Sha256::digest(vec![7; 200_000])).as_str()));
    assert_eq!(std::fs::read(&target).unwrap(), b"before");
    whole.place(false).unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), vec![7; 200_000]);
    std::fs::create_dir(to.path().join("dir")).unwrap();
    assert!(received(&to.path().join("dir"), &bytes).await.unwrap().place(true).is_err());
    assert_eq!(names(&to), ["dir", "file"]);
}

#[tokio::test]
async fn what_is_not_placed_or_not_whole_leaves_nothing() {
    let (from, to) = (tree(), tempfile::tempdir().unwrap());
    let bytes = packed(from.path()).await;
    let target = to.path().join("tree");
    drop(received(&target, &bytes).await.unwrap());
    let cut = received(&target, &bytes[..100_000]).await.unwrap_err();
    assert!(matches!(cut, FileError::Archive(UnpackError::Truncated)), "{cut}");
    // What stands behind an archive's end is passed over.
    let more = [bytes, vec![7; 1_000_000]].concat();
    drop(received(&target, &more).await.unwrap());
    assert_eq!(names(&to), [] as [&str; 0]);
    assert!(Destination::open(&to.path().join("gone/x"), "id").is_err());
    assert!(Destination::open(Path::new("/"), "id").is_err());
}

#[tokio::test]
async fn a_tree_that_cannot_be_read_whole_is_an_error_at_its_end() {
    let mut bytes = Vec::new();
    let (tell, told) = std::sync::mpsc::channel();
    let tell = move |fault: &Fault| tell.send(fault.to_string()).unwrap();
    // Files of the kernel are readable for nobody, root or not.
    let path = PathBuf::from("/proc/sys/net/ipv4/route");
    let error = Packing::of(path, tell).unwrap().read_to_end(&mut bytes).await.unwrap_err();
    assert!(error.to_string().contains("could not be read"), "{error}");
    assert!(told.iter().any(|fault| fault.ends_with("permission denied")));
    let gone = PathBuf::from("/nowhere/at/all");
    let error = Packing::of(gone, |_| {}).unwrap().read_to_end(&mut bytes).await.unwrap_err();
    assert_eq!(error.to_string(), "/nowhere/at/all: no such file or directory");
}
