//! Both phases over a small root directory, with stand-ins for the programs of the tools tree.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use expect_test::expect;

use super::*;

/// A root of mkosi, a rootfs, and programs.
struct Workshop {
    dir: tempfile::TempDir,
}

impl Workshop {
    fn new() -> Self {
        let shop = Self { dir: tempfile::tempdir().unwrap() };
        shop.file("root/usr/bin/mawk", "program", 0o755);
        shop.file("root/usr/bin/sh", "shell", 0o755);
        shop.file("root/usr/bin/tool", "#!/usr/bin/awk -f\n", 0o755);
        shop.file("root/usr/share/doc/mawk/NEWS", "news", 0o644);
        shop.file("root/usr/lib/sysusers.d/basic.conf", "u root 0\ng input -\n", 0o644);
        shop.file("root/etc/passwd", "root:x:0:0::/root:/bin/sh\n", 0o644);
        shop.file("root/etc/group", "root:x:0:\ninput:x:990:\n", 0o644);
        shop.file("root/etc/hosts", "127.0.0.1 localhost\n", 0o664);
        shop.link("root/etc/alternatives/awk", "/usr/bin/mawk");
        shop.link("root/usr/bin/awk", "/etc/alternatives/awk");
        shop.file("root/boot/vmlinuz-6.12", "kernel", 0o600);
        shop.file("root/var/lib/dpkg/info/mawk.list", "/.\n/usr/bin/mawk\n", 0o644);
        let mut packed = vec![];
        let mut encoder = liblzma::write::XzEncoder::new(&mut packed, 1);
        encoder.write_all(b"module").unwrap();
        encoder.finish().unwrap();
        shop.file("root/usr/lib/modules/6.12/kernel/a.ko.xz", packed, 0o644);
        shop.file("root/usr/lib/modules/6.12/modules.dep", "kernel/a.ko.xz:\n", 0o644);
        shop.file("rootfs/usr/lib/sysusers.d/00-pithos.conf", "g input 906\n", 0o644);
        shop.file("rootfs/usr/share/pithos/etc/issue", "PithOS\n", 0o600);
        let cuts = "/usr/share/doc  nobody reads\n/etc/alternatives  resolved\n";
        shop.file("rootfs/cuts.list", cuts, 0o644);
        shop.file("rootfs/setuid.list", "", 0o644);
        shop.file("rootfs/missing.list", "", 0o644);
        let depmod = "#!/bin/sh\numask 077; echo kernel/a.ko: >$4/lib/modules/$5/modules.dep\n";
        shop.file("bin/depmod", depmod, 0o755);
        // --root OUT --quiet SCOPE preset-all
        let systemctl = "#!/bin/sh\numask 077; mkdir -p $2/etc/systemd/system\n\
                         ln -sf /usr/lib/x $2/etc/systemd/system/$4\n";
        shop.file("bin/systemctl", systemctl, 0o755);
        shop.file("root/usr/lib/x", "", 0o644);
        shop
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn file(&self, path: &str, text: impl AsRef<[u8]>, mode: u32) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        symlink(target, self.at(path)).unwrap();
    }

    fn base(&self) -> Result<Base, Error> {
        let rules = Rules::load(&self.at("rootfs"), "cloud")?;
        let (root, bin, out) = (&self.at("root"), &self.at("bin"), &self.at("base"));
        base(&BaseRequest { root, rules: &rules, bin, out, refuse_stale: true })
    }

    fn overlay(&self, out: &str) -> Result<Overlaid, Error> {
        let rootfs = &self.at("rootfs");
        let release = Release {
            version: "1.2.3".parse().unwrap(),
            build_id: "abc".to_owned(),
            flavor: "cloud".to_owned(),
        };
        overlay(&OverlayRequest {
            base: &self.at("base"),
            rootfs,
            rules: &Rules::load(rootfs, "cloud")?,
            extra: &[Extra {
                from: self.at("bin/depmod"),
                to: "/usr/bin/ours".to_owned(),
                executable: true,
            }],
            overlay: self.at("mine").is_dir().then(|| self.at("mine")).as_deref(),
            security_epoch: self.at("mine").is_dir().then_some(7),
            release: &release,
            bin: &self.at("bin"),
            out: &self.at(out),
            refuse_stale: true,
        })
    }

    /// Everything below `dir`, sorted: type, mode, path, target or size.
    fn listing(&self, dir: &str) -> String {
        fn add(text: &mut String, dir: &Path, path: &str) {
            let mut names: Vec<_> =
                fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            for name in names {
                let (host, path) = (dir.join(&name), format!("{path}{}", name.display()));
                let meta = host.symlink_metadata().unwrap();
                let mode = meta.mode() & 0o7777;
                if meta.is_dir() {
                    writeln!(text, "{mode:o} {path}/").unwrap();
                    add(text, &host, &format!("{path}/"));
                } else if meta.is_symlink() {
                    writeln!(text, "{path} -> {}", host.read_link().unwrap().display()).unwrap();
                } else {
                    writeln!(text, "{mode:o} {path} {}", meta.len()).unwrap();
                }
            }
        }
        let mut text = String::new();
        add(&mut text, &self.at(dir), "");
        text
    }
}

fn said(error: &Error) -> String {
    error.to_string()
}

