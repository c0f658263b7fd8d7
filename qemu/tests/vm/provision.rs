//! First boots by a document: the machine becomes what it says, or says exactly why not.

mod again;
mod guide;
mod kinds;
mod network;

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use qemu::{Disk, Machine, Spec};

use crate::{
    harness::{self, laws, laws_of},
    partition,
};

/// Where the host is, as a machine on QEMU's own network sees it.
const HOST: &str = "10.0.2.2";

/// How long the rest of a report may take, once it has begun.
const SOON: Duration = Duration::from_secs(30);

/// A folder for what a test makes, removed with it.
fn folder() -> Result<tempfile::TempDir> {
    tempfile::tempdir().context("a folder")
}

fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

fn disk(folder: &Path, name: &str, bytes: u64) -> Result<PathBuf> {
    let path = folder.join(name);
    File::create(&path)?.set_len(bytes)?;
    Ok(path)
}

/// A server on loopback that says 500 a few times before it answers. Gives its port.
fn server(mut refusals: u32, body: impl Into<String>) -> Result<u16> {
    let body = body.into();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let status = if refusals > 0 { "500 Not Yet" } else { "200 OK" };
            let body = if refusals > 0 { "" } else { &body };
            refusals = refusals.saturating_sub(1);
            let length = body.len();
            let _ = write!(
                &stream,
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    Ok(port)
}

const CHILD: &str = r#"{"ignition": {"version": "3.4.0"}, "storage": {"files": [
    {"path": "/etc/child", "contents": {"source": "data:,from%20afar"}}]}}"#;

const DOCUMENT: &str = r#"
variant: pithos
version: 1.0.0
ignition:
  config:
    merge:
      - source: http://HOST:PORT/child.ign
passwd:
  groups:
    - name: crew
      gid: 1600
  users:
    - name: pandora
      uid: 1500
      groups: [crew]
      gecos: All-giving
      ssh_authorized_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA pandora@jar"]
storage:
  directories:
    - path: /opt/jar
      mode: 0750
      user: {name: pandora}
      group: {name: crew}
  files:
    - path: /opt/jar/hope
      mode: 0640
      user: {name: pandora}
      contents: {inline: "still here\n"}
    - path: /etc/hostname
      contents: {inline: pithos-one}
    - path: /etc/profile.d/jar.sh
      append:
        - inline: "export JAR=one\n"
        - inline: "export JAR_TWO=two\n"
  links:
    - path: /opt/hope
      target: jar/hope
    - path: /opt/hard
      target: /opt/jar/hope
      hard: true
  disks:
    - device: /dev/disk/by-id/virtio-data
      wipe_table: true
      partitions:
        - {label: one, number: 1, size_mib: 512}
        - {label: two, number: 2, size_mib: 512}
        - {label: three, number: 3}
  raid:
    - name: mirror
      level: raid1
      devices: [/dev/disk/by-id/virtio-left, /dev/disk/by-id/virtio-right]
  luks:
    - name: secret
      device: /dev/disk/by-partlabel/three
      label: SECRET
      wipe_volume: true
      options: [--pbkdf, pbkdf2, --pbkdf-force-iterations, "1000"]
  filesystems:
    - {device: /dev/disk/by-partlabel/one, format: ext4, path: /var/lib/one, label: ONE, with_mount_unit: true}
    - {device: /dev/disk/by-partlabel/two, format: xfs, path: /var/lib/two, with_mount_unit: true}
    - {device: /dev/md/mirror, format: ext4, path: /var/lib/mirror, with_mount_unit: true}
    - {device: /dev/mapper/secret, format: ext4, path: /var/lib/secret, with_mount_unit: true}
systemd:
  units:
    - name: open.service
      enabled: true
      contents: |
        [Service]
        Type=oneshot
        RemainAfterExit=yes
        ExecStart=/usr/bin/touch /var/lib/opened
        [Install]
        WantedBy=multi-user.target
      dropins:
        - name: 10-more.conf
          contents: |
            [Service]
            ExecStart=/usr/bin/touch /var/lib/opened-twice
    - name: systemd-timesyncd.service
      mask: true
