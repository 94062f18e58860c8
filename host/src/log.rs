//! The daemon's log: one line an event, whatever the texts in it are.
//!
//! Started by `main` before anything else. Guests, callers and files have a say in what is logged: no text of theirs
//! begins a line, commands a terminal or turns the reading direction.

use doorbell_wire::text::{Plain, json};
use std::fmt::Debug;
use std::io::{self, IsTerminal as _, Write};
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format::{FormatFields, Writer, debug_fn};

/// Starts the log on standard error, for people or in JSON.
pub fn start(filter: EnvFilter, in_json: bool) {
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    if in_json {
        builder.json().with_writer(|| Lines(io::stderr())).init();
    } else {
        let ansi = io::stderr().is_terminal();
        builder.fmt_fields(fields()).with_ansi(ansi).with_writer(io::stderr).init();
    }
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

/// Lines of JSON, of which each comes in one piece.
struct Lines<W>(W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(json(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
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

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn say() {
        let _span = info_span!("session", guest = %HOSTILE).entered();
        info!(agent = %HOSTILE, error = HOSTILE, "{HOSTILE}");
    }

    fn is_one_harmless_line(text: &str) {
        let line = text.strip_suffix('\n').unwrap();
        assert!(!line.contains(doorbell_wire::text::is_harmful), "{line:?}");
        assert!(line.contains("<script>"), "{line}");
    }

    #[test]
    fn no_text_begins_a_line_or_commands_a_terminal() {
        let kept = Kept::default();
        let writer = kept.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).fmt_fields(fields());
        with_default(log.with_writer(move || writer.clone()).finish(), say);
        is_one_harmless_line(&kept.text());
        assert!(
            kept.text()
                .contains("agent=a\\u{1b}[2J\\u{1b}]8;;x\\u{7}\\u{9b}1m\\u{202e}\\u{2066}\\n\\u{0}<script>")
        );
    }

    #[test]
    fn in_json_it_is_the_same_text_and_as_harmless() {
        let kept = Kept::default();
        let writer = kept.clone();
        let log = tracing_subscriber::fmt().json().with_writer(move || Lines(writer.clone()));
        with_default(log.finish(), say);
        is_one_harmless_line(&kept.text());
        let value: serde_json::Value = serde_json::from_str(&kept.text()).unwrap();
        assert_eq!(value["fields"]["agent"], HOSTILE);
    }

    const HOSTILE: &str = "a\x1b[2J\x1b]8;;x\x07\u{9b}1m\u{202e}\u{2066}\n\0<script>";
}
