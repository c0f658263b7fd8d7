//! A version that boots and is not healthy, or never boots, on a machine whose power fails, too.

use std::collections::BTreeMap;

use super::{
    boot::{Booted, NoBoot, power_on},
    *,
};
use crate::{
    health::{
        Boot, Then,
        perform::{give_up, look, other},
        then,
    },
    records::{Bad, Installed, Outcome},
    slots::{Slots, Trial},
};

fn versions() -> [Made; 2] {
    ["1", "2"].map(Made::new)
}

/// Version 2 was installed by version 1 and is booted on trial.
fn on_trial() -> (Machine, Booted) {
    let [old, new] = versions();
    let machine = machine(&old, Holds::Nothing);
    install(&machine, old.root_hash(), &new).unwrap();
    machine.settle();
    let booted = power_on(&machine, &[&old, &new]).unwrap();
    assert_eq!((booted.version.as_str(), booted.on_trial), ("2", true));
    (machine, booted)
}

fn slots(machine: &Machine, running: &RootHash) -> Slots {
    let files = machine.esp().list().unwrap();
    let names = files.iter().map(|file| file.name.as_str());
    Slots::read(&machine.table().unwrap().entries(), running, names).unwrap()
}

fn boot(machine: &Machine, booted: &Booted) -> Result<Boot, crate::health::Error> {
    let (boot, results) = look(machine, &booted.root_hash, Some(&booted.uki))?;
    assert!(results.values().all(|outcome| outcome.failure.is_none()), "{results:?}");
    Ok(boot)
}

fn outcome(machine: &Machine, running: &RootHash) -> Outcome {
    let installed = Installed::load(machine.state()).unwrap().expect("it was installed");
    installed.outcome(&slots(machine, running), &Bad::load(machine.state()).unwrap())
}

#[test]
fn a_version_that_is_given_up_boots_no_more_wherever_power_fails() {
    let [old, new] = versions();
    let known = [&old, &new];
    // What update-engine health does with an unhealthy version.
    let unhealthy = |machine: &Machine, booted: &Booted| -> Result<(), crate::health::Error> {
        let boot = boot(machine, booted)?;
        let other = other(machine, &booted.root_hash)?;
        assert_eq!(then(&boot, other), Then::FallBack { to: old.wanted.version.clone() });
        give_up(machine, &boot, &booted.root_hash, &["ssh: no answer".to_owned()])
    };
    let (begin, booted) = on_trial();
    let steps = {
        let machine = begin.copy();
        unhealthy(&machine, &booted).unwrap();
        machine.power.steps()
    };
    for (step, seed) in (1..=steps + 1).flat_map(|step| (0..40).map(move |seed| (step, seed))) {
        let machine = begin.copy();
        machine.power.fail_in(Some(step));
        let result = unhealthy(&machine, &booted);
        assert_eq!(result.is_ok(), step > steps);
        machine.cut(seed);
        let mut boots = 1;
        let mut last = power_on(&machine, &known);
        while let Ok(booted) = &last
            && booted.version == "2"
        {
            machine.fsck(seed);
            unhealthy(&machine, booted).unwrap();
            machine.settle();
            boots += 1;
            last = power_on(&machine, &known);
        }
        let last = last.unwrap_or_else(|why| panic!("step {step}, seed {seed}: {why:?}"));
        assert_eq!(last.version, "1", "step {step}, seed {seed}");
        assert!(boots <= 2, "step {step}, seed {seed}: {boots} boots");
        let bad = Bad::load(machine.state()).unwrap();
        let reason = bad.reason(&new.wanted.version, new.root_hash());
        assert_eq!(reason, Some("ssh: no answer"), "step {step}, seed {seed}");
        // It is known already, and not found out once more.
        assert_eq!(outcome(&machine, old.root_hash()), Outcome::Nothing);
    }
}

#[test]
fn a_version_that_never_comes_up_is_left_after_three_tries_and_found_out() {
    let [old, new] = versions();
    let machine = machine(&old, Holds::Nothing);
    install(&machine, old.root_hash(), &new).unwrap();
    assert_eq!(outcome(&machine, old.root_hash()), Outcome::Waiting);
    let mut boots = vec![];
    for _ in 0..4 {
        machine.settle();
        // Its kernel panics, its /init stops, it hangs: nothing of it runs that could say so.
        boots.push(power_on(&machine, &[&old, &new]).unwrap().version);
    }
    assert_eq!(boots, ["2", "2", "2", "1"]);
    let Outcome::Failed(bad) = outcome(&machine, old.root_hash()) else { panic!("it failed") };
    assert_eq!(bad.reason, "it was started 3 times and never came up healthy");
    Bad::default().remember(bad, machine.state()).unwrap();
    assert_eq!(outcome(&machine, old.root_hash()), Outcome::Nothing);
}

