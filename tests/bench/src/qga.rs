//! A peer: qemu-guest-agent over virtio-serial, by its own protocol.
//!
//! Called by `measure`; the package is put into the initramfs guest, the distribution guest has it.

use crate::children::{output, pause};
use crate::lab::Lab;
use crate::measure::times;
use crate::samples::{Kind, Rows};
use anyhow::{Context as _, Result, bail};
use base64ct::{Base64, Encoding as _};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A connection to it.
#[derive(Debug)]
pub(crate) struct Qga {
    line: BufReader<UnixStream>,
}

impl Qga {
    pub(crate) fn connect(lab: &Lab) -> Result<Self> {
        let socket = lab.guest_file("qga.sock");
        let stream = UnixStream::connect(&socket).context("the guest has no port for it")?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut qga = Self { line: BufReader::new(stream) };
        qga.call("guest-sync", &json!({ "id": 4711 })).context("qemu-ga does not answer")?;
        Ok(qga)
    }

    pub(crate) fn round(&mut self, rows: &mut Rows) -> Result<()> {
        let pings = times(20, || self.call("guest-ping", &json!({})).map(drop))?;
        rows.add_times(Kind::Peer, "qga-ping", "qemu-ga, guest-ping", &pings);
        let tight = times(4, || self.run(Duration::ZERO))?;
        rows.add_times(Kind::Peer, "qga-exec", "qemu-ga, /bin/true, polled tightly", &tight);
        let slow = times(4, || self.run(Duration::from_millis(50)))?;
        rows.add_times(Kind::Peer, "qga-exec-50", "qemu-ga, /bin/true, polled each 50 ms", &slow);
        Ok(())
    }

    fn run(&mut self, every: Duration) -> Result<()> {
        let started = self.call("guest-exec", &json!({ "path": "/bin/true", "capture-output": true }))?;
        let pid = started["pid"].clone();
        while self.call("guest-exec-status", &json!({ "pid": pid }))?["exited"] != true {
            if !every.is_zero() {
                pause(every);
            }
        }
        Ok(())
    }

    /// A file, in pieces as large as its callers make them.
    pub(crate) fn write(&mut self, rows: &mut Rows, len: u64) -> Result<()> {
        let handle = self.call("guest-file-open", &json!({ "path": "/tmp/qga", "mode": "w" }))?;
        let piece = Base64::encode_string(&vec![7; 1 << 20]);
        let start = Instant::now();
        for _ in 0..len >> 20 {
            let count = self.call("guest-file-write", &json!({ "handle": handle, "buf-b64": piece }))?;
            anyhow::ensure!(count["count"] == 1 << 20, "it wrote {count}");
        }
        self.call("guest-file-close", &json!({ "handle": handle }))?;
        rows.add_rate(Kind::Peer, "qga-write", "qemu-ga, file write, 1 MiB pieces", len, start.elapsed());
        Ok(())
    }

    fn call(&mut self, name: &str, arguments: &Value) -> Result<Value> {
        let call = json!({ "execute": name, "arguments": arguments });
        let stream = self.line.get_mut();
        stream.write_all(call.to_string().as_bytes())?;
        stream.write_all(b"\n")?;
        let mut answer = String::new();
        self.line.read_line(&mut answer)?;
        let answer: Value = serde_json::from_str(&answer).with_context(|| answer.clone())?;
        match answer.get("return") {
            Some(value) => Ok(value.clone()),
            None => bail!("{name}: {answer}"),
        }
    }
}

/// Puts the machine's own Debian package of it, with its libraries, into an initramfs overlay that starts it at boot.
pub(crate) fn into_overlay(overlay: &Path) -> Result<()> {
    let package = overlay.with_extension("package");
    fs::create_dir_all(&package)?;
    output(Command::new("sh").args(["-c", UNPACK, "sh"]).arg(&package))?;
    let program = package.join("usr/sbin/qemu-ga");
    let libraries = output(Command::new("ldd").arg(&program))?;
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        place(Path::new(library), &below(overlay, library)?)?;
    }
    place(&program, &below(overlay, "/usr/sbin/qemu-ga")?)?;
    let hook = below(overlay, "/etc/doorbell/hooks/20-qemu-ga.sh")?;
    fs::write(&hook, HOOK)?;
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn below(overlay: &Path, path: &str) -> Result<PathBuf> {
    let path = overlay.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().context("a directory")?)?;
    Ok(path)
}

fn place(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| from.display().to_string())?;
    Ok(())
}

// Lists older than the mirror name files that are gone; one update cures that.
const UNPACK: &str = "\
cd \"$1\" || exit
get() { apt-get -q -o APT::Sandbox::User=\"$(id -un)\" download qemu-guest-agent; }
get || { apt-get -q update && get; } && dpkg-deb -x ./*.deb .";
const HOOK: &str = "#!/bin/sh
mkdir -p /run /var/run
for port in /dev/vport*p1; do
  /usr/sbin/qemu-ga --daemonize -m virtio-serial -p \"$port\"
done
";
