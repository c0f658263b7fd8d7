//! The lives of a member on a disk of the worst kind: it starts, is asked for things, writes down what
//! it keeps, and power fails; again and again.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use crate::{
    consensus::{Alone, Consensus, Options},
    log::{
        self, Owner,
        simulated::{Fault, Simulated},
    },
    member::understand,
    snapshot::{self, Snapshot},
    state::{Ask, Command, State, tests::ask},
};

const OWNER: Owner = Owner { cluster: 1, member: 2 };
const OPTIONS: Options = Options { segment_bytes: 1 << 14, salt: 7 };

/// The disks of a member, which fail together.
#[derive(Clone)]
struct Disks {
    log: Simulated,
    snapshots: Simulated,
}

#[derive(Clone, Debug)]
enum Step {
    /// Some commands, agreed on at once.
    Ask(Vec<Ask>),
    /// The log is to get shorter.
    WriteDown,
    /// A compaction goes on.
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => proptest::collection::vec(ask(), 1..5).prop_map(Step::Ask),
        1 => Just(Step::WriteDown),
        1 => Just(Step::Sweep),
    ]
}

fn start(disks: &Disks) -> Result<(Alone<Simulated>, State), snapshot::Error> {
    let Snapshot { place, mut state } = snapshot::load(&disks.snapshots, OWNER)?;
    let redo = |committed| {
        let (_, ask) = understand(&committed).expect("a command");
        // What was refused then is refused now.
        drop(state.apply(ask));
    };
    let (alone, _) = Alone::open(disks.log.clone(), OWNER, OPTIONS, place, redo)?;
    Ok((alone, state))
}

/// Lives until power fails or all is done. What was acknowledged is in `known`, what was only asked
/// for in `maybe`.
fn live(
    disks: &Disks,
    steps: Vec<Step>,
    known: &mut State,
    maybe: &mut Vec<Ask>,
) -> Result<(), log::Error> {
    let (mut alone, mut state) = match start(disks) {
        Ok(started) => started,
        Err(snapshot::Error::File(error)) => return Err(error),
        Err(error) => panic!("{error}"),
    };
    *known = explain(known, maybe, &state).expect("it is what was acknowledged, and a bit more");
    maybe.clear();
    for step in steps {
        match step {
            Step::Ask(asks) => {
                for ask in &asks {
                    let command = Command { member: 2, number: 0, ask: Some(ask.clone()) };
                    alone.propose(Bytes::from(command.encode_to_vec()));
                }
                maybe.clone_from(&asks);
                for committed in alone.advance()? {
                    let (_, ask) = understand(&committed).expect("a command");
                    drop(state.apply(ask));
                }
                maybe.clear();
                for ask in asks {
                    drop(known.apply(ask));
                }
            }
            Step::WriteDown => {
                let mark = alone.mark();
                let snapshot = Snapshot { place: mark.place, state: state.clone() };
                snapshot::save(&disks.snapshots, OWNER, 9, &snapshot)?;
                alone.forget(mark)?;
            }
            Step::Sweep => drop(state.sweep(3)),
        }
    }
    Ok(())
}

/// What was known and as much of what was asked for, in its order, as makes what was found.
fn explain(known: &State, maybe: &[Ask], found: &State) -> Option<State> {
    let mut candidate = known.clone();
    let mut asks = maybe.iter();
    loop {
        if content(&candidate) == content(found) {
            return Some(candidate);
        }
        drop(candidate.apply(asks.next()?.clone()));
    }
}

fn content(state: &State) -> Vec<crate::state::piece::Piece> {
    let mut swept = state.clone();
    while swept.sweep(1000) {}
    swept.pieces().collect()
}

proptest! {
    #[test]
    fn what_was_answered_survives_every_power_cut(
        lives in proptest::collection::vec(
            (proptest::collection::vec(step(), 0..25), 1_u64..60, 1_u64..30, any::<u64>()),
            1..6,
        ),
    ) {
        let disks = Disks { log: Simulated::new(), snapshots: Simulated::new() };
        let (mut known, mut maybe) = (State::default(), Vec::new());
        for (steps, log_fails, snapshots_fail, seed) in lives {
            disks.log.fail_in(log_fails, Fault::Power);
            disks.snapshots.fail_in(snapshots_fail, Fault::Power);
            if let Err(error) = live(&disks, steps, &mut known, &mut maybe) {
                let by_power = matches!(error, log::Error::Disk { .. });
                prop_assert!(by_power, "{error}");
            }
            disks.log.cut(seed);
            disks.snapshots.cut(seed);
        }
        let (_, found) = start(&disks).expect("the disks are whole");
        prop_assert!(explain(&known, &maybe, &found).is_some(), "what was acknowledged is gone");
    }
}