"#;

#[test]
fn a_machine_becomes_what_its_document_says() -> Result<()> {
    let _seat = harness::seats(1);
    let folder = folder()?;
    let port = server(4, CHILD)?;
    let text = DOCUMENT.replace("HOST", HOST).replace("PORT", &port.to_string());
    let document = write(folder.path(), "machine.bu", &text)?;
    // Not offline: the host is on its network.
    let spec = Spec::named("test-provision")?.document(&document);
    let machine = with_disks(spec, &folder)?.start()?;
    machine.wait_ready()?;
    let all = laws_of![
        users_and_groups_are_there,
        files_directories_and_links_are_there,
        the_child_of_the_document_was_merged,
        units_are_enabled_changed_and_masked,
        partitions_and_file_systems_are_mounted,
        the_array_is_whole,
        the_volume_is_encrypted_and_open,
        no_unit_failed,
    ];
    let first = laws(&machine, all);
    let before = state(&machine)?;
    let tree = tree(&machine)?;
    let json = machine.ssh_within("ignition convert -", text.as_bytes(), SOON)?.text()?;
    machine.ask("echo kept | sudo tee /var/lib/secret/kept /var/lib/mirror/kept /etc/hostname")?;
    machine.reboot()?;
    let second = laws(
        &machine,
        &[
            ("what_was_changed_since_is_kept", &|machine| {
                let kept = "cat /var/lib/secret/kept /var/lib/mirror/kept /etc/hostname";
                ensure!(machine.ask(kept)? == "kept\nkept\nkept");
                machine
                    .ask("echo pithos-one | sudo tee /etc/hostname")
                    .map(drop)
                    .map_err(Into::into)
            }),
            ("the_second_boot_changes_nothing", &|machine| {
                let after = state(machine)?;
                ensure!(after == before, "before:\n{before}\nafter:\n{after}");
                Ok(())
            }),
            ("what_is_mounted_is_mounted_again", &partitions_and_file_systems_are_mounted),
            ("the_volume_opens_again", &the_volume_is_encrypted_and_open),
            ("the_array_is_whole_again", &the_array_is_whole),
            ("no_unit_failed_again", &no_unit_failed),
        ],
    );
    machine.power_off()?;
    first.and(second).and_then(|()| is_the_same_as_json(&json, &tree))
}

/// Gives the document to another machine as Ignition JSON, as `ignition convert` writes it.
fn is_the_same_as_json(json: &str, expected: &[String]) -> Result<()> {
    ensure!(json.starts_with('{') && !json.contains("variant"), "{json}");
    let folder = folder()?;
    let document = write(folder.path(), "machine.ign", json)?;
    let machine = with_disks(Spec::named("test-provision-json")?.document(&document), &folder)?;
    let machine = machine.start()?;
    machine.wait_ready()?;
    let tree = tree(&machine)?;
    let differs = |line: &&String| !tree.contains(line) || !expected.contains(line);
    let all: Vec<&String> = expected.iter().chain(&tree).filter(differs).collect();
    ensure!(all.is_empty(), "only one of the two machines has: {all:#?}");
    laws(
        &machine,
        laws_of![
            partitions_and_file_systems_are_mounted,
            the_array_is_whole,
            the_volume_is_encrypted_and_open,
            no_unit_failed,
        ],
    )?;
    machine.power_off()?;
    Ok(())
}

/// The disks that [`DOCUMENT`] is about.
fn with_disks(spec: Spec, folder: &tempfile::TempDir) -> Result<Spec> {
    let spare = |spec: Spec, name: &str, mib: u64| -> Result<Spec> {
        Ok(spec.spare_disk(name, &disk(folder.path(), name, mib << 20)?))
    };
    spare(spare(spare(spec, "data", 2048)?, "left", 256)?, "right", 256)
}

