//! The life of requests against a model: random commands, pulls, reports and restarts of one guest.

use super::*;
use doorbell_wire::message::Stage;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Accept { idempotent: bool },
    Repeat(usize),
    Pull,
    Start(usize),
    Fetch(usize),
    Acknowledge(usize),
    Cancel(usize),
    Restart,
}

/// What a request is believed to be.
#[derive(Clone, Debug)]
struct Believed {
    new: AcceptRequest,
    state: State,
    cancel: bool,
    offers: u32,
    starts: u32,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = 0..6_usize;
    let step = prop_oneof![
        3 => any::<bool>().prop_map(|idempotent| Step::Accept { idempotent }),
        1 => which.clone().prop_map(Step::Repeat),
        4 => Just(Step::Pull),
        3 => which.clone().prop_map(Step::Start),
        1 => which.clone().prop_map(Step::Fetch),
        2 => which.clone().prop_map(Step::Acknowledge),
        1 => which.prop_map(Step::Cancel),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..40)
}

impl Believed {
    fn waits(&self) -> bool {
        matches!(self.state, State::Queued | State::Offered | State::Fetched)
    }

    /// A pull says that nothing is in hand.
    fn pulled(&mut self) {
        if self.state == State::Started {
            let again = self.new.idempotent && !self.cancel;
            self.state = if again { State::Queued } else { State::Interrupted };
        } else if self.waits() && self.cancel {
            self.state = if self.starts > 0 { State::Interrupted } else { State::Cancelled };
        }
    }
}

fn id_of(index: usize) -> RequestId {
    RequestId::new([u8::try_from(index).unwrap(); 16])
}

async fn play(mut bench: Bench, steps: Vec<Step>) {
    let mut model: Vec<Believed> = Vec::new();
    for step in steps {
        match step {
            Step::Accept { idempotent } => {
                let new = AcceptRequest { id: Some(id_of(model.len())), idempotent, ..plain() };
                bench.accept(new.clone()).await;
                model.push(Believed { new, state: State::Queued, cancel: false, offers: 0, starts: 0 });
            }
            Step::Pull => {
                model.iter_mut().for_each(Believed::pulled);
                let lowest = model.iter().position(Believed::waits);
                assert_eq!(bench.offered().await, lowest.map(id_of));
                if let Some(believed) = lowest.map(|index| &mut model[index]) {
                    believed.state = State::Offered;
                    believed.offers += 1;
                }
            }
            Step::Restart => bench = bench.restart(),
            Step::Repeat(index)
            | Step::Start(index)
            | Step::Fetch(index)
            | Step::Acknowledge(index)
            | Step::Cancel(index) => {
                if let Some(believed) = model.get_mut(index) {
                    one(&bench, &step, id_of(index), believed).await;
                }
            }
        }
        compare(&bench, &model).await;
    }
    assert!(bench.store.audit_check().await.unwrap().intact);
}

async fn one(bench: &Bench, step: &Step, id: RequestId, believed: &mut Believed) {
    match step {
        Step::Repeat(_) => {
            bench.accept(believed.new.clone()).await;
        }
        Step::Start(_) => {
            bench.store.mark(bench.guest.id, id, Stage::Started, Vec::new()).await.unwrap();
            if believed.waits() {
                believed.state = State::Started;
                believed.starts += 1;
            }
        }
        Step::Fetch(_) => {
            bench.store.mark(bench.guest.id, id, Stage::Fetched, Vec::new()).await.unwrap();
            if matches!(believed.state, State::Queued | State::Offered) {
                believed.state = State::Fetched;
            }
        }
        Step::Acknowledge(_) => {
            bench.acknowledge(id, Outcome::Succeeded).await;
            if !believed.state.is_final() {
                believed.state = State::Succeeded;
            }
        }
        Step::Cancel(_) => {
            bench.store.cancel(&ROOT, id, None).await.unwrap();
            if !believed.state.is_final() {
                believed.cancel = true;
                if believed.state == State::Queued {
                    believed.state = if believed.starts > 0 { State::Interrupted } else { State::Cancelled };
                }
            }
        }
        Step::Accept { .. } | Step::Pull | Step::Restart => unreachable!("they are of no single request"),
    }
}

async fn compare(bench: &Bench, model: &[Believed]) {
    let filter = RequestFilter { guest: None, open: false, limit: 1000 };
    let (mut rows, _) = bench.store.requests(filter).await.unwrap();
    rows.reverse();
    let found: Vec<_> =
        rows.iter().map(|row| (row.state, row.cancel_asked, row.offers, row.starts)).collect();
    let believed: Vec<_> = model.iter().map(|one| (one.state, one.cancel, one.offers, one.starts)).collect();
    assert_eq!(found, believed);
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(u64::from(row.sequence), index as u64 + 1);
        assert_eq!(row.receipt.is_some(), row.state.is_final());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(5), ..ProptestConfig::default() })]

    #[test]
    fn requests_live_as_the_model_says(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { play(Bench::new().await, steps).await });
    }
}
