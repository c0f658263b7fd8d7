//! A report on what a good machine says, and on what a bad one says.

use expect_test::{Expect, expect};

use super::*;

const GOOD: &str = r#"
=== state
running

=== failed

=== os
NAME="PithOS"
PRETTY_NAME="PithOS 0.1.0-202611210930"
IMAGE_VERSION=0.1.0-202611210930

=== kernel
6.12.48+deb13-cloud-amd64

=== cmdline
usrhash=00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210 rw

=== loader
systemd-boot 257.8-1~deb13u2

=== entry
pithos_0.1.0-202611210930+3.efi

=== firmware
EDK II 1.00

=== usr
{"filesystems": [{"source":"/dev/mapper/usr","fstype":"erofs","options":"ro,relatime"}]}

=== verity
/dev/mapper/usr is active and is in use.
  type:    VERITY
  status:  verified
  hash type:   1
  root hash:   00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210

=== root
{"filesystems": [{"source":"/dev/vda6","fstype":"ext4","size":5905580032,"used":12582912,"options":"rw,relatime"}]}

=== disks
{"blockdevices": [
  {"name":"vda","type":"disk","size":8589934592,"partn":null,"partlabel":null,"parttypename":null,"fstype":null,"mountpoints":[null],
   "children":[
    {"name":"vda1","type":"part","size":536870912,"partn":1,"partlabel":"esp","parttypename":"EFI System","fstype":"vfat","mountpoints":[null]},
    {"name":"vda2","type":"part","size":1073741824,"partn":2,"partlabel":"pithos_0.1.0","parttypename":"Linux /usr (x86-64)","fstype":"erofs","mountpoints":[null],
     "children":[{"name":"usr","type":"crypt","size":300000000,"partn":null,"partlabel":null,"parttypename":null,"fstype":"erofs","mountpoints":["/usr"]}]}
   ]}
]}

=== memory
MemTotal:         991232 kB
MemFree:          500000 kB
MemAvailable:     850000 kB

=== times
5000000
1500000
2750000
9250000

=== init
[    1.250000] pithos-init: start
[    2.500000] pithos-init: done in 1250 ms, starting systemd

=== sockets
udp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:* users:(("systemd-resolve",pid=200,fd=16))
udp UNCONN 0 0 10.0.2.15%ens3:68 0.0.0.0:* users:(("systemd-network",pid=100,fd=16))
tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=300,fd=6))
tcp LISTEN 0 128 [::]:22 [::]:* users:(("sshd",pid=300,fd=7))

=== end
"#;

fn report(text: &str) -> Report {
    let manifest = serde_json::from_str(include_str!("../../tests/manifest-format-1.json"));
    let facts = parse::facts(text);
    let findings = findings(&facts, Some(&manifest.expect("format 1")));
    Report {
        machine: "one".into(),
        accelerator: "TCG, in software (as asked)".into(),
        ready_after_ms: 15_300,
        facts,
        findings,
    }
}

fn bad(text: &str, expected: Expect) {
    let report = report(text);
    assert!(!report.good());
    let bad: Vec<String> = report
        .findings
        .iter()
        .filter(|finding| !finding.good)
        .map(|finding| format!("{}: {}\n", finding.law, finding.seen))
        .collect();
    expected.assert_eq(&bad.concat());
}

#[test]
fn a_good_machine_says_all_there_is_to_know() {
    let report = report(GOOD);
    assert!(report.good());
    // With a line in front, because `expect!` takes away what all lines are indented by.
    expect![[r#"
        one
          system       PithOS 0.1.0-202611210930, Linux 6.12.48+deb13-cloud-amd64
          firmware     EDK II 1.00
          loader       systemd-boot 257.8-1~deb13u2, entry pithos_0.1.0-202611210930+3.efi
          /usr         erofs on /dev/mapper/usr (ro,relatime)
          root hash    00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210
          /            ext4 on /dev/vda6, 12 MiB of 5.5 GiB used
          memory       137 MiB of 968 MiB used
          disk         vda 8.0 GiB
                       1 esp                                 512 MiB  vfat                 EFI System
                       2 pithos_0.1.0                       1024 MiB  erofs                Linux /usr (x86-64)
          boot         ready 15.30 s after power-on (firmware 3.50 s, loader 1.50 s, kernel 1.25 s, /init 1.50 s, userspace 6.50 s)
                       [    1.250000] pithos-init: start
                       [    2.500000] pithos-init: done in 1250 ms, starting systemd
          listens      udp 10.0.2.15%ens3:68 systemd-network
          listens      tcp 0.0.0.0:22 sshd
          listens      tcp [::]:22 sshd

          ok  systemd is running: running
          ok  no unit failed
          ok  booted by firmware and systemd-boot: systemd-boot 257.8-1~deb13u2, pithos_0.1.0-202611210930+3.efi
          ok  /usr is erofs, read-only: erofs on /dev/mapper/usr, ro,relatime
          ok  /usr is verified: verified
          ok  by the root hash of the manifest: 00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210
          ok  the version of the manifest: 0.1.0-202611210930
          ok  / can be written: ext4 on /dev/vda6, rw,relatime
          ok  nothing but SSH listens
    "#]].assert_eq(&format!("one\n{report}"));
}

#[test]
fn a_failed_unit_is_named() {
    let text = GOOD
        .replace("=== state\nrunning", "=== state\ndegraded")
        .replace("=== failed\n", "=== failed\nfoo.service loaded failed failed Foo\n");
    bad(
        &text,
        expect![[r#"
        systemd is running: degraded
        no unit failed: foo.service
    "#]],
    );
}

#[test]
fn another_usr_than_the_manifests_is_noticed() {
    bad(
        &GOOD.replace("root hash:   00", "root hash:   ff"),
        expect![[r#"
        by the root hash of the manifest: ff112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210
    "#]],
    );
    bad(
        &GOOD.replace("status:  verified", "status:  corrupted"),
        expect![[r#"
        /usr is verified: corrupted
    "#]],
    );
    bad(
        &GOOD.replace("\"ro,relatime\"", "\"rw,relatime\""),
        expect![[r#"
        /usr is erofs, read-only: erofs on /dev/mapper/usr, rw,relatime
    "#]],
    );
}

#[test]
fn a_socket_that_is_open_to_the_outside_is_noticed() {
    let more = "=== sockets\ntcp LISTEN 0 128 0.0.0.0:5355 0.0.0.0:* users:((\"x\",pid=1,fd=1))";
    bad(
        &GOOD.replace("=== sockets", more),
        expect![[r#"
        nothing but SSH listens: tcp 0.0.0.0:5355 x
    "#]],
    );
}

#[test]
fn a_machine_that_says_nothing_is_not_good() {
    bad(
        "",
        expect![[r#"
        systemd is running: 
        booted by firmware and systemd-boot: , 
        /usr is erofs, read-only:  on , 
        /usr is verified: 
        by the root hash of the manifest: none
        the version of the manifest: none
        / can be written:  on , 
    "#]],
    );
}
