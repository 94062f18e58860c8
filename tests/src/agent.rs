//! What happens to an agent: it is killed, replaced by another build, and its journal grows until it is written
//! anew.
//!
//! Used by suites with a [`Lab`]. Whatever does it is a program of the agent's own, and outlives it.

use crate::build::program;
use crate::lab::{AGENT_PID, GUEST, Lab};
use crate::misfit::sum;
use crate::wait::until;
use doorbell_client::Stream;
use std::io::Write as _;

impl Lab {
    /// Kills the agent; the guest's init starts it again.
    pub fn kill_agent(&self) {
        let _ = self.look(&format!("{AGENT_PID} && kill -KILL $agent"));
    }

    /// Waits until another process is the agent.
    pub fn await_other_agent(&self, before: u32) -> u32 {
        until("another agent", || Some(self.agent()).filter(|&agent| agent != before))
    }

    /// Puts an agent that says another version of itself in the place of the first, for its next start; gives its
    /// digest.
    #[must_use]
    pub fn replace_agent(&self) -> String {
        let mut bytes = std::fs::read(program("doorbell-agent")).expect("the agent's program");
        let places = find_all(&bytes, VERSION.as_bytes());
        assert!(!places.is_empty(), "the agent does not hold its version");
        for at in places {
            bytes[at..at + VERSION.len()].copy_from_slice(OTHER_VERSION.as_bytes());
        }
        let script = format!(
            "{AGENT_PID} && file=$(readlink /proc/$agent/exe); cat >\"$file.new\" && chmod 755 \"$file.new\" && \
             mv \"$file.new\" \"$file\""
        );
        self.fed(&script, &bytes);
        sum(&bytes).sha256
    }

    /// Has the agent write its journal anew: it finds more in it at its next start than it keeps. Gives how long the
    /// journal was and is.
    #[must_use]
    pub fn compact_journal(&self) -> (usize, usize) {
        let id = self.submit_urgent(crate::daemon::sh(&format!("cat {JOURNAL}")));
        let request = self.daemon.finished(&id);
        let journal = self.daemon.output(&request.id, Stream::Stdout, 0);
        self.fed("cat >/run/padding", &forgotten_in(&journal).repeat(PADDING));
        let before = self.agent();
        // Stopped first, so that it writes nothing between.
        let _ = self.look(&format!(
            "{AGENT_PID} && kill -STOP $agent && cat /run/padding >>{JOURNAL} && sync && kill -KILL $agent"
        ));
        let _ = self.await_other_agent(before);
        let len = || self.look(&format!("wc -c <{JOURNAL}")).trim().parse().expect("a length");
        // The receipt of each look is noted; one of them was the one too many.
        until("a journal that was written anew", || Some(len()).filter(|&len: &usize| len < 1 << 16));
        (PADDING * forgotten_in(&journal).len(), len())
    }

    fn fed(&self, script: &str, bytes: &[u8]) {
        let words = ["run", GUEST, "--urgent", "--stdin", "--", "sh", "-c", script];
        let (running, mut stdin) = self.doorbell().begin_fed(&words);
        stdin.write_all(bytes).expect("a command that reads");
        drop(stdin);
        let _ = running.ended().expect(0);
    }
}

/// A record that says that the manager has stored an outcome, as the journal has it.
fn forgotten_in(journal: &[u8]) -> Vec<u8> {
    let mut rest = &journal[HEADER_LEN..];
    while let Some(len) = rest.first_chunk::<4>() {
        let len = 8 + u32::from_le_bytes(*len) as usize;
        let (record, behind) = rest.split_at(len);
        if record[8] == FORGOTTEN {
            return record.to_vec();
        }
        rest = behind;
    }
    panic!("the journal has no record of a stored outcome");
}

fn find_all(bytes: &[u8], what: &[u8]) -> Vec<usize> {
    (0..bytes.len().saturating_sub(what.len())).filter(|&at| bytes[at..].starts_with(what)).collect()
}

/// Where the agent of an initramfs guest has its journal.
const JOURNAL: &str = "/var/lib/doorbell-agent/journal";
const HEADER_LEN: usize = 20;
/// Records that are more than a journal keeps.
const PADDING: usize = 60_000;
/// The number of its kind.
const FORGOTTEN: u8 = 2;
const VERSION: &str = env!("CARGO_PKG_VERSION");
const OTHER_VERSION: &str = "0.9.9";
