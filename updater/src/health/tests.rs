//! What becomes of a version, by what its checks say.

use expect_test::{Expect, expect};

use super::*;

fn boot(trial: Option<Trial>) -> Boot {
    Boot {
        version: "2".parse().unwrap(),
        root_hash: RootHash([2; 32]),
        trial,
        failing: BTreeSet::from(["unit old.service".to_owned()]),
    }
}

const TRIAL: Option<Trial> = Some(Trial { left: 2, done: 1 });

fn check(checks: &[(&str, bool, Option<&str>)], picture: Expect) {
    let results = checks.iter().map(|&(name, is_required, failure)| {
        (name.to_owned(), Outcome { is_required, failure: failure.map(str::to_owned) })
    });
    picture.assert_debug_eq(&judge(&boot(TRIAL), &results.collect()));
}

#[test]
fn a_version_whose_required_checks_pass_is_healthy() {
    check(
        &[("required.d/ssh", true, None), ("wanted.d/time", false, None)],
        expect![[r#"
        Healthy {
            warnings: [],
        }
    "#]],
    );
}

#[test]
fn what_is_only_wanted_or_failed_before_is_a_warning() {
    check(
        &[
            ("unit old.service", true, Some("failed")),
            ("wanted.d/time", false, Some("no server answers")),
        ],
        expect![[r#"
            Healthy {
                warnings: [
                    "unit old.service: failed (as before the update)",
                    "wanted.d/time: no server answers",
                ],
            }
        "#]],
    );
}

#[test]
fn one_required_check_that_fails_is_enough() {
    check(
        &[("unit new.service", true, Some("failed")), ("required.d/ssh", true, None)],
        expect![[r#"
            Unhealthy {
                reasons: [
                    "unit new.service: failed",
                ],
            }
        "#]],
    );
}

#[test]
fn only_a_version_on_trial_falls_back_and_only_to_one_that_is_whole() {
    let other = || "1".parse::<Version>().unwrap();
    assert_eq!(then(&boot(TRIAL), Ok(other())), Then::FallBack { to: other() });
    let said = |boot: &Boot, other| match then(boot, other) {
        Then::Stay { why } => why,
        Then::FallBack { to } => panic!("falls back to {to}"),
    };
    assert_eq!(
        said(&boot(TRIAL), Err("slot B is empty".to_owned())),
        "there is nothing to fall back to: slot B is empty"
    );
    assert_eq!(
        said(&boot(None), Ok(other())),
        "version 2 has proven itself before: it is not what changed"
    );
}