#[test]
fn what_was_installed_is_followed_until_it_is_proven() {
    let (machine, booted) = on_trial();
    let trial = Trial { left: 2, done: 1 };
    assert_eq!(outcome(&machine, &booted.root_hash), Outcome::OnTrial(trial));
    super::boot::bless(&machine, &booted).unwrap();
    assert_eq!(outcome(&machine, &booted.root_hash), Outcome::Proven);
    let [old, _] = versions();
    // The operator goes back to the old version, and takes the new one's UKI away.
    assert_eq!(outcome(&machine, old.root_hash()), Outcome::Nothing);
    machine.esp().remove("pithos_2.efi").unwrap();
    assert_eq!(outcome(&machine, old.root_hash()), Outcome::Unfinished);
}

#[test]
fn nothing_falls_back_to_a_version_that_would_not_boot() {
    let (begin, booted) = on_trial();
    let [old, _] = versions();
    type Damage = fn(&Machine);
    let damages: BTreeMap<&str, Damage> = BTreeMap::from([
        (
            "slot A is damaged",
            (|machine| {
                let usr = machine.partition(Role::Usr(Slot::A)).unwrap();
                usr.write_all_at(&[0; 512], 4096).unwrap();
            }) as Damage,
        ),
        ("pithos_1.efi on the ESP is damaged", |machine| {
            machine.esp().write("pithos_1.efi", 0, b"UKI").unwrap();
        }),
        ("version 1 has no UKI on the ESP with tries left", |machine| {
            machine.esp().rename("pithos_1.efi", "pithos_1+0-3.efi").unwrap();
        }),
    ]);
    for (why, damage) in damages {
        let machine = begin.copy();
        damage(&machine);
        assert_eq!(other(&machine, &booted.root_hash).unwrap(), Err(why.to_owned()));
    }
    let whole = other(&begin, &booted.root_hash).unwrap();
    assert_eq!(whole, Ok(old.wanted.version));
}

#[test]
fn a_trial_finds_damage_to_what_it_runs_from() {
    let (machine, booted) = on_trial();
    let usr = machine.partition(Role::Usr(Slot::B)).unwrap();
    usr.write_all_at(&[0; 512], 10 * 4096).unwrap();
    machine.esp().write(&booted.uki, 0, b"UKI of nobody").unwrap();
    let (_, results) = look(&machine, &booted.root_hash, Some(&booted.uki)).unwrap();
    let failed: Vec<&str> =
        results.iter().filter(|(_, o)| o.failure.is_some()).map(|(name, _)| &**name).collect();
    assert_eq!(failed, ["uki", "usr"]);
    assert!(matches!(power_on(&machine, &[]), Err(NoBoot::Lost(_))));
}

/// Version 2 ran, and the machine was sent back to version 1, which is booted on trial.
fn sent_back() -> (Machine, Booted) {
    let [old, new] = versions();
    let machine = machine(&new, Holds::Nothing);
    let back = Made { wanted: Wanted { goes_back: true, ..old.wanted.clone() }, ..old };
    install(&machine, new.root_hash(), &back).unwrap();
    assert_eq!(outcome(&machine, new.root_hash()), Outcome::Waiting);
    machine.settle();
    let booted = power_on(&machine, &[&back, &new]).unwrap();
    assert_eq!((booted.version.as_str(), booted.on_trial), ("1", true));
    (machine, booted)
}

#[test]
fn a_version_that_a_machine_was_sent_back_to_falls_back_to_the_newer_one() {
    let [old, new] = versions();
    let known = [&old, &new];
    // It never comes up.
    let (machine, _) = sent_back();
    let mut boots = vec![];
    for _ in 0..3 {
        machine.settle();
        boots.push(power_on(&machine, &known).unwrap().version);
    }
    assert_eq!(boots, ["1", "1", "2"]);
    assert!(matches!(outcome(&machine, new.root_hash()), Outcome::Failed(_)));

    // It comes up, and is not healthy.
    let (machine, booted) = sent_back();
    let trial = boot(&machine, &booted).unwrap();
    let other = other(&machine, &booted.root_hash).unwrap();
    assert_eq!(then(&trial, other), Then::FallBack { to: new.wanted.version.clone() });
    give_up(&machine, &trial, &booted.root_hash, &["ssh: no answer".to_owned()]).unwrap();
    machine.settle();
    let booted = power_on(&machine, &known).unwrap();
    assert_eq!(booted.version, "2");
    // That one has been left behind, and proves itself once more.
    super::boot::bless(&machine, &booted).unwrap();
    machine.settle();
    let booted = power_on(&machine, &known).unwrap();
    assert_eq!((booted.version.as_str(), booted.on_trial), ("2", false));
}

#[test]
fn a_machine_that_is_not_to_go_back_after_all_stays() {
    let [old, new] = versions();
    let machine = machine(&new, Holds::Version(&old, ""));
    let back = Made { wanted: Wanted { goes_back: true, ..old.wanted.clone() }, ..old.clone() };
    install(&machine, new.root_hash(), &back).unwrap();
    take_back(&machine, &slots(&machine, new.root_hash())).unwrap();
    machine.settle();
    assert_eq!(power_on(&machine, &[&old, &new]).unwrap().version, "2");
    assert_eq!(outcome(&machine, new.root_hash()), Outcome::Nothing);
}
