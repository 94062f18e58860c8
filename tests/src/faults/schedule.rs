//! What a seed draws: requests of several kinds, and faults between them and during them.
//!
//! Played by [`super::scene`]. Pure: the same seed gives the same schedule, which prints as it is played.

use super::chance::Chance;
use std::fmt;

/// A kind of request.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// An uploaded program that leaves its mark on the guest's disk.
    Program,
    /// A command that leaves its mark and takes its time.
    Slow,
    /// The same, beside whatever runs.
    Urgent,
    /// The same, which may be started again.
    Idempotent,
    /// One that prints a lot on both streams.
    Chatty,
    /// One that gives back what it reads.
    Fed,
    /// One that ends with a status of its own.
    Failing,
    /// One that runs longer than it may.
    TooLong,
    /// One that is cancelled.
    Cancelled,
    /// A file for the guest.
    Put,
    /// A file of the guest.
    Get,
    /// A link brought down.
    LinkDown,
    /// A link brought up.
    LinkUp,
    /// A look at the links, which nobody keeps.
    Query,
}

/// A thing that goes wrong, or is put right again.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Fault {
    /// The manager is killed and started again.
    ManagerKilled,
    /// The manager is killed and stays away.
    ManagerGone,
    /// It is started again.
    ManagerBack,
    /// The agent is killed; the guest's init starts another.
    AgentKilled,
    /// Every supervisor in the guest is killed.
    SupervisorsKilled,
    /// The guest's reset line is pulled.
    GuestReset,
    /// The guest's QEMU is killed.
    PowerOff,
    /// It is started again on the same disks.
    PowerOn,
    /// Every connection is cut.
    Cut,
    /// The connection breaks in the middle of the frame behind so many others.
    Torn(u8),
    /// The disk with the agent's state is filled.
    GuestDiskFull,
    /// It gets its space back.
    GuestDiskFreed,
    /// The manager's disk gets no more space.
    ManagerDiskFull,
    /// It gets its space back.
    ManagerDiskFreed,
    /// The guest's clock jumps 32 hours ahead.
    ClockAhead,
    /// The guest's clock jumps 32 hours back.
    ClockBack,
}

/// One step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// A request is submitted and not waited for.
    Submit(Kind),
    /// When so many frames have gone by, or none come, something happens.
    Fault(u8, Fault),
}

/// What happens with one seed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Schedule {
    /// The seed.
    pub seed: u64,
    /// How many ordinary requests the guest takes at once.
    pub concurrency: u8,
    /// The steps, in their order.
    pub steps: Vec<Step>,
}

impl Schedule {
    /// Draws it.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        // Neighbouring seeds are to have little in common from the first number on.
        let mut chance = Chance::of(Chance::of(seed).number());
        let concurrency = chance.pick(&[1, 1, 2, 4]);
        let requests = 4 + chance.place(4);
        let mut steps: Vec<Step> = (0..requests).map(|_| Step::Submit(chance.pick(KINDS))).collect();
        for _ in 0..2 + chance.place(3) {
            let (fault, later) = chance.pick(FAULTS);
            let fault = if fault == Fault::Torn(0) { Fault::Torn(frames(&mut chance)) } else { fault };
            // Something is under way first.
            let at = 1 + chance.place(steps.len());
            steps.insert(at, Step::Fault(frames(&mut chance), fault));
            if let Some(remedy) = later {
                let behind = at + 1 + chance.place(steps.len() - at);
                steps.insert(behind, Step::Fault(frames(&mut chance), remedy));
            }
        }
        Self { seed, concurrency, steps }
    }

    /// Whether a fault is among the steps.
    #[must_use]
    pub fn has(&self, wanted: Fault) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Fault(_, fault) if *fault == wanted))
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}, {} at once:", self.seed, self.concurrency)?;
        for step in &self.steps {
            match step {
                Step::Submit(kind) => write!(f, " {kind:?}")?,
                Step::Fault(frames, fault) => write!(f, " [{frames}>{fault:?}]")?,
            }
        }
        Ok(())
    }
}

/// Most faults are wanted at once or soon: a request is a score of frames.
fn frames(chance: &mut Chance) -> u8 {
    chance.pick(&[0, 0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 30])
}

/// Each as often as it is to be drawn.
const KINDS: &[Kind] = &[
    Kind::Program,
    Kind::Program,
    Kind::Slow,
    Kind::Slow,
    Kind::Urgent,
    Kind::Idempotent,
    Kind::Idempotent,
    Kind::Chatty,
    Kind::Chatty,
    Kind::Fed,
    Kind::Failing,
    Kind::TooLong,
    Kind::Cancelled,
    Kind::Put,
    Kind::Get,
    Kind::LinkDown,
    Kind::LinkUp,
    Kind::Query,
];

/// Each as often as it is to be drawn, with what puts it right later; a guest's start takes seconds.
const FAULTS: &[(Fault, Option<Fault>)] = &[
    (Fault::ManagerKilled, None),
    (Fault::ManagerKilled, None),
    (Fault::ManagerGone, Some(Fault::ManagerBack)),
    (Fault::AgentKilled, None),
    (Fault::AgentKilled, None),
    (Fault::SupervisorsKilled, None),
    (Fault::SupervisorsKilled, None),
    (Fault::GuestReset, None),
    (Fault::PowerOff, Some(Fault::PowerOn)),
    (Fault::Cut, None),
    (Fault::Torn(0), None),
    (Fault::Torn(0), None),
    (Fault::GuestDiskFull, Some(Fault::GuestDiskFreed)),
    (Fault::ManagerDiskFull, Some(Fault::ManagerDiskFreed)),
    (Fault::ClockAhead, None),
    (Fault::ClockBack, None),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_schedule_and_others_draw_others() {
        assert_eq!(Schedule::draw(7), Schedule::draw(7));
        let texts: std::collections::HashSet<String> =
            (1..=500).map(|seed| Schedule { seed: 0, ..Schedule::draw(seed) }.to_string()).collect();
        assert!(texts.len() > 490, "{} different ones of 500", texts.len());
    }

    #[test]
    fn sixty_seeds_have_every_kind_and_every_fault() {
        let drawn: Vec<Step> = (1..=60).flat_map(|seed| Schedule::draw(seed).steps).collect();
        for kind in KINDS {
            assert!(drawn.contains(&Step::Submit(*kind)), "no {kind:?}");
        }
        let faults: Vec<Fault> = drawn
            .iter()
            .filter_map(|step| if let Step::Fault(_, fault) = step { Some(*fault) } else { None })
            .collect();
        for fault in FAULTS.iter().flat_map(|(fault, later)| [Some(*fault), *later]).flatten() {
            let torn = matches!(fault, Fault::Torn(_));
            let found = faults.iter().any(|drawn| *drawn == fault || torn && matches!(drawn, Fault::Torn(_)));
            assert!(found, "no {fault:?}");
        }
    }

    #[test]
    fn a_schedule_prints_as_it_is_played() {
        let text = Schedule::draw(1).to_string();
        assert!(text.starts_with("seed 1, "), "{text}");
        assert_eq!(
            text.matches('>').count(),
            Schedule::draw(1).steps.iter().filter(|step| matches!(step, Step::Fault(..))).count()
        );
    }
}