#[test]
fn a_root_becomes_usr() {
    let shop = Workshop::new();
    let root = shop.listing("root");
    let base = shop.base().unwrap();
    assert_eq!((&*base.kernel_release, base.package_bytes["mawk"]), ("6.12", 7));
    assert_eq!(fs::read(vmlinuz(&shop.at("base"))).unwrap(), b"kernel");
    let overlaid = shop.overlay("tree").unwrap();
    assert_eq!(overlaid.notes, Vec::<String>::new());
    expect![[r#"
        755 bin/
        bin/awk -> mawk
        755 bin/mawk 7
        755 bin/ours 70
        755 bin/sh 5
        755 bin/tool 18
        755 lib/
        644 lib/clock-epoch 0
        755 lib/modules/
        755 lib/modules/6.12/
        755 lib/modules/6.12/kernel/
        644 lib/modules/6.12/kernel/a.ko 6
        644 lib/modules/6.12/modules.dep 13
        644 lib/os-release 189
        755 lib/sysusers.d/
        644 lib/sysusers.d/00-pithos.conf 12
        644 lib/sysusers.d/basic.conf 19
        644 lib/x 0
        755 share/
        755 share/pithos/
        755 share/pithos/etc/
        644 share/pithos/etc/group 23
        600 share/pithos/etc/gshadow 21
        644 share/pithos/etc/hosts 20
        644 share/pithos/etc/issue 7
        644 share/pithos/etc/passwd 28
        600 share/pithos/etc/shadow 15
        755 share/pithos/etc/systemd/
        755 share/pithos/etc/systemd/system/
        share/pithos/etc/systemd/system/--global -> /usr/lib/x
        share/pithos/etc/systemd/system/--system -> /usr/lib/x
    "#]]
    .assert_eq(&shop.listing("tree/usr"));
    assert_eq!(shop.listing("root"), root, "the source has not changed");
}

#[test]
fn files_of_an_image_builder_are_laid_over_ours() {
    let shop = Workshop::new();
    shop.base().unwrap();
    shop.file("mine/share/pithos/etc/issue", "of mine\n", 0o600);
    shop.file("mine/lib/more", "more\n", 0o600);
    shop.overlay("tree").unwrap();
    let read = |path: &str| fs::read_to_string(shop.at(path)).unwrap();
    assert_eq!(read("tree/usr/share/pithos/etc/issue"), "of mine\n");
    assert_eq!(read("tree/usr/lib/more"), "more\n");
    assert_eq!(read("tree/usr/share/pithos/update/security-epoch"), "7\n");
    // What the build itself writes is not theirs.
    shop.file("mine/lib/os-release", "ID=mine\n", 0o644);
    let error = shop.overlay("other").unwrap_err();
    assert!(said(&error).contains("/usr/lib/os-release is made by the build"), "{error}");
}

#[test]
fn the_second_phase_can_be_done_again_and_gives_the_same() {
    let shop = Workshop::new();
    shop.base().unwrap();
    let base = shop.listing("base");
    let first = shop.overlay("first").unwrap();
    assert_eq!(first, shop.overlay("second").unwrap());
    assert_eq!(shop.listing("first"), shop.listing("second"));
    assert_eq!(shop.listing("base"), base);
}

#[test]
fn a_cut_that_takes_an_interpreter_away_stops_the_build() {
    let shop = Workshop::new();
    let cuts = "/usr/share/doc  nobody reads\n/usr/bin/mawk  who needs it\n";
    shop.file("rootfs/cuts.list", cuts, 0o644);
    shop.base().unwrap();
    let text = said(&shop.overlay("tree").unwrap_err());
    let by = "/usr/bin/mawk was cut by rootfs/cuts.list:2 (/usr/bin/mawk: who needs it)";
    assert!(text.starts_with("checking the tree: 3 problem(s)\n"), "{text}");
    assert!(text.contains("/usr/bin/tool is run by /usr/bin/awk"), "{text}");
    assert_eq!(text.matches(by).count(), 3, "{text}");
}

#[test]
fn an_entry_that_cuts_nothing_stops_a_strict_build() {
    let shop = Workshop::new();
    shop.file("rootfs/cuts.list", "/usr/share/info  nobody reads\n", 0o644);
    let text = said(&shop.base().unwrap_err());
    assert!(text.contains("cuts.list:1 (/usr/share/info: nobody reads) matches nothing"), "{text}");
}

#[test]
fn a_group_that_only_a_package_knows_stops_the_build() {
    let shop = Workshop::new();
    shop.file("root/etc/group", "root:x:0:\ninput:x:990:\nlp:x:7:\n", 0o644);
    shop.base().unwrap();
    let text = said(&shop.overlay("tree").unwrap_err());
    assert!(text.contains("a package made the group `lp`"), "{text}");
}

#[test]
fn two_kernels_or_none_are_said() {
    let shop = Workshop::new();
    shop.file("root/usr/lib/modules/6.13/x", "", 0o644);
    assert!(said(&shop.base().unwrap_err()).contains("has 2 kernels"));
    fs::remove_dir_all(shop.at("root/usr/lib/modules/6.13")).unwrap();
    fs::remove_file(shop.at("root/boot/vmlinuz-6.12")).unwrap();
    assert!(said(&shop.base().unwrap_err()).contains("boot/vmlinuz-6.12"));
}

#[test]
fn a_program_that_fails_says_why() {
    let shop = Workshop::new();
    shop.file("bin/depmod", "#!/bin/sh\necho no space >&2; exit 3\n", 0o755);
    let text = said(&shop.base().unwrap_err());
    assert!(text.contains("bin/depmod -C") && text.contains("exit status: 3"), "{text}");
    assert!(text.ends_with(":\nno space"), "{text}");
}
