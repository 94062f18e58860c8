//! What the agent wants of a supervisor: one record that says all of it, so that a lost or doubled one is no harm.
//!
//! Written by the agent into `commands`, read by the supervisor. A record is short enough to arrive whole.

use doorbell_wire::message::Offsets;
use doorbell_wire::message::action::Window;

/// All that an agent wants at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Wanted {
    /// The program is to be ended.
    pub(super) stop: bool,
    /// The outcome is in the journal.
    pub(super) taken: bool,
    /// A manager takes output.
    pub(super) connected: bool,
    /// Bytes in the file of the input.
    pub(super) input_len: u64,
    /// Bytes that the input has in all, where that is known.
    pub(super) input_end: Option<u64>,
    /// The size of the terminal, where it was said.
    pub(super) window: Option<Window>,
    /// Output that the manager has.
    pub(super) stored: Offsets,
}

impl Wanted {
    pub(super) fn to_bytes(self) -> [u8; RECORD_LEN] {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = flag(self.stop, STOP)
            | flag(self.taken, TAKEN)
            | flag(self.connected, CONNECTED)
            | flag(self.input_end.is_some(), INPUT_END)
            | flag(self.window.is_some(), WINDOW);
        let window = self.window.unwrap_or(Window { rows: 0, columns: 0 });
        let head =
            [flags, 0, 0, 0].into_iter().chain(window.rows.to_le_bytes()).chain(window.columns.to_le_bytes());
        let numbers = [self.input_len, self.input_end.unwrap_or(0), self.stored.stdout, self.stored.stderr];
        let bytes = head.chain(numbers.into_iter().flat_map(u64::to_le_bytes));
        let mut record = [0; RECORD_LEN];
        record.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
        record
    }

    /// Adds what a record says; what was said once is not taken back, but for the connection and the window.
    pub(super) fn add(&mut self, record: &[u8; RECORD_LEN]) {
        let short = |at: usize| u16::from_le_bytes(field(record, at));
        let long = |at: usize| u64::from_le_bytes(field(record, at));
        let flags = record.first().copied().unwrap_or(0);
        self.stop |= flags & STOP != 0;
        self.taken |= flags & TAKEN != 0;
        self.connected = flags & CONNECTED != 0;
        self.input_len = self.input_len.max(long(8));
        if flags & INPUT_END != 0 {
            self.input_end = self.input_end.or_else(|| Some(long(16)));
        }
        if flags & WINDOW != 0 {
            self.window = Some(Window { rows: short(4), columns: short(6) });
        }
        self.stored.stdout = self.stored.stdout.max(long(24));
        self.stored.stderr = self.stored.stderr.max(long(32));
    }
}

/// The bytes of a number at a place of a record or a file.
pub(super) fn field<const LEN: usize>(bytes: &[u8], at: usize) -> [u8; LEN] {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<LEN>());
    found.copied().unwrap_or([0; LEN])
}

pub(super) const RECORD_LEN: usize = 40;
const STOP: u8 = 1;
const TAKEN: u8 = 1 << 1;
const CONNECTED: u8 = 1 << 2;
const INPUT_END: u8 = 1 << 3;
const WINDOW: u8 = 1 << 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let all = Wanted {
            stop: true,
            taken: true,
            connected: true,
            input_len: 7,
            input_end: Some(9),
            window: Some(Window { rows: 50, columns: 300 }),
            stored: Offsets { stdout: 1 << 33, stderr: 3 },
        };
        for wanted in [Wanted::default(), all] {
            let mut read = Wanted::default();
            read.add(&wanted.to_bytes());
            assert_eq!(read, wanted);
        }
    }

    #[test]
    fn an_agent_that_knows_less_takes_nothing_back() {
        let mut wanted = Wanted { stop: true, connected: true, input_end: Some(3), ..Wanted::default() };
        wanted.stored.stdout = 5;
        wanted.add(&Wanted::default().to_bytes());
        assert!(wanted.stop && !wanted.connected && wanted.input_end == Some(3) && wanted.stored.stdout == 5);
    }
}
