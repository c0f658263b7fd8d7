//! `image repro` itself, on builds that take no time.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

/// What every script here knows after its first lines.
const PRELUDE: &str = r#"#!/bin/sh
set -eu
repo=$3; build=$5; shift 5
mkdir "$build/image"
echo '{"version": "1", "as_locked": false}' > "$build/image/manifest.json"
"#;

/// A checkout with a program that builds, in a folder that goes at the end.
struct Site {
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl Site {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repo = folder.path().join("repo");
        fs::create_dir(&repo).unwrap();
        for name in ["one", "two"] {
            fs::write(repo.join(name), name).unwrap();
        }
        fs::write(repo.join(".gitignore"), "/build/\n").unwrap();
        let git = |words: &[&str]| {
            let name = ["-c", "user.name=x", "-c", "user.email=x@localhost"];
            let done = Command::new("git").current_dir(&repo).args(name).args(words).status();
            assert!(done.unwrap().success(), "git {words:?}");
        };
        git(&["init", "--quiet"]);
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", "x"]);
        let program = folder.path().join("program");
        fs::write(&program, format!("{PRELUDE}{script}")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder, program }
    }

    fn repo(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    fn build(&self) -> PathBuf {
        self.repo().join("build")
    }

    fn repro(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_image"))
            .arg("repro")
            .args(["--program".as_ref(), self.program.as_os_str()])
            .args(["--repo".as_ref(), self.repo().as_os_str()])
            .args(words)
            .env("TZ", "Europe/Berlin")
            .output()
            .unwrap()
    }

    fn report(&self) -> Value {
        serde_json::from_slice(&fs::read(self.build().join("repro.json")).unwrap()).unwrap()
    }
}

fn text(output: &Output) -> String {
    let (said, complained) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(said), String::from_utf8_lossy(complained))
}

#[test]
fn equal_builds_are_equal_whatever_is_around_them() {
    let site = Site::new(r#"echo "$@" > "$build/image/a.raw""#);
    let output = site.repro(&["--", "--locked"]);
    assert!(output.status.success(), "{}", text(&output));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("a.raw          equal          9 B  sha256 "), "{said}");
    assert!(said.contains("equal: 2 artefacts"), "{said}");
    let report = site.report();
    assert_eq!(report["equal"], true);
    assert_eq!(report["version"], "1");
    assert_eq!(report["artefacts"][0]["file"], "a.raw");
    assert!(!site.build().join("repro").exists(), "nothing is left behind");
    assert!(site.repro(&["--keep"]).status.success());
    assert!(site.build().join("repro/a/build/image/a.raw").exists());
}

#[test]
fn whatever_leaks_into_an_artefact_is_named() {
    let site = Site::new(
        r#"cat > "$build/image/leaks.json" <<END
{"umask": "$(umask)", "zone": "$TZ", "home": "$HOME", "locale": "${LC_ALL-}", "repo": "$repo",
 "host": "$(uname -n)", "processors": "$(nproc)", "mode": "$(stat -c %a "$repo/one")",
 "order": "$(cd "$repo" && ls -U one two | head -1)", "here": "$(pwd)"}
END"#,
    );
    let output = site.repro(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let said = String::from_utf8_lossy(&output.stdout);
    let report = site.report();
    assert_eq!(report["equal"], false);
    let varied = report["varied"].as_array().unwrap();
    let is_varied = |what: &str| varied.iter().any(|varied| varied["what"] == what);
    for (what, leak) in [
        ("umask", "field umask: \"0022\" != \"0077\""),
        ("umask", "field mode: \"644\" != \"600\""),
        ("time zone", "field zone: \"Europe/Berlin\" != \"Pacific/Kiritimati\""),
        ("checkout", "field repo: "),
        ("checkout", "field here: "),
        ("home", "field home: "),
        ("locale", "field locale: "),
        ("host name", "field host: "),
        ("processors", "field processors: "),
    ] {
        let said = said.contains(&format!("leaks.json: {leak}"));
        assert_eq!(said, is_varied(what), "{leak} in {}", text(&output));
    }
    for what in ["umask", "time zone", "checkout", "home"] {
        assert!(is_varied(what), "{what} can be varied anywhere: {varied:?}");
    }
    // Both are kept to be looked at.
    let b = report["varied"].as_array().unwrap().iter().find(|it| it["what"] == "checkout");
    assert!(Path::new(b.unwrap()["b"].as_str().unwrap()).join("one").exists());
}

#[test]
fn a_program_with_a_clock_in_it_is_caught() {
    let site = Site::new(r#"date +%s%N > "$build/image/stamp""#);
    let output = site.repro(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("stamp: line 1: "), "{}", text(&output));
}

#[test]
fn a_later_date_is_another_circumstance() {
    let site = Site::new(
        r#"echo '{"as_locked": true}' > "$build/image/manifest.json"; date +%Y-%m > "$build/image/month""#,
    );
    let output = site.repro(&[]);
    let dated = site.report()["varied"].to_string().contains("\"date\"");
    // Where there is no libfaketime, that is said.
    assert_eq!(dated, text(&output).contains("month: line 1: "), "{}", text(&output));
    assert_eq!(dated, !text(&output).contains("it is only later by a build"));
}

#[test]
fn the_first_build_can_be_the_image_that_is_there() {
    let site = Site::new(r#"echo 2 > "$build/image/a.raw""#);
    let output = site.repro(&["--reuse-first"]);
    assert!(!output.status.success());
    assert!(text(&output).contains("what to do: `./pith image`"), "{}", text(&output));

    let image = site.build().join("image");
    fs::create_dir_all(&image).unwrap();
    fs::write(image.join("a.raw"), "1\n").unwrap();
    fs::write(image.join("manifest.json"), "{\"version\": \"1\", \"as_locked\": false}\n").unwrap();
    let output = site.repro(&["--reuse-first"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("  a.raw: line 1: \"1\" != \"2\"\n"), "{}", text(&output));
    assert_eq!(site.report()["first_build_reused"], true);

    fs::write(image.join("manifest.json"), "{\"build_id\": \"0123\"}").unwrap();
    let output = site.repro(&["--reuse-first"]);
    assert!(text(&output).contains("was built from 0123, and the checkout is at "));
}

#[test]
fn a_build_that_fails_is_no_verdict() {
    let site = Site::new("echo 'no space' >&2; exit 7");
    let output = site.repro(&[]);
    assert!(!output.status.success());
    let said = text(&output);
    assert!(said.contains("no space") && said.contains("the first build failed"), "{said}");
    assert!(!site.build().join("repro.json").exists());
}

#[test]
fn a_changed_checkout_is_built_with_its_changes() {
    let site = Site::new(
        r#"cat "$repo/one" > "$build/image/a.raw"; git -C "$repo" status -s >> "$build/image/a.raw""#,
    );
    fs::write(site.repo().join("one"), "changed\n").unwrap();
    fs::write(site.repo().join("three"), "new\n").unwrap();
    let output = site.repro(&["--keep"]);
    assert!(output.status.success(), "{}", text(&output));
    let made = fs::read_to_string(site.build().join("repro/b/output/image/a.raw")).unwrap();
    assert_eq!(made, "changed\n M one\n?? three\n");
}