/// All that is on root and in what is mounted there, but what each machine has for itself.
fn tree(machine: &Machine) -> Result<Vec<String>> {
    let own = [
        "/etc/machine-id",
        "/etc/ssh/ssh_host_*",
        "/etc/.ignition-result.json",
        "/etc/crypttab",
        "/etc/luks/secret",
        "/etc/.updated",
        "/home/core/.ssh/authorized_keys",
    ];
    let own: Vec<String> = own.iter().map(|path| format!("! -path '{path}'")).collect();
    let own = own.join(" ");
    let places = "/etc /opt /home /root /var/lib/one /var/lib/two /var/lib/mirror /var/lib/secret";
    let said = machine.ask(&format!(
        "sudo find {places} {own} -printf '%p %y %m %u %g %l\\n' && \
         sudo find {places} {own} -type f -exec sha256sum {{}} + && \
         sudo sed 's/UUID=[^ ]*/UUID/' /etc/crypttab && lsblk -o NAME,SIZE,TYPE,FSTYPE,PARTLABEL"
    ))?;
    Ok(said.lines().map(str::to_owned).collect())
}

/// What only a first boot may write.
fn state(machine: &Machine) -> Result<String> {
    Ok(machine.ask(
        "sudo sha256sum /etc/passwd /etc/shadow /etc/group /etc/crypttab /etc/luks/secret \
         /etc/systemd/system-preset/20-ignition.preset /etc/.ignition-result.json && \
         sudo blkid -s UUID -o value /dev/vdb1 /dev/vdb2 /dev/vdb3 && \
         sudo find /etc/systemd/system -printf '%p %l\\n' | sort | sha256sum",
    )?)
}

fn users_and_groups_are_there(machine: &Machine) -> Result<()> {
    let passwd = machine.ask("getent passwd pandora")?;
    ensure!(passwd == "pandora:x:1500:1500:All-giving:/home/pandora:/bin/bash", "{passwd}");
    ensure!(machine.ask("getent group crew")? == "crew:x:1600:pandora");
    let home = machine.ask("stat -c '%U %a' /home/pandora")?;
    ensure!(home == "pandora 700", "{home}");
    let keys = machine.ask("sudo cat /home/pandora/.ssh/authorized_keys.d/ignition")?;
    ensure!(keys.contains("pandora@jar"), "{keys}");
    let shadow = machine.ask("sudo getent shadow pandora")?;
    ensure!(shadow.starts_with("pandora:*:"), "{shadow}");
    Ok(())
}

fn files_directories_and_links_are_there(machine: &Machine) -> Result<()> {
    let seen = machine.ask("sudo stat -c '%U %G %a %h' /opt/jar /opt/jar/hope")?;
    ensure!(seen == "pandora crew 750 2\npandora root 640 2", "{seen}");
    ensure!(machine.ask("sudo cat /opt/jar/hope /opt/hard")? == "still here\nstill here");
    ensure!(machine.ask("readlink /opt/hope")? == "jar/hope");
    ensure!(machine.ask("hostname")? == "pithos-one");
    let appended = machine.ask("cat /etc/profile.d/jar.sh")?;
    ensure!(appended == "export JAR=one\nexport JAR_TWO=two", "{appended}");
    Ok(())
}

fn the_child_of_the_document_was_merged(machine: &Machine) -> Result<()> {
    ensure!(machine.ask("cat /etc/child")? == "from afar");
    Ok(())
}

fn units_are_enabled_changed_and_masked(machine: &Machine) -> Result<()> {
    ensure!(machine.ask("systemctl is-enabled open.service")? == "enabled");
    ensure!(machine.ask("ls /var/lib/opened /var/lib/opened-twice").is_ok());
    let masked = machine.ask("systemctl is-enabled systemd-timesyncd.service || true")?;
    ensure!(masked == "masked", "{masked}");
    Ok(())
}

