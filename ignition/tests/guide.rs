//! The documents of docs/first-boot: each is right, and the real program makes of it what the guide
//! says. Disks are image files here, and are only planned; virtual machines make them.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use expect_test::{Expect, expect};
use tempfile::TempDir;

const BOOT_DISK: &str = "/dev/disk/by-id/pithos-boot-disk";
const MIB: u64 = 1 << 20;

/// The tree of a machine, as much of it as documents meet.
struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        fs::set_permissions(tree.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
        tree.write("/etc/passwd", &passwd("core:x:1000:1000::/home/core:/bin/bash"));
        tree.write("/etc/shadow", "root:*:20000::::::\ncore:!:20000::::::\n");
        tree.write("/etc/group", "root:x:0:\nsudo:x:27:core\ncore:x:1000:\n");
        tree.write("/etc/gshadow", "root:*::\nsudo:*::core\ncore:!::\n");
        let timer = "[Timer]\nOnCalendar=weekly\n\n[Install]\nWantedBy=timers.target\n";
        tree.write("/usr/lib/systemd/system/fstrim.timer", timer);
        let link = tree.path("/etc/systemd/system/timers.target.wants/fstrim.timer");
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink("/usr/lib/systemd/system/fstrim.timer", link).unwrap();
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn link(&self, path: &str) -> String {
        let target = fs::read_link(self.path(path));
        target.unwrap_or_else(|error| panic!("{path}: {error}")).display().to_string()
    }

    fn has(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    fn mode(&self, path: &str) -> u32 {
        self.path(path).metadata().unwrap().permissions().mode() & 0o7777
    }

    fn apply(&self, document: &Path) -> Output {
        run(&["apply", "--offline", "--root", &self.0.path().display().to_string()], document)
    }
}

/// A file of users with one besides root.
fn passwd(user: &str) -> String {
    format!("root:x:0:0:root:/root:/bin/bash\n{user}\n")
}

/// Whether homes can be given to those who live there; says so where they cannot.
fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        let _ = writeln!(io::stderr(), "skipped: only root can give files to others");
    }
    is_root
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/first-boot")
}

fn run(arguments: &[&str], document: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ignition"));
    command.args(arguments).arg(document).output().unwrap()
}

/// What a run that went well said on standard output.
fn said(output: Output) -> String {
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{complaints}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// A document without a complaint, applied to a tree twice.
fn applied(name: &str) -> Tree {
    let document = folder().join(name);
    let validated = run(&["validate", "--strict"], &document);
    assert_eq!(String::from_utf8_lossy(&validated.stderr), "");
    applied_with_warnings(&document, validated)
}

fn applied_with_warnings(document: &Path, validated: Output) -> Tree {
    assert_eq!(said(validated), "");
    let converted = tempfile::tempdir().unwrap();
    let json = converted.path().join("converted.ign");
    fs::write(&json, said(run(&["convert"], document))).unwrap();
    assert_eq!(said(run(&["validate", "--strict"], &json)), "");
    let tree = Tree::new();
    said(tree.apply(document));
    let before = picture(&tree);
    for again in [document, &json] {
        let steps = said(tree.apply(again));
        let anew: Vec<&str> =
            steps.lines().filter(|line| !line.ends_with(": it is so already")).collect();
        assert!(anew.is_empty(), "done once more: {anew:?}");
    }
    assert_eq!(picture(&tree), before, "the second time changed something");
    tree
}

/// All that is in a tree: names, permissions, contents and targets.
fn picture(tree: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    let mut directories = vec![tree.0.path().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let what = if metadata.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else if metadata.is_dir() {
                directories.push(path.clone());
                String::new()
            } else {
                fs::read_to_string(&path).unwrap()
            };
            let mode = metadata.permissions().mode();
            lines.push(format!("{} {mode:o} {what:?}", path.display()));
        }
    }
    lines.sort();
    lines
}

