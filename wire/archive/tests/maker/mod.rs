//! Archives by hand, byte by byte, and a place to unpack them in.
//!
//! Used by both suites of this crate.
#![allow(dead_code, unreachable_pub, reason = "each suite uses its part")]

use doorbell_archive::{Fault, Options, Owner, UnpackError, Unpacked, Watch, unpack};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// One header with its contents. No field is checked.
#[derive(Clone, Debug)]
pub struct Item {
    pub name: Vec<u8>,
    pub flag: u8,
    pub link: Vec<u8>,
    pub mode: u32,
    pub content: Vec<u8>,
    pub size: Option<u64>,
}

impl Item {
    pub fn new(flag: u8, name: impl AsRef<[u8]>) -> Self {
        let name = name.as_ref().to_vec();
        Self { name, flag, link: Vec::new(), mode: 0o755, content: Vec::new(), size: None }
    }

    pub fn file(name: impl AsRef<[u8]>, content: &[u8]) -> Self {
        Self { content: content.to_vec(), mode: 0o644, ..Self::new(b'0', name) }
    }

    pub fn directory(name: impl AsRef<[u8]>) -> Self {
        Self::new(b'5', name)
    }

    pub fn link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self { link: target.as_ref().to_vec(), ..Self::new(b'2', name) }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.name.len() > 100 {
            bytes.extend(Self { content: self.name.clone(), ..Self::new(b'L', "long") }.bytes());
        }
        if self.link.len() > 100 {
            bytes.extend(Self { content: self.link.clone(), ..Self::new(b'K', "long") }.bytes());
        }
        let mut block = vec![0_u8; 512];
        let mut put = |at: usize, text: &[u8], len: usize| {
            let text = &text[..text.len().min(len)];
            block[at..at + text.len()].copy_from_slice(text);
        };
        put(0, &self.name, 100);
        put(100, format!("{:07o}", self.mode).as_bytes(), 8);
        put(108, b"0001747", 8);
        put(116, b"0001747", 8);
        put(124, format!("{:011o}", self.size.unwrap_or(self.content.len() as u64)).as_bytes(), 12);
        put(136, b"14524713420", 12);
        put(148, b"        ", 8);
        put(156, &[self.flag], 1);
        put(157, &self.link, 100);
        put(257, b"ustar\x0000", 8);
        let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend(block);
        bytes.extend(&self.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

pub fn archive(items: &[Item]) -> Vec<u8> {
    let mut bytes: Vec<u8> = items.iter().flat_map(Item::bytes).collect();
    bytes.extend([0; 1024]);
    bytes
}

/// Keeps what it is told.
#[derive(Debug, Default)]
pub struct Told(pub Vec<String>);

impl Watch for Told {
    fn fault(&mut self, fault: &Fault) {
        self.0.push(fault.to_string());
    }
}

/// A directory to unpack in, and beside it what nobody may touch.
#[derive(Debug)]
pub struct Yard {
    outside: TempDir,
    pub told: Told,
    pub options: Options,
}

impl Yard {
    pub fn new() -> Self {
        let outside = tempfile::tempdir().unwrap();
        std::fs::create_dir(outside.path().join("inside")).unwrap();
        std::fs::create_dir(outside.path().join("secret")).unwrap();
        std::fs::write(outside.path().join("secret/key"), "untouched").unwrap();
        std::fs::write(outside.path().join("inside/neighbour"), "untouched").unwrap();
        let options = Options { owner: Owner::Own, umask: 0o022, bytes_max: 1 << 30, entries_max: 10_000 };
        Self { outside, told: Told::default(), options }
    }

    pub fn outside(&self) -> &Path {
        self.outside.path()
    }

    pub fn top(&self) -> PathBuf {
        self.outside().join("inside/top")
    }

    pub fn unpack(&mut self, input: impl Read) -> Result<Unpacked, UnpackError> {
        let inside = File::open(self.outside().join("inside")).map_err(UnpackError::Read)?;
        unpack(input, inside.as_fd(), b"top", &self.options, &mut self.told)
    }

    pub fn unpack_items(&mut self, items: &[Item]) -> Result<Unpacked, UnpackError> {
        self.unpack(archive(items).as_slice())
    }

    /// Everything but what was unpacked is as it was.
    pub fn is_untouched(&self) -> bool {
        let names = |path: &str| {
            let list = std::fs::read_dir(self.outside().join(path)).unwrap();
            let mut names: Vec<_> =
                list.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.retain(|name| name != "top");
            names.sort();
            names
        };
        let read = |path: &str| std::fs::read(self.outside().join(path)).unwrap();
        names(".") == ["inside", "secret"]
            && names("inside") == ["neighbour"]
            && names("secret") == ["key"]
            && read("secret/key") == b"untouched"
            && read("inside/neighbour") == b"untouched"
    }
}