fn partitions_and_file_systems_are_mounted(machine: &Machine) -> Result<()> {
    let table =
        machine.ask("sudo sfdisk --verify /dev/vdb 2>&1 && lsblk -rno PARTLABEL,SIZE /dev/vdb")?;
    ensure!(table.contains("No errors detected") && table.contains("one 512M"), "{table}");
    for (path, kind) in [
        ("/var/lib/one", "ext4"),
        ("/var/lib/two", "xfs"),
        ("/var/lib/mirror", "ext4"),
        ("/var/lib/secret", "ext4"),
    ] {
        let found = machine.ask(&format!("findmnt -no FSTYPE {path}"))?;
        ensure!(found == kind, "{path}: {found}");
    }
    ensure!(machine.ask("sudo blkid -s LABEL -o value /dev/vdb1")? == "ONE");
    Ok(())
}

fn the_array_is_whole(machine: &Machine) -> Result<()> {
    let array = machine.ask("cat /proc/mdstat")?;
    ensure!(array.contains("raid1") && array.contains("[2/2] [UU]"), "{array}");
    Ok(())
}

fn the_volume_is_encrypted_and_open(machine: &Machine) -> Result<()> {
    ensure!(machine.ask("sudo blkid -s TYPE -o value /dev/vdb3")? == "crypto_LUKS");
    let status = machine.ask("sudo cryptsetup status secret")?;
    ensure!(status.contains("type:    LUKS2") && status.contains("/dev/vdb3"), "{status}");
    // Its key is kept now.
    let header = machine.ask("sudo cryptsetup luksDump /dev/vdb3")?;
    ensure!(header.contains("(no subsystem)"), "{header}");
    ensure!(machine.ask("sudo blkid -s LABEL -o value /dev/vdb3")? == "SECRET");
    let key = machine.ask("sudo stat -c '%U %a' /etc/luks /etc/luks/secret /etc/crypttab")?;
    ensure!(key == "root 700\nroot 600\nroot 600", "{key}");
    Ok(())
}

pub(crate) fn no_unit_failed(machine: &Machine) -> Result<()> {
    let failed = machine.ask("systemctl list-units --state=failed --plain --no-legend")?;
    ensure!(failed.is_empty(), "{failed}");
    Ok(())
}

/// Checks what a machine with a [`Disk::Copy`] left for programs on its EFI system partition.
fn is_in_the_report(machine: &Machine, parts: &[&str]) -> Result<()> {
    let raw = machine.folder().join("disk.raw");
    let esp = partition::table(&raw)?.into_iter().find(|entry| entry.label == "esp");
    let esp = esp.context("no ESP")?;
    let bytes = partition::read(&raw, esp.start, usize::try_from(esp.bytes)?)?;
    for part in parts {
        let found = bytes.windows(part.len()).any(|window| window == part.as_bytes());
        ensure!(found, "{part} is not in the report on the ESP");
    }
    Ok(())
}

