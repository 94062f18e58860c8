//! A peer: ssh to an sshd on the guest's vsock, through the hybrid socket.
//!
//! Called by `measure`. Only the distribution guest has an sshd.

use crate::children::output;
use crate::lab::{GUEST, Lab};
use crate::measure::times;
use crate::samples::{Kind, Rows};
use anyhow::{Context as _, Result, bail};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) fn measure(lab: &Lab, rows: &mut Rows, count: u32) -> Result<()> {
    if lab.api.run(GUEST, &["test", "-x", "/usr/sbin/sshd"]).is_err() {
        bail!("this guest has no sshd");
    }
    let key = lab.directory.join("key");
    output(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key))?;
    let public = std::fs::read_to_string(key.with_extension("pub"))?;
    let allow = "mkdir -p -m 700 /root/.ssh && echo \"$1\" >/root/.ssh/authorized_keys && systemctl start lab-ssh.socket";
    lab.api.run(GUEST, &["sh", "-c", allow, "sh", public.trim()])?;
    // The first one pays for what is read from the disk.
    session(lab, &key, &[])?;
    let fresh = times(count, || session(lab, &key, &[]))?;
    rows.add_times(Kind::Peer, "ssh", "ssh over vsock, /bin/true, a connection each", &fresh);
    let control = format!("ControlPath={}", lab.directory.join("cm").display());
    session(lab, &key, &["ControlMaster=auto", "ControlPersist=60", &control])?;
    let shared = times(count.saturating_mul(4), || session(lab, &key, &["ControlMaster=auto", &control]));
    let _ = Command::new("ssh").args(["-o", &control, "-O", "exit", "guest"]).stderr(Stdio::null()).status();
    rows.add_times(Kind::Peer, "ssh-shared", "ssh over vsock, /bin/true, one connection kept", &shared?);
    Ok(())
}

fn session(lab: &Lab, key: &Path, options: &[&str]) -> Result<()> {
    let own = std::env::current_exe()?;
    let proxy = format!("ProxyCommand={} connect {} 22", own.display(), lab.guest_file("vm.vsock").display());
    let mut command = Command::new("timeout");
    command.args(["60", "ssh", "-q", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]);
    command.args(["-o", "UserKnownHostsFile=/dev/null", "-o", &proxy, "-i"]).arg(key);
    for option in options {
        command.args(["-o", option]);
    }
    let status = command
        .args(["root@guest", "/bin/true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("ssh")?;
    anyhow::ensure!(status.success(), "ssh ended with {status}");
    Ok(())
}

/// ssh's own end: asks a hybrid socket for a port of the guest, and passes bytes on.
pub(crate) fn connect(base: &Path, port: u32) -> Result<()> {
    let mut stream = UnixStream::connect(base)?;
    stream.write_all(format!("CONNECT {port}\n").as_bytes())?;
    let mut answer = Vec::new();
    while answer.last() != Some(&b'\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte).context("the guest does not listen on that port")?;
        answer.extend(byte);
    }
    anyhow::ensure!(answer.starts_with(b"OK "), "{}", String::from_utf8_lossy(&answer));
    let mut to_guest = stream.try_clone()?;
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut to_guest);
        // Nothing more is to come; ssh ends this program when the session is over.
    });
    let mut stdout = std::io::stdout().lock();
    let mut buffer = vec![0; 65536];
    loop {
        let got = stream.read(&mut buffer)?;
        if got == 0 {
            return Ok(());
        }
        stdout.write_all(buffer.get(..got).unwrap_or_default())?;
        stdout.flush()?;
    }
}
