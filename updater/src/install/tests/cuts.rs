//! Power fails in every step of an update and of the boots after it, and in every pair of them.

use super::{
    boot::{Booted, NoBoot, bless, power_on},
    *,
};
use crate::{
    records::{Bad, Installed, Outcome},
    slots::{Slots, Uki},
};

/// From power on until `new` is proven: boots, installs, boots again.
fn life(machine: &Machine, lives: &Lives<'_>, seed: u64) -> Result<(), NoBoot> {
    let Lives { old, new, others, .. } = *lives;
    let mut known = vec![old, new];
    known.extend(others);
    for _ in 0..8 {
        let booted = power_on(machine, &known)?;
        machine.fsck(seed);
        if booted.version == new.version() {
            on_esp(machine, &booted, |slots| tidy(machine, slots, Some(&booted.uki)).map(drop))?;
            if !booted.on_trial {
                return Ok(());
            }
            bless(machine, &booted)?;
        } else if booted.version == old.version() {
            on_esp(machine, &booted, |slots| update(machine, &booted, slots, new))?;
        } else {
            return Err(NoBoot::Lost(format!("{} came up", booted.version)));
        }
        machine.settle();
    }
    Err(NoBoot::Lost(format!("{} never came up", new.version())))
}

/// What the engine does on the old version.
fn update(machine: &Machine, booted: &Booted, slots: &Slots, new: &Made) -> Result<(), Error> {
    let outcome = Installed::load(machine.state())?
        .filter(|installed| installed.version == new.wanted.version)
        .map(|installed| installed.outcome(slots, &Bad::default()));
    // One that is armed is only looked at again: its UKI may have been torn.
    assert!(!matches!(outcome, Some(Outcome::Failed(_))), "{outcome:?}");
    install(machine, &booted.root_hash, new).map(drop)
}

fn on_esp(
    machine: &Machine,
    booted: &Booted,
    act: impl FnOnce(&Slots) -> Result<(), Error>,
) -> Result<(), NoBoot> {
    let result = || {
        let entries = machine.table()?.entries();
        let files = machine.esp().list().expect("a folder");
        let names = files.iter().map(|file| file.name.as_str());
        act(&Slots::read(&entries, &booted.root_hash, names)?)
    };
    result().map_err(|error| match machine.power.is_gone() {
        true => NoBoot::Gone,
        false => NoBoot::Lost(format!("{booted:?}: {error:?}")),
    })
}

/// A life in which power fails in these steps, counted from the power before.
fn with_cuts(begin: &Machine, cuts: &[u64], seed: u64, of: &Lives<'_>) -> usize {
    let machine = begin.copy();
    let mut failed = 0;
    for (n, cut) in cuts.iter().map(Some).chain([None]).enumerate() {
        machine.power.fail_in(cut.copied());
        match life(&machine, of, seed) {
            Ok(()) => break,
            Err(NoBoot::Gone) if cut.is_some() => {
                failed += 1;
                machine.cut(seed.wrapping_mul(1000).wrapping_add(n as u64));
            }
            Err(NoBoot::Gone) => panic!("{}: power failed by itself", of.name),
            Err(NoBoot::Lost(why)) => panic!("{}: cuts {cuts:?}, seed {seed}: {why}", of.name),
        }
    }
    // One that was left behind may have been booted in between: it is taken last all the same.
    let as_left = |name: String| match Uki::parse(&name) {
        Some(uki) if uki.is_spent() => uki.retired().name(),
        _ => name,
    };
    let names = machine.esp().list().unwrap().into_iter().map(|file| as_left(file.name));
    let names: BTreeSet<String> = names.collect();
    let old = Uki { version: of.old.wanted.version.clone(), trial: None };
    let old = if of.new.wanted.goes_back { old.retired() } else { old };
    let expected = BTreeSet::from([old.name(), of.new.wanted.version.uki_name(None)]);
    assert_eq!(names, expected, "{}: cuts {cuts:?}, seed {seed}: what is left over", of.name);
    failed
}

struct Lives<'a> {
    name: &'a str,
    old: &'a Made,
    new: &'a Made,
    others: &'a [&'a Made],
}

fn everywhere(name: &str, other: impl for<'a> Fn(&'a [Made; 4]) -> Holds<'a>, pairs: bool) {
    let made = ["1", "2", "3", "9"].map(Made::new);
    let [older, old, new, bad] = &made;
    let begin = machine(old, other(&made));
    all_cuts(&begin, &Lives { name, old, new, others: &[older, bad] }, pairs);
}

fn all_cuts(begin: &Machine, lives: &Lives<'_>, pairs: bool) {
    let name = lives.name;
    let steps = {
        let machine = begin.copy();
        life(&machine, lives, 0).expect("a life without cuts");
        machine.power.steps()
    };
    assert!(steps > 3, "{name}: {steps} steps");
    for first in 1..=steps {
        for seed in 0..30 {
            assert_eq!(with_cuts(begin, &[first], seed, lives), 1);
        }
        if pairs {
            for second in 1..=steps {
                with_cuts(begin, &[first, second], first * 100 + second, lives);
            }
        }
    }
}

#[test]
fn a_machine_with_an_empty_slot_boots_the_old_version_or_the_new_one() {
    everywhere("empty", |_| Holds::Nothing, true);
}

#[test]
fn so_does_one_that_has_the_version_before_in_the_other_slot() {
    everywhere("older", |made| Holds::Version(&made[0], ""), true);
}

#[test]
fn so_does_one_that_fell_back_from_a_bad_version() {
    everywhere("bad", |made| Holds::Version(&made[3], "+0-3"), false);
}

#[test]
fn so_does_one_on_which_an_older_engine_left_bytes() {
    everywhere("bytes", |made| Holds::Bytes(&made[2]), false);
}

/// Version 3 runs, and version 1 is what the machine is sent back to.
fn sent_back(name: &str, other: impl for<'a> Fn(&'a Made) -> Holds<'a>) {
    let [older, old] = ["1", "3"].map(Made::new);
    let back = Made { wanted: Wanted { goes_back: true, ..older.wanted.clone() }, ..older };
    let begin = machine(&old, other(&back));
    all_cuts(&begin, &Lives { name, old: &old, new: &back, others: &[] }, true);
}

#[test]
fn so_does_one_that_is_sent_back_to_an_older_version() {
    sent_back("back", |_| Holds::Nothing);
}

#[test]
fn so_does_one_that_is_sent_back_to_the_version_before_which_it_still_has() {
    sent_back("back at once", |back| Holds::Version(back, ""));
}

#[test]
fn so_does_one_on_which_another_version_waits_for_its_first_boot() {
    // Version 9 would be booted before version 3: it has to go first.
    let made = ["1", "2", "3", "9"].map(Made::new);
    let [_, old, new, waiting] = &made;
    let begin = machine(old, Holds::Version(waiting, "+3"));
    let count = begin.copy();
    install(&count, old.root_hash(), new).unwrap();
    for step in 1..=count.power.steps() {
        for seed in 0..30 {
            let machine = begin.copy();
            machine.power.fail_in(Some(step));
            install(&machine, old.root_hash(), new).unwrap_err();
            machine.cut(seed);
            let booted = power_on(&machine, &[old, new, waiting]);
            let booted = booted.unwrap_or_else(|why| panic!("step {step}, seed {seed}: {why:?}"));
            assert!(booted.version != "1", "step {step}, seed {seed}: {booted:?}");
        }
    }
}