#[test]
fn a_document_with_an_error_stops_the_boot_and_says_where() -> Result<()> {
    let _seat = harness::seats(1);
    let folder = folder()?;
    let mut text = String::from("variant: pithos\nversion: 1.0.0\nstorage:\n  files:\n");
    for number in 1..=9 {
        text.push_str(&format!("    - path: /etc/file-{number}\n"));
    }
    text.push_str("    - path: etc/file-10\n");
    let document = write(folder.path(), "wrong.bu", &text)?;
    let machine =
        harness::machine("provision-wrong")?.disk(Disk::Copy).document(&document).start()?;
    machine.wait_for("PithOS could not start", machine.patience())?;
    machine.wait_for(":14:13, $.storage.files.9.path", Duration::from_secs(10))?;
    machine.wait_for("Stopped", Duration::from_secs(10))?;
    is_in_the_report(
        &machine,
        &[r#""stage": "fetch""#, r#""line": 14"#, r#""path": "$.storage.files.9.path""#],
    )?;
    // Nothing of it counts: with the error mended, it is a first boot like any other.
    write(folder.path(), "wrong.bu", &text.replace(" etc/", " /etc/"))?;
    let machine = machine.pull_plug().start()?;
    machine.wait_ready()?;
    ensure!(machine.ask("ls /etc/file-1 /etc/file-10")? == "/etc/file-1\n/etc/file-10");
    let report = machine.ask("sudo ls /boot/pithos 2>&1 || true")?;
    ensure!(!report.contains("first-boot-failed"), "{report}");
    machine.power_off()?;
    Ok(())
}

#[test]
fn a_cloud_config_is_applied_at_every_boot() -> Result<()> {
    let _seat = harness::seats(1);
    let folder = folder()?;
    let document = write(
        folder.path(),
        "user-data",
        "#cloud-config\nhostname: cloudy\nusers:\n  - name: elroy\n    groups: [sudo]\n\
         write_files:\n  - path: /etc/cloudy\n    permissions: '0600'\n    content: |\n      hello\n\
         coreos:\n  units:\n    - name: rain.service\n      command: start\n      content: |\n        \
         [Service]\n        Type=oneshot\n        RemainAfterExit=yes\n        \
         ExecStart=/usr/bin/touch /run/rain\n",
    )?;
    let machine = harness::machine("cloud-config")?.document(&document).start()?;
    machine.wait_ready()?;
    let applied = |machine: &Machine| -> Result<()> {
        ensure!(machine.ask("hostname")? == "cloudy");
        ensure!(machine.ask("getent passwd elroy").is_ok());
        ensure!(machine.ask("sudo cat /etc/cloudy; stat -c %a /etc/cloudy")? == "hello\n600");
        ensure!(
            machine.ask("systemctl is-active rain.service; ls /run/rain")? == "active\n/run/rain"
        );
        no_unit_failed(machine)
    };
    applied(&machine)?;
    machine.ask("sudo rm /etc/cloudy")?;
    machine.reboot()?;
    applied(&machine)?;
    machine.power_off()?;
    Ok(())
}

#[test]
fn a_first_boot_that_is_cut_short_ten_times_is_whole_in_the_end() -> Result<()> {
    let _seat = harness::seats(1);
    let folder = folder()?;
    let files: String = (0..50)
        .map(|n| format!("    - path: /etc/many/{n}\n      contents: {{inline: file {n}}}\n"))
        .collect();
    let text = format!(
        "variant: pithos\nversion: 1.0.0\npasswd:\n  users:\n    - name: pandora\n\
         storage:\n  disks:\n    - device: /dev/disk/by-id/virtio-data\n      partitions:\n        \
         - {{label: data, number: 1}}\n  filesystems:\n    - {{device: /dev/disk/by-partlabel/data, \
         format: ext4, path: /var/lib/data, with_mount_unit: true}}\n  files:\n{files}"
    );
    let document = write(folder.path(), "many.bu", &text)?;
    let data = disk(folder.path(), "data", 512 << 20)?;
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.subsec_nanos();
    println!("seed {seed}");
    let mut random = u64::from(seed) | 1;
    let mut spec = harness::machine("provision-cut")?.document(&document).spare_disk("data", &data);
    for cut in 0..10 {
        let machine = spec.start()?;
        machine.wait_for("EFI stub", machine.patience())?;
        // The kernel, /init and all of the provisioning are somewhere in these five seconds.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let pause = Duration::from_millis((random >> 33) % 5000);
        println!("cut {cut} after {} ms", pause.as_millis());
        thread::sleep(pause);
        spec = machine.pull_plug();
    }
    let machine = spec.start()?;
    machine.wait_ready()?;
    ensure!(machine.ask("cat /etc/many/* | wc -l; ls /etc/many | wc -l")?.ends_with("50"));
    ensure!(
        machine.ask("cat /etc/many/49; getent passwd pandora | cut -d: -f1")?.ends_with("pandora")
    );
    ensure!(machine.ask("findmnt -no FSTYPE /var/lib/data")? == "ext4");
    no_unit_failed(&machine)?;
    machine.power_off()?;
    Ok(())
}

/// The metadata service of a cloud, at the address that clouds have it at: QEMU starts it anew for
/// each connection.
const SERVICE: &str = r#"#!/bin/sh
read -r method path version
while read -r line && [ "${#line}" -gt 1 ]; do :; done
status='404 Not Found' body=''
if [ "$method $path" = 'GET /metadata/v1.json' ]; then
    status='200 OK'
    body='{"hostname": "sea-4", "region": "north", "public_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA sea@cloud"],
        "interfaces": {"public": [{"ipv4": {"ip_address": "192.0.2.7"}}]}}'
