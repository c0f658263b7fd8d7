//! Command lines, and what objdump thinks of an addon.

use std::{fs, io::Write as _, process::Command};

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn check(exist: &[&str], not: &[&str], running: &str, addon: Option<&str>, expected: Expect) {
    check_with(exist, not, running, addon, false, expected);
}

fn check_with(
    exist: &[&str],
    not: &[&str],
    running: &str,
    addon: Option<&str>,
    secure_boot: bool,
    expected: Expect,
) {
    let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let wanted = KernelArguments { should_exist: own(exist), should_not_exist: own(not) };
    let addon = addon.map(str::to_owned);
    let facts = Facts { running: running.to_owned(), addon, secure_boot };
    let found = match plan(&wanted, &facts) {
        Ok(plan) => format!("{plan:?}"),
        Err(error) => format!("{error}\n  {}", error.hint.as_deref().unwrap_or_default()),
    };
    expected.assert_eq(&found);
}

#[test]
fn what_is_there_is_not_added() {
    check(&["quiet", "a=b"], &["splash"], "quiet a=b", None, expect!["Nothing"]);
    check(&["quiet", "a=b"], &[], "quiet a=b", Some("a=b"), expect!["Nothing"]);
    check(&[], &[], "quiet", None, expect!["Nothing"]);
}

#[test]
fn what_is_missing_goes_into_the_addon_in_order() {
    check(&["b", "a=1 a=2", "q"], &[], "q", None, expect![[r#"Restart { addon: "b a=1 a=2" }"#]]);
    check(&["c"], &[], "q b", Some("b"), expect![[r#"Restart { addon: "b c" }"#]]);
    check(&["a=\"x y\""], &[], "q", None, expect![[r#"Restart { addon: "a=\"x y\"" }"#]]);
}

#[test]
fn what_shall_be_there_and_shall_not_is_refused() {
    check(
        &["a", "b"],
        &["c", "d b"],
        "q",
        None,
        expect![[r#"
            $.kernelArguments.shouldExist.1: `b` shall exist, and it shall not (shouldNotExist)
              take it out of one of the two lists"#]],
    );
}

#[test]
fn what_is_not_wanted_leaves_the_addon_and_cannot_leave_the_uki() {
    check(&[], &["b"], "q b", Some("b"), expect![[r#"Restart { addon: "" }"#]]);
    check(&["c"], &["b"], "q b", Some("b c"), expect![[r#"Restart { addon: "c" }"#]]);
    check(
        &[],
        &["q"],
        "q b",
        Some("b"),
        expect![[r#"
        $.kernelArguments.shouldNotExist.0: `q` comes with the image, in the signed part of the kernel
          say its opposite in shouldExist, where there is one: what comes last counts"#]],
    );
    check(
        &[],
        &["b"],
        "b q b",
        Some("b"),
        expect![[r#"
        $.kernelArguments.shouldNotExist.0: `b` comes with the image, in the signed part of the kernel
          say its opposite in shouldExist, where there is one: what comes last counts"#]],
    );
}

#[test]
fn an_addon_that_the_kernel_does_not_hear_of_is_an_error_and_no_endless_restart() {
    check(
        &["b"],
        &[],
        "q",
        Some("b"),
        expect![[r#"
        $.kernelArguments: the addon says `b`, and the kernel was not told
          was it started by the boot loader of this ESP, with a UKI of systemd 254 or newer?"#]],
    );
}

#[test]
fn under_secure_boot_only_a_signed_addon_helps() {
    check_with(
        &["b"],
        &[],
        "q",
        None,
        true,
        expect![[r#"
        $.kernelArguments: Secure Boot is on, and an addon that is not signed says nothing: `b`
          put an addon with these arguments into /loader/addons of the ESP, signed by a key of the firmware (ukify build --cmdline ... --secureboot-private-key ...)"#]],
    );
    check_with(&["b"], &[], "q b", None, true, expect!["Nothing"]);
}

#[test]
fn what_is_no_argument_is_refused() {
    check(
        &[""],
        &[],
        "q",
        None,
        expect![[r#"
        $.kernelArguments.shouldExist.0: `` is no argument of the kernel
          one line, with quotes in pairs"#]],
    );
    check(
        &["a\nb"],
        &[],
        "q",
        None,
        expect![[r#"
        $.kernelArguments.shouldExist.0: `a\nb` is no argument of the kernel
          one line, with quotes in pairs"#]],
    );
    check(
        &[],
        &["a=\"b"],
        "q",
        None,
        expect![[r#"
        $.kernelArguments.shouldNotExist.0: `a=\"b` is no argument of the kernel
          one line, with quotes in pairs"#]],
    );
}

#[test]
fn the_addon_is_written_read_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let esp = Root::open(directory.path()).unwrap();
    assert_eq!(read_addon(&esp).unwrap(), None);
    for text in ["a=b", "a=b c"] {
        write_addon(&esp, text).unwrap();
        assert_eq!(read_addon(&esp).unwrap().as_deref(), Some(text));
    }
    fs::write(directory.path().join(ADDON.trim_start_matches('/')), "damaged").unwrap();
    assert_eq!(read_addon(&esp).unwrap(), None);
    write_addon(&esp, "").unwrap();
    assert_eq!(fs::read_dir(directory.path().join("loader/addons")).unwrap().count(), 0);
}

#[test]
fn objdump_sees_a_program_for_efi_with_the_arguments() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.addon.efi");
    fs::write(&path, addon::write("console=ttyS0 a=b")).unwrap();
    let arguments = ["-p", "-h", "-s", "-j", ".text", "-j", ".cmdline"];
    let Ok(output) = Command::new("objdump").args(arguments).arg(&path).output() else {
        let _ = writeln!(std::io::stderr(), "skipped: no objdump to ask");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for expected in [
        "file format pei-x86-64",
        "(EFI application)",
        "SectionAlignment\t00001000",
        "SizeOfImage\t\t00003000",
        " .cmdline      00000011  0000000100002000",
        "console=ttyS0 a=",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
}

proptest! {
    #[test]
    fn an_addon_says_what_it_was_told(cmdline in "[ -~]{1,5000}") {
        let bytes = addon::write(&cmdline);
        prop_assert_eq!(addon::read(&bytes), Some(cmdline));
        prop_assert_eq!(bytes.len() % 512, 0);
    }

    #[test]
    fn no_file_is_too_strange(mut bytes in prop::collection::vec(any::<u8>(), 0..600), at in 0..1024usize, value: u8) {
        addon::read(&bytes);
        bytes = addon::write("a=b");
        bytes[at] = value;
        addon::read(&bytes);
    }

    #[test]
    fn what_is_planned_and_started_is_there(
        exist in prop::collection::vec("[a-d](=[01])?", 0..4),
        running in prop::collection::vec("[a-d](=[01])?", 0..4),
        not in prop::collection::vec("[e-f]", 0..2),
        ours in prop::collection::vec("[a-f]", 0..3),
    ) {
        let wanted = KernelArguments { should_exist: exist, should_not_exist: not };
        let baked = running.join(" ");
        let facts = Facts {
            running: format!("{baked} {}", ours.join(" ")),
            addon: Some(ours.join(" ")),
            secure_boot: false,
        };
        if let Plan::Restart { addon } = plan(&wanted, &facts).unwrap() {
            let facts = Facts { running: format!("{baked} {addon}"), addon: Some(addon), ..facts };
            prop_assert_eq!(plan(&wanted, &facts).unwrap(), Plan::Nothing);
        }
    }
}
