//! The agent's log: one line an event, whatever the texts in it are.
//!
//! Started by `main` before anything else. The manager, its requests and files of the guest have a say in what is
//! logged: no text of theirs begins a line, commands a terminal or turns the reading direction.

use crate::config::Config;
use doorbell_wire::text::Plain;
use std::fmt::Debug;
use std::io::{self, IsTerminal as _};
use tracing::field::Field;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format::{FormatFields, Writer, debug_fn};

/// Starts the log on standard error.
pub fn start(config: &Config) {
    tracing_subscriber::fmt()
        .with_max_level(config.log)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .compact()
        .fmt_fields(fields())
        .init();
}

fn fields() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    debug_fn(field).delimited(" ")
}

fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> std::fmt::Result {
    match field.name() {
        "message" => write!(writer, "{:?}", Plain(value)),
        name => write!(writer, "{name}={:?}", Plain(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing::subscriber::with_default;
    use tracing::{info, info_span};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_text_begins_a_line_or_commands_a_terminal() {
        let kept = Kept::default();
        let writer = kept.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).compact().fmt_fields(fields());
        with_default(log.with_writer(move || writer.clone()).finish(), || {
            let _span = info_span!("request", id = %HOSTILE).entered();
            info!(path = %HOSTILE, why = HOSTILE, "{HOSTILE}");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let line = text.strip_suffix('\n').unwrap();
        assert!(!line.contains(doorbell_wire::text::is_harmful), "{line:?}");
        let escaped = "a\\u{1b}[2J\\u{1b}]8;;x\\u{7}\\u{9b}1m\\u{202e}\\u{2066}\\n\\u{0}<script>";
        assert!(line.contains(&format!("path={escaped}")), "{line}");
    }

    const HOSTILE: &str = "a\x1b[2J\x1b]8;;x\x07\u{9b}1m\u{202e}\u{2066}\n\0<script>";
}