fi
printf 'HTTP/1.1 %s\r\nContent-Length: %s\r\nConnection: close\r\n\r\n%s' "$status" "${#body}" "$body"
"#;

#[test]
fn a_platform_that_is_named_says_what_units_and_sshd_want_to_know() -> Result<()> {
    let _seat = harness::seats(1);
    let folder = folder()?;
    let service = write(folder.path(), "service", SERVICE)?;
    fs::set_permissions(&service, fs::Permissions::from_mode(0o755))?;
    let document = write(
        folder.path(),
        "reader.bu",
        "variant: pithos\nversion: 1.0.0\nsystemd:\n  units:\n    - name: reader.service\n      \
         enabled: true\n      contents: |\n        [Unit]\n        \
         Requires=coreos-metadata.service\n        After=coreos-metadata.service\n        \
         [Service]\n        Type=oneshot\n        RemainAfterExit=yes\n        \
         EnvironmentFile=/run/metadata/flatcar\n        \
         ExecStart=/bin/sh -c 'echo $COREOS_DIGITALOCEAN_IPV4_PUBLIC_0 > /run/reader'\n        \
         [Install]\n        WantedBy=multi-user.target\n",
    )?;
    let cable = "user,id=cloud,restrict=on,net=169.254.169.0/24,dhcpstart=169.254.169.15";
    let machine = harness::machine("metadata")?
        .document(&document)
        .argument("-smbios")
        .argument(
            "type=11,value=io.systemd.stub.kernel-cmdline-extra=ignition.platform.id=digitalocean",
        )
        .argument("-netdev")
        .argument(format!(
            "{cable},guestfwd=tcp:169.254.169.254:80-cmd:{}",
            service.to_string_lossy().replace(',', ",,")
        ))
        .argument("-device")
        .argument("virtio-net-pci,netdev=cloud,mac=52:54:00:00:00:02,romfile=")
        .start()?;
    machine.wait_ready()?;
    let told = |machine: &Machine| -> Result<()> {
        let kept = "systemctl is-enabled metadata.service; systemctl is-active metadata.service";
        ensure!(machine.ask(kept)? == "enabled\nactive");
        let attributes = machine.ask("cat /run/metadata/coreos")?;
        for line in [
            "AFTERBURN_DIGITALOCEAN_HOSTNAME=sea-4",
            "AFTERBURN_DIGITALOCEAN_REGION=north",
            "COREOS_DIGITALOCEAN_IPV4_PUBLIC_0=192.0.2.7",
        ] {
            ensure!(attributes.lines().any(|one| one == line), "{line} is not in\n{attributes}");
        }
        ensure!(machine.ask("cat /run/reader; hostname")? == "192.0.2.7\nsea-4");
        let keys = ".ssh/authorized_keys.d/afterburn";
        let keys = machine.ask(&format!("cat {keys}; stat -c '%U %a' {keys}"))?;
        ensure!(keys.ends_with("sea@cloud\ncore 600"), "{keys}");
        let listening = machine.ask("sudo ss -Hltnp | grep -v sshd || true")?;
        ensure!(!listening.contains("ignition"), "{listening}");
        no_unit_failed(machine)
    };
    told(&machine)?;
    machine.reboot()?;
    told(&machine)?;
    machine.power_off()?;
    Ok(())
}