/// The steps that a document takes on empty disks of these sizes, up to the first about files.
fn check_disks(name: &str, disks: &[(&str, u64)], expected: Expect) {
    let (tree, folder) = (Tree::new(), tempfile::tempdir().unwrap());
    let mut arguments = vec!["plan".to_owned(), "--root".to_owned()];
    arguments.push(tree.0.path().display().to_string());
    for (index, (device, mib)) in disks.iter().enumerate() {
        let image = folder.path().join(format!("{index}.raw"));
        File::create(&image).unwrap().set_len(mib * MIB).unwrap();
        arguments.extend(["--disk".to_owned(), format!("{device}={}", image.display())]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let steps = said(run(&arguments, &self::folder().join(name)));
    let is_of_disks = |line: &&str| {
        let words = ["/dev/", "  ", "array ", "volume ", "root: "];
        words.iter().any(|word| line.starts_with(word))
    };
    let steps: Vec<&str> = steps.lines().take_while(is_of_disks).collect();
    expected.assert_eq(&(steps.join("\n") + "\n"));
}

const KEY: &str = "ssh-ed25519 \
    AAAAC3NzaC1lZDI1NTE5AAAAIMg9r4REg5OUlMQHnqc46jqGGb5brYTcES+xbHEJtqxJ you@example.org";

#[test]
fn a_key_lets_core_in() {
    if !is_root() {
        return;
    }
    let tree = applied("01-ssh-key.bu");
    assert_eq!(tree.text("/home/core/.ssh/authorized_keys"), format!("{KEY}\n"));
    assert_eq!(tree.mode("/home/core/.ssh/authorized_keys"), 0o600);
}

#[test]
fn ada_gets_an_account_and_the_kernel_a_file_of_settings() {
    if !is_root() {
        return;
    }
    let tree = applied("02-kernel-arguments.ign");
    let ada = "ada:x:1001:1001:Ada, who is on duty:/home/ada:/bin/bash";
    assert!(tree.text("/etc/passwd").ends_with(&format!("{ada}\n")));
    assert!(tree.text("/etc/group").contains("operators:x:2000:ada\n"));
    assert!(tree.text("/etc/group").contains("sudo:x:27:core,ada\n"));
    assert!(tree.text("/etc/shadow").contains("ada:$6$pithosexample$"));
    assert_eq!(tree.text("/etc/sysctl.d/50-more-maps.conf"), "vm.max_map_count = 262144\n");
    assert_eq!(tree.mode("/home/ada"), 0o700);
}

#[test]
fn the_machine_has_a_name_and_an_address() {
    let tree = applied("03-network.bu");
    assert_eq!(tree.text("/etc/hostname"), "node-one\n");
    let network = tree.text("/etc/systemd/network/10-static.network");
    assert!(network.contains("\n[Network]\nAddress=10.0.2.15/24\n"), "{network}");
}

#[test]
fn units_are_there_start_or_never_do() {
    let tree = applied("04-units.bu");
    let system = "/etc/systemd/system";
    assert_eq!(
        tree.link(&format!("{system}/timers.target.wants/heartbeat.timer")),
        "/etc/systemd/system/heartbeat.timer"
    );
    assert!(!tree.has(&format!("{system}/timers.target.wants/fstrim.timer")));
    assert_eq!(tree.link(&format!("{system}/systemd-timesyncd.service")), "/dev/null");
    let limit = tree.text(&format!("{system}/ssh.service.d/10-memory.conf"));
    assert_eq!(limit, "[Service]\nMemoryMax=256M\n");
    assert_eq!(
        tree.text("/etc/systemd/system-preset/20-ignition.preset"),
        "disable fstrim.timer\nenable heartbeat.timer\n"
    );
}

#[test]
fn a_container_has_its_root_and_its_quadlet() {
    let tree = applied("05-container.bu");
    let container = tree.text("/etc/containers/systemd/clock.container");
    assert!(container.contains("\n[Container]\nRootfs=/var/lib/clock\n"), "{container}");
    assert_eq!(tree.link("/var/lib/clock/lib64"), "usr/lib64");
}

#[test]
fn a_second_disk_has_a_database_swap_and_files() {
    if !is_root() {
        return;
    }
    let tree = applied("06-data-disk.bu");
    assert!(tree.text("/etc/passwd").contains("db:x:900:900::/var/lib/db:/usr/sbin/nologin\n"));
    assert_eq!(tree.mode("/var/lib/db/main"), 0o700);
    let mount = tree.text("/etc/systemd/system/var-lib-files.mount");
    assert!(mount.contains("What=/dev/disk/by-partlabel/files\nType=ext4\nOptions=noatime\n"));
    assert!(tree.has("/etc/systemd/system/local-fs.target.requires/var-lib-db.mount"));
    check_disks(
        "06-data-disk.bu",
        &[("/dev/disk/by-id/virtio-data", 2048)],
        expect![[r#"
            /dev/disk/by-id/virtio-data: create partition 1 `db`, 1024 MiB at 1 MiB
            /dev/disk/by-id/virtio-data: create partition 2 `swap`, 256 MiB at 1025 MiB
            /dev/disk/by-id/virtio-data: create partition 3 `files`, 767.0 MiB (804240896 bytes) at 1281 MiB
            /dev/disk/by-partlabel/db: make xfs (mkfs.xfs -f {device})
            /dev/disk/by-partlabel/swap: make swap (mkswap -f {device})
            /dev/disk/by-partlabel/files: make ext4 (mkfs.ext4 -F -L files {device})
        "#]],
    );
}

#[test]
fn two_disks_hold_one_volume() {
    let tree = applied("07-raid-luks.bu");
    let mount = tree.text("/etc/systemd/system/var-lib-safe.mount");
    assert!(mount.contains("What=/dev/mapper/safe\n"), "{mount}");
    assert!(tree.text("/var/lib/safe/README").contains("both disks"));
    let disks = [("/dev/disk/by-id/virtio-one", 1024), ("/dev/disk/by-id/virtio-two", 1024)];
    check_disks(
        "07-raid-luks.bu",
        &disks,
        expect![[r#"
        array safe: make it on /dev/disk/by-id/virtio-one, /dev/disk/by-id/virtio-two (mdadm --create /dev/md/safe --force --run --homehost any --level raid1 --raid-devices 2)
        volume safe: make it on /dev/md/safe
          cryptsetup luksFormat --batch-mode --type luks2 --key-file {key} --subsystem pithos-unfinished --label safe {device}
          cryptsetup luksOpen {device} safe --key-file {key} --persistent
        /dev/mapper/safe: make ext4, unless it is there (mkfs.ext4 -F {device})
    "#]],
    );
}

#[test]
fn root_is_xfs_and_leaves_room_for_containers() {
    let tree = applied("08-root.bu");
    let mount = tree.text("/etc/systemd/system/var-lib-containers.mount");
    assert!(mount.contains("What=/dev/disk/by-partlabel/containers\n"), "{mount}");
    check_disks(
        "08-root.bu",
        &[(BOOT_DISK, 8192)],
        expect![[r#"
        /dev/disk/by-id/pithos-boot-disk: create partition 7 `containers`, 1472.0 MiB (1543486976 bytes) at 6720 MiB
        /dev/disk/by-partlabel/containers: make xfs (mkfs.xfs -f {device})
        root: make xfs `root`, at most 4096 MiB
    "#]],
    );
}

#[test]
fn the_document_that_is_merged_has_the_last_word() {
    let tree = applied("09-merged.bu");
    assert_eq!(tree.text("/etc/motd"), "A machine of the shop.");
    assert_eq!(
        tree.text("/etc/issue.d/owner.issue"),
        "Calls for this machine go to the duty desk.\n"
    );
}

#[test]
fn a_cloud_config_is_applied_by_the_same_program() {
    if !is_root() {
        return;
    }
    let document = folder().join("10-cloud-config.yaml");
    let validated = run(&["validate"], &document);
    let warning = "warning: `start` of hello.service became: multi-user.target starts it on every \
                   boot\n";
    let complaints = String::from_utf8_lossy(&validated.stderr).into_owned();
    assert!(complaints.starts_with(warning), "{complaints}");
    assert_eq!(complaints.matches("warning: ").count(), 1, "{complaints}");
    let tree = applied_with_warnings(&document, validated);
    assert_eq!(tree.text("/etc/hostname"), "node-ten\n");
    assert_eq!(tree.text("/home/core/.ssh/authorized_keys"), format!("{KEY}\n"));
    assert!(tree.text("/etc/passwd").contains("ada:x:1001:1001:Ada, who is on duty:"));
    let link = "/etc/systemd/system/multi-user.target.wants/hello.service";
    assert_eq!(tree.link(link), "../hello.service");
    // On every boot, it is applied to the system that runs.
    let root = Tree::new();
    let arguments = ["cloud-config", "--root", &root.0.path().display().to_string(), "--from"];
    said(run(&arguments, &document));
    assert_eq!(root.text("/etc/hostname"), "node-ten\n");
    assert!(root.text("/etc/motd").contains("by a cloud-config"));
}

#[test]
fn a_document_is_applied_as_a_whole_also_where_nobody_listens() {
    let tree = Tree::new();
    let document = folder().join("04-units.bu");
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ignition"));
    command.args(["apply", "--offline", "--root"]).arg(tree.0.path()).arg(document);
    let output = command.stdout(writer).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(tree.has("/etc/systemd/system-preset/20-ignition.preset"));
}

#[test]
fn the_guide_shows_every_document_as_it_is() {
    let guide = fs::read_to_string(folder().join("../first-boot.md")).unwrap();
    let mut names: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), 10, "{names:?}");
    for name in names {
        let text = fs::read_to_string(folder().join(&name)).unwrap();
        assert!(guide.contains(&format!("](first-boot/{name})")), "{name} is not in the guide");
        assert!(guide.contains(&format!("\n{text}```\n")), "the guide shows another {name}");
    }
}
