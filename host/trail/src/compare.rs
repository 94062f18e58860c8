//! A trail beside what was kept of it: a tail that is gone and a trail that was written anew are told apart.
//!
//! Fed by whoever reads the trail, record by record, when the chain itself is known to be whole. Trusts no number.

use crate::export::Kept;
use crate::head::fingerprint;
use doorbell_api::audit::AuditCheck;
use doorbell_wire::text::Plain;

/// A comparison under way.
#[derive(Debug)]
pub struct Comparison<'a> {
    kept: &'a Kept,
    end: u64,
    compared: bool,
    differs: Option<u64>,
}

impl<'a> Comparison<'a> {
    /// With what was kept, once that is found to be whole and signed by `key`.
    ///
    /// # Errors
    /// One line that says why it shows nothing.
    pub fn with(kept: &'a Kept, key: &str) -> Result<Self, String> {
        if let Some(broken) = &kept.check.broken {
            return Err(format!("what was kept shows nothing: {broken}"));
        }
        if kept.head.key != key {
            return Err(format!(
                "what was kept is signed by another key, {}, expected {}: it is not of this manager",
                fingerprint(&kept.head.key),
                fingerprint(key)
            ));
        }
        Ok(Self { kept, end: 0, compared: false, differs: None })
    }

    /// Looks at the hash of the trail's record `number`; records come in order.
    pub fn look(&mut self, number: u64, hash: [u8; 32]) {
        self.end = number;
        let Some(kept) = self.kept.hash_of(number) else { return };
        self.compared = true;
        if kept != hash && self.differs.is_none() {
            self.differs = Some(number);
        }
    }

    /// What is wrong, now that the trail is at its end.
    #[must_use]
    pub fn finish(self) -> Option<String> {
        let Self { kept, end, compared, differs } = self;
        let last = kept.head.number;
        if let Some(number) = differs {
            let before = number.saturating_sub(1);
            let same = if kept.hash_of(before).is_some() && before > 0 {
                format!("up to record {before} they are the same")
            } else {
                "where they part cannot be told from it".to_owned()
            };
            return Some(format!(
                "the trail was forked: its record {number} is not the one that was kept; {same}"
            ));
        }
        if end < last {
            return Some(format!(
                "the trail was rolled back: it ends whole at record {end}, what was kept of it goes on to record {last}"
            ));
        }
        let nothing = !compared && last > 0;
        nothing.then(|| {
            format!(
                "what was kept ends at record {last}, before anything that is here: they cannot be compared"
            )
        })
    }
}

impl Kept {
    /// The hash of record `number`, where it was kept.
    fn hash_of(&self, number: u64) -> Option<[u8; 32]> {
        if number == self.since {
            return self.anchor;
        }
        let index = number.checked_sub(self.since)?.checked_sub(1)?;
        self.hashes.get(usize::try_from(index).ok()?).copied()
    }

    /// Looks at all of this as at a trail of its own.
    pub fn show(&self, comparison: &mut Comparison<'_>) {
        let anchor = self.anchor.map(|hash| (self.since, hash));
        let records = (self.since.saturating_add(1)..).zip(self.hashes.iter().copied());
        anchor.into_iter().chain(records).for_each(|(number, hash)| comparison.look(number, hash));
    }
}

/// What a check found, in words.
#[must_use]
pub fn verdict(check: &AuditCheck) -> String {
    match &check.broken {
        None if check.intact => {
            format!("the audit trail is whole: {} records\nhead {}\n", check.records, check.head)
        }
        broken => {
            let why = broken.as_deref().unwrap_or("no reason was given");
            format!("the audit trail is broken: {}\n", Plain(why))
        }
    }
}
