//! One thing that was looked at, and what is to be done about it.

use crate::table::{Cell, Tone};
use crate::text::word;
use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    Ok,
    Warning,
    Problem,
}

impl Verdict {
    pub(super) fn cell(self) -> Cell {
        let tone = match self {
            Self::Ok => Tone::Good,
            Self::Warning => Tone::Waiting,
            Self::Problem => Tone::Bad,
        };
        Cell::toned(word(&self), tone)
    }
}

/// What was looked at, what was found, and what to do where it is not well.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    pub(super) what: String,
    pub(super) verdict: Verdict,
    pub(super) found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
}

impl Finding {
    pub(super) fn ok(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Ok, found: found.into(), advice: None }
    }

    pub(super) fn warning(
        what: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { advice: Some(advice.into()), verdict: Verdict::Warning, ..Self::ok(what, found) }
    }

    pub(super) fn problem(
        what: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Problem, ..Self::warning(what, found, advice) }
    }
}
