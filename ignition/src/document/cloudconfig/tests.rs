mod messages;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::{apply::Machine, *};
use crate::{document::finish, journal::Lines};

fn facts() -> Facts {
    Facts {
        addresses: Addresses {
            public_ipv4: Some("203.0.113.1".to_owned()),
            private_ipv4: Some("10.0.0.1".to_owned()),
            ..Addresses::default()
        },
        hostname: None,
        keys: vec!["ssh-ed25519 P platform".to_owned()],
        current_hostname: "old".to_owned(),
        users: vec!["root".to_owned(), "core".to_owned()],
        environment: "LANG=C\nCOREOS_PUBLIC_IPV4=192.0.2.1\n".to_owned(),
        update_conf: "GROUP=stable\nSERVER=https://a\n".to_owned(),
    }
}

/// What is done, in order, with what is said of the text.
fn does(text: &str, expected: Expect) {
    let (mut sources, mut report) = (Sources::default(), Report::default());
    let actions = plan("user-data", text, &facts(), &mut sources, &mut report);
    let mut picture = report.display(&sources).to_string();
    for action in &actions {
        match action {
            Action::Provision(node) => {
                let mut json = node.to_json();
                json.as_object_mut().unwrap().remove("ignition");
                picture.push_str(&format!("make {json}\n"));
            }
            action => picture.push_str(&format!("{action}\n")),
        }
        if let Action::Provision(node) = action {
            let mut report = Report::default();
            assert!(finish(node.clone(), &mut report).is_some());
            assert!(!report.has_errors(), "{}", report.display(&sources));
        }
    }
    expected.assert_eq(&picture);
}

/// The configuration of Ignition that it becomes, with what is said of it.
fn becomes(text: &str, expected: Expect) {
    let (mut sources, mut report) = (Sources::default(), Report::default());
    let node = convert("user-data", text, &mut sources, &mut report);
    let node = node.and_then(|node| finish(node, &mut report));
    let mut picture = report.display(&sources).to_string();
    let json = node.map(|node| node.to_json()).unwrap_or_default();
    for (top, lists) in json.as_object().into_iter().flatten().filter(|(top, _)| *top != "ignition")
    {
        for (name, list) in lists.as_object().into_iter().flatten() {
            for entry in list.as_array().into_iter().flatten() {
                picture.push_str(&format!("{top}.{name} {entry}\n"));
            }
        }
    }
    expected.assert_eq(&picture);
}

fn says(text: &str, expected: Expect) {
    let (mut sources, mut report) = (Sources::default(), Report::default());
    plan("user-data", text, &Facts::default(), &mut sources, &mut report);
    expected.assert_eq(&report.display(&sources).to_string());
}

const WHOLE: &str = "#cloud-config
hostname: web.example.org
manage_etc_hosts: localhost
ssh_authorized_keys: [ssh-ed25519 A a]
users:
  - name: core
    passwd: $6$ab$xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
    groups: [docker]
    ssh-authorized-keys: [ssh-ed25519 B b]
  - name: new
    gecos: Somebody New
    no_create_home: yes
    groups: [wheel]
write-files:
  - path: /etc/motd
    permissions: 0600
    owner: core:100
    content: address $private_ipv4, \\$private_ipv4
  - path: opt/data
    encoding: gzip+base64
    content: H4sIAAAAAAACA8tIzcnJ5wIAIDA6NgYAAAA=
coreos:
  oem: {id: pithos, name: Pit \"hOS\", version-id: 1.0}
  update: {group: beta, reboot-strategy: 'off'}
  etcd2: {advertise-client-urls: 'http://$public_ipv4:2379', proxy: 'on', debug: true, snapshot_count: 0}
  flannel: {interface: $private_ipv4}
  locksmith: {window-start: Thu 04:00, window-length: 1h30m}
  units:
    - name: a.service
      command: start
      enable: true
      content: |
        [Service]
        ExecStart=/bin/true
        [Install]
        WantedBy=multi-user.target
      drop-ins: [{name: b.conf, content: \"[Unit]\\n\"}]
    - {name: c.network, runtime: true, command: start, content: \"[Match]\\n\"}
    - {name: d.service, mask: true, command: stop}
";

#[test]
fn everything_is_done_in_the_order_that_lets_people_in_first() {
    does(
        WHOLE,
        expect![[r#"
            warning: `etcd2` is not used any more: no such service is on the system any more
              at user-data:25:3, $.coreos.etcd2
               25 |   etcd2: {advertise-client-urls: 'http://203.0.113.1:2379', proxy: 'on', debug: true, snapshot_count
                  |   ^
            make {"storage":{"files":[{"contents":{"compression":"","source":"data:,web%0A"},"mode":420,"overwrite":true,"path":"/etc/hostname"}]}}
            hostname web
            make {"passwd":{"users":[{"name":"core","passwordHash":"$6$ab$xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","sshAuthorizedKeys":["ssh-ed25519 B b"]}]}}
            make {"passwd":{"users":[{"gecos":"Somebody New","groups":["wheel"],"name":"new","noCreateHome":true}]}}
            make {"passwd":{"users":[{"name":"core","sshAuthorizedKeys":["ssh-ed25519 A a","ssh-ed25519 B b","ssh-ed25519 P platform"]}]}}
            make {"storage":{"files":[{"contents":{"compression":"","source":"data:,address%2010.0.0.1%2C%20%24private_ipv4"},"group":{"id":100},"mode":384,"overwrite":true,"path":"/etc/motd","user":{"name":"core"}},{"contents":{"compression":"","source":"data:,hello%0A"},"mode":420,"overwrite":true,"path":"/opt/data"},{"contents":{"compression":"","source":"data:;base64,SUQ9cGl0aG9zClZFUlNJT05fSUQ9MS4wCk5BTUU9IlBpdCBcImhPU1wiIgpIT01FX1VSTD0iIgpCVUdfUkVQT1JUX1VSTD0iIgo="},"mode":420,"overwrite":true,"path":"/etc/oem-release"},{"contents":{"compression":"","source":"data:,GROUP%3Dbeta%0ASERVER%3Dhttps%3A%2F%2Fa%0AREBOOT_STRATEGY%3Doff%0A"},"mode":420,"overwrite":true,"path":"/etc/coreos/update.conf"},{"contents":{"compression":"","source":"data:,127.0.0.1%20web%0A"},"mode":420,"overwrite":true,"path":"/etc/hosts"},{"contents":{"compression":"","source":"data:,FLANNELD_IFACE%3D10.0.0.1%0A"},"mode":420,"overwrite":true,"path":"/run/flannel/options.env"},{"contents":{"compression":"","source":"data:,LANG%3DC%0ACOREOS_PUBLIC_IPV4%3D203.0.113.1%0ACOREOS_PRIVATE_IPV4%3D10.0.0.1%0A"},"mode":420,"overwrite":true,"path":"/etc/environment"}]}}
            make {"storage":{"files":[{"contents":{"compression":"","source":"data:,%5BService%5D%0AExecStart%3D%2Fbin%2Ftrue%0A%5BInstall%5D%0AWantedBy%3Dmulti-user.target%0A"},"mode":420,"overwrite":true,"path":"/etc/systemd/system/a.service"},{"contents":{"compression":"","source":"data:,%5BUnit%5D%0A"},"mode":420,"overwrite":true,"path":"/etc/systemd/system/a.service.d/b.conf"}]}}
            systemctl enable a.service
            make {"storage":{"files":[{"contents":{"compression":"","source":"data:,%5BMatch%5D%0A"},"mode":420,"overwrite":true,"path":"/run/systemd/network/c.network"}]}}
            unmask /run/systemd/network/c.network
            make {"storage":{"links":[{"overwrite":true,"path":"/etc/systemd/system/d.service","target":"/dev/null"}]}}
            make {"storage":{"files":[{"contents":{"compression":"gzip","source":"data:;base64,H4sIAAAAAAAC/23MwQpAMBgA4LvH2AOM2UHUDtiflNA2ImkHrTgYrfH8XsD5q2+Rxr3HZtYA7Hu4y57GeoZAlVznfAShagm6bGpolR5EI9nu/Z2FYRxRHGFCKCZZTJMU/QQciqFi3j3mT3vRTTO7LAo+nJsO4oUAAAA="},"mode":420,"overwrite":true,"path":"/run/systemd/system/etcd2.service.d/20-cloudinit.conf"}]}}
            unmask /run/systemd/system/etcd2.service
            make {"storage":{"files":[{"contents":{"compression":"","source":"data:,%5BService%5D%0AEnvironment%3D%22REBOOT_WINDOW_LENGTH%3D1h30m%22%0AEnvironment%3D%22REBOOT_WINDOW_START%3DThu%2004%3A00%22%0A"},"mode":420,"overwrite":true,"path":"/run/systemd/system/locksmithd.service.d/20-cloudinit.conf"}]}}
            unmask /run/systemd/system/locksmithd.service
            make {"storage":{"links":[{"overwrite":true,"path":"/run/systemd/system/locksmithd.service","target":"/dev/null"}]}}
            systemctl daemon-reload
            systemctl restart systemd-networkd.service
            systemctl start a.service
            systemctl stop d.service
            systemctl stop locksmithd.service
            systemctl restart update-engine.service
        "#]],
    );
}

#[test]
fn it_becomes_a_configuration_of_ignition() {
    becomes(
        WHOLE,
        expect![[r#"
            warning: $private_ipv4 stays as it is: no address is known before the boot
              at user-data:18:22, $
               18 |     content: address $private_ipv4, $private_ipv4
                  |                      ^
            warning: $public_ipv4 stays as it is: no address is known before the boot
              at user-data:25:42, $
               25 |   etcd2: {advertise-client-urls: 'http://$public_ipv4:2379', proxy: 'on', debug: true, snapshot_coun
                  |                                          ^
            warning: $private_ipv4 stays as it is: no address is known before the boot
              at user-data:26:24, $
               26 |   flannel: {interface: $private_ipv4}
                  |                        ^
            warning: `etcd2` is not used any more: no such service is on the system any more
              at user-data:25:3, $.coreos.etcd2
               25 |   etcd2: {advertise-client-urls: 'http://$public_ipv4:2379', proxy: 'on', debug: true, snapshot_coun
                  |   ^
            warning: `start` of a.service became: multi-user.target starts it on every boot
              at user-data:30:16, $.coreos.units
               30 |       command: start
                  |                ^
            warning: this is not a public key of SSH: nobody can log in with it
              at user-data:6:5, $.passwd.users.0.sshAuthorizedKeys.0
                6 |   - name: core
                  |     ^
              expected the line of a file `*.pub`: `ssh-ed25519 AAAA... comment`
            warning: this is not a public key of SSH: nobody can log in with it
              at user-data:4:23, $.passwd.users.0.sshAuthorizedKeys.1
                4 | ssh_authorized_keys: [ssh-ed25519 A a]
                  |                       ^
              expected the line of a file `*.pub`: `ssh-ed25519 AAAA... comment`
            passwd.users {"groups":["docker"],"name":"core","passwordHash":"$6$ab$xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","sshAuthorizedKeys":["ssh-ed25519 B b","ssh-ed25519 A a"]}
            passwd.users {"gecos":"Somebody New","groups":["wheel"],"name":"new","noCreateHome":true}
            storage.files {"contents":{"compression":"","source":"data:,address%20%24private_ipv4%2C%20%24private_ipv4"},"group":{"id":100},"mode":384,"overwrite":true,"path":"/etc/motd","user":{"name":"core"}}
            storage.files {"contents":{"compression":"","source":"data:,hello%0A"},"mode":420,"overwrite":true,"path":"/opt/data"}
            storage.files {"contents":{"compression":"","source":"data:,web.example.org%0A"},"mode":420,"overwrite":true,"path":"/etc/hostname"}
            storage.files {"contents":{"compression":"","source":"data:,127.0.0.1%20web.example.org%0A"},"mode":420,"overwrite":true,"path":"/etc/hosts"}
            storage.files {"contents":{"compression":"","source":"data:;base64,SUQ9cGl0aG9zClZFUlNJT05fSUQ9MS4wCk5BTUU9IlBpdCBcImhPU1wiIgpIT01FX1VSTD0iIgpCVUdfUkVQT1JUX1VSTD0iIgo="},"mode":420,"overwrite":true,"path":"/etc/oem-release"}
            storage.files {"contents":{"compression":"","source":"data:,GROUP%3Dbeta%0AREBOOT_STRATEGY%3Doff%0A"},"mode":420,"overwrite":true,"path":"/etc/coreos/update.conf"}
            storage.files {"contents":{"compression":"","source":"data:,%5BMatch%5D%0A"},"mode":420,"overwrite":true,"path":"/etc/systemd/network/c.network"}
            storage.links {"overwrite":true,"path":"/etc/systemd/system/multi-user.target.wants/a.service","target":"../a.service"}
            systemd.units {"contents":"[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n","dropins":[{"contents":"[Unit]\n","name":"b.conf"}],"enabled":true,"name":"a.service"}
            systemd.units {"mask":true,"name":"d.service"}
            systemd.units {"dropins":[{"contents":"[Service]\nEnvironment=\"ETCD_ADVERTISE_CLIENT_URLS=http://$public_ipv4:2379\"\nEnvironment=\"ETCD_DEBUG=true\"\nEnvironment=\"ETCD_PROXY=on\"\n","name":"20-cloudinit.conf"}],"name":"etcd2.service"}
            systemd.units {"dropins":[{"contents":"[Service]\nEnvironment=\"REBOOT_WINDOW_LENGTH=1h30m\"\nEnvironment=\"REBOOT_WINDOW_START=Thu 04:00\"\n","name":"20-cloudinit.conf"}],"mask":true,"name":"locksmithd.service"}
            systemd.units {"dropins":[{"contents":"[Service]\nEnvironment=\"FLANNELD_IFACE=$private_ipv4\"\n","name":"20-cloudinit.conf"}],"name":"flanneld.service"}
        "#]],
    );
}

#[test]
fn nothing_is_done_where_nothing_is_said_but_what_the_platform_says() {
    does(
        "#cloud-config\n",
        expect![[r#"
        make {"passwd":{"users":[{"name":"core","sshAuthorizedKeys":["ssh-ed25519 P platform"]}]}}
        make {"storage":{"files":[{"contents":{"compression":"","source":"data:,LANG%3DC%0ACOREOS_PUBLIC_IPV4%3D203.0.113.1%0ACOREOS_PRIVATE_IPV4%3D10.0.0.1%0A"},"mode":420,"overwrite":true,"path":"/etc/environment"}]}}
    "#]],
    );
}

#[test]
fn what_is_not_known_has_no_effect_and_is_said() {
    says(
        "#cloud-config
hostnme: a
hostname: [a]
coreos:
  write_files: []
  fleet: {public_ip: a}
  units: {name: a}
users:
  - name: a
    system: maybe
    coreos-ssh-import-github: somebody
",
        expect![[r#"
            warning: unused key `hostnme`: it is not known here and has no effect
              at user-data:2:1, $.hostnme
                2 | hostnme: a
                  | ^
              did you mean `hostname`?
            warning: expected a text, found a list: it has no effect
              at user-data:3:11, $.hostname
                3 | hostname: [a]
                  |           ^
            warning: unused key `write_files`: it is not known here and has no effect
              at user-data:5:3, $.coreos.write_files
                5 |   write_files: []
                  |   ^
              write_files belongs on top, not under coreos
            warning: `fleet` is not used any more: fleet is not on the system any more
              at user-data:6:3, $.coreos.fleet
                6 |   fleet: {public_ip: a}
                  |   ^
            warning: expected a list, found a map: it has no effect
              at user-data:7:10, $.coreos.units
                7 |   units: {name: a}
                  |          ^
            warning: expected true or false, found a text: it has no effect
              at user-data:10:13, $.users.0.system
               10 |     system: maybe
                  |             ^
            warning: `coreos-ssh-import-github` is not used any more: keys are not fetched here: whoever answers for that address could come in
              at user-data:11:5, $.users.0.coreos-ssh-import-github
               11 |     coreos-ssh-import-github: somebody
                  |     ^
        "#]],
    );
}

#[test]
fn what_must_be_right_is_an_error_with_its_place() {
    says(
        "#cloud-config
manage_etc_hosts: always
write_files:
  - {path: /usr/bin/a}
  - {path: /a/../../etc/b}
  - {path: /a, permissions: 0999, encoding: rot13}
  - {path: /a, encoding: b64, content: '!'}
  - {path: /a, encoding: gz+b64, content: YQ==}
  - {content: a}
users: [{name: 'a:b'}]
coreos:
  units:
    - {name: ../a.service, command: explode, drop-ins: [{name: a/b.conf}]}
  update: {reboot-strategy: never}
  etcd2: {proxy: maybe, discovery: token}
  locksmith: {window-start: Foo 25:00, window-length: long}
",
        expect![[r#"
            warning: `etcd2` is not used any more: no such service is on the system any more
              at user-data:15:3, $.coreos.etcd2
               15 |   etcd2: {proxy: maybe, discovery: token}
                  |   ^
            error: nothing can be written below /usr: it is read-only
              at user-data:4:12, $.write_files.0.path
                4 |   - {path: /usr/bin/a}
                  |            ^
            error: `/a/../../etc/b` is not the path of a file
              at user-data:5:12, $.write_files.1.path
                5 |   - {path: /a/../../etc/b}
                  |            ^
            error: expected permissions in octal, three or four digits, as in 0644
              at user-data:6:29, $.write_files.2.permissions
                6 |   - {path: /a, permissions: 0999, encoding: rot13}
                  |                             ^
            error: the encoding `rot13` is not known; base64, gzip, gzip+base64
              at user-data:6:45, $.write_files.2.encoding
                6 |   - {path: /a, permissions: 0999, encoding: rot13}
                  |                                             ^
            error: this is not b64: Invalid symbol 33, offset 0.
              at user-data:7:40, $.write_files.3.content
                7 |   - {path: /a, encoding: b64, content: '!'}
                  |                                        ^
            error: this is not gz+b64: it does not begin as gzip does
              at user-data:8:43, $.write_files.4.content
                8 |   - {path: /a, encoding: gz+b64, content: YQ==}
                  |                                           ^
            error: `` is not the path of a file
              at user-data:9:5, $.write_files.5.path
                9 |   - {content: a}
                  |     ^
            error: `a:b` is not the name of a user
              at user-data:10:16, $.users.0.name
               10 | users: [{name: 'a:b'}]
                  |                ^
            error: `always` is not known here
              at user-data:2:19, $.manage_etc_hosts
                2 | manage_etc_hosts: always
                  |                   ^
              one of localhost
            error: `../a.service` is not the name of a unit
              at user-data:13:14, $.coreos.units.0.name
               13 |     - {name: ../a.service, command: explode, drop-ins: [{name: a/b.conf}]}
                  |              ^
            error: `explode` is not known here
              at user-data:13:37, $.coreos.units.0.command
               13 |     - {name: ../a.service, command: explode, drop-ins: [{name: a/b.conf}]}
                  |                                     ^
              one of start, stop, restart, reload, try-restart, reload-or-restart, reload-or-try-restart
            error: `a/b.conf` is not the name of a drop-in
              at user-data:13:64, $.coreos.units.0.drop_ins.0.name
               13 | - {name: ../a.service, command: explode, drop-ins: [{name: a/b.conf}]}
                  |                                                            ^
            error: `never` is not known here
              at user-data:14:29, $.coreos.update.reboot_strategy
               14 |   update: {reboot-strategy: never}
                  |                             ^
              one of etcd-lock, reboot, off
            error: `maybe` is not known here
              at user-data:15:18, $.coreos.etcd2.proxy
               15 |   etcd2: {proxy: maybe, discovery: token}
                  |                  ^
              one of on, off, readonly
            warning: `token` is not a URL
              at user-data:15:36, $.coreos.etcd2.discovery
               15 |   etcd2: {proxy: maybe, discovery: token}
                  |                                    ^
            error: expected a time, as in `Thu 04:00` or `4:00`
              at user-data:16:29, $.coreos.locksmith.window_start
               16 |   locksmith: {window-start: Foo 25:00, window-length: long}
                  |                             ^
            error: expected a time span, as in `1h30m`
              at user-data:16:55, $.coreos.locksmith.window_length
               16 |   locksmith: {window-start: Foo 25:00, window-length: long}
                  |                                                       ^
        "#]],
    );
    says(
        "#cloud-config\nhostname: a\nhostname: b\n",
        expect![[r#"
        error: the key "hostname" is here a second time; which one counts?
          at user-data:3:1, $
            3 | hostname: b
              | ^
    "#]],
    );
    says(
        "#cloud-config\nwrite_files: []\nwrite-files: []\n",
        expect![[r#"
        error: `write_files` is here a second time, with `-` and with `_`
          at user-data:3:1, $.write-files
            3 | write-files: []
              | ^
    "#]],
    );
}

#[test]
fn addresses_take_the_place_of_their_names() {
    let addresses = facts().addresses;
    for (text, expected) in [
        ("$private_ipv4", "10.0.0.1"),
        ("a$public_ipv4:1,$private_ipv4b", "a203.0.113.1:1,10.0.0.1b"),
        ("\\$private_ipv4 $", "$private_ipv4 $"),
        ("$public_ipv6|$private_ipv6", "|"),
        ("$private_ip $PRIVATE_IPV4 $$private_ipv4", "$private_ip $PRIVATE_IPV4 $10.0.0.1"),
    ] {
        assert_eq!(substitute(text, &addresses), expected, "{text}");
    }
}

/// Fails at everything whose description has `fails` in it.
struct Fragile(Vec<String>);

impl Fragile {
    fn does(&mut self, what: String) -> Result<(), String> {
        let failed = what.contains("fails");
        self.0.push(what);
        if failed { Err("it cannot be".to_owned()) } else { Ok(()) }
    }
}

impl Machine for Fragile {
    fn hostname(&mut self, name: &str) -> Result<(), String> {
        self.does(format!("hostname {name}"))
    }

    fn provision(&mut self, piece: &Node) -> Result<(), String> {
        self.does(piece.to_json().to_string())
    }

    fn unmask(&mut self, path: &str) -> Result<(), String> {
        self.does(format!("unmask {path}"))
    }

    fn systemctl(&mut self, arguments: &[String]) -> Result<(), String> {
        self.does(arguments.join(" "))
    }

    fn script(&mut self, name: &str, _: &str) -> Result<(), String> {
        self.does(format!("script {name}"))
    }
}

#[test]
fn what_fails_does_not_keep_the_rest_from_being_done() {
    let text = "#cloud-config\ncoreos: {units: [{name: fails.service, command: start}, {name: a.service, command: start}]}\n";
    let (mut sources, mut report) = (Sources::default(), Report::default());
    let actions = plan("user-data", text, &Facts::default(), &mut sources, &mut report);
    let (mut machine, journal) = (Fragile(Vec::new()), Lines::default());
    assert_eq!(apply::apply(&actions, &mut machine, &journal), 1);
    assert_eq!(machine.0, ["start fails.service", "start a.service"]);
    expect![[r#"
        cloud-config: systemctl start fails.service
        cloud-config: systemctl start fails.service: failed: it cannot be
        cloud-config: systemctl start a.service"#]]
    .assert_eq(&journal.take().join("\n"));
}

#[test]
fn a_tree_gets_users_files_and_units_and_the_second_time_changes_nothing() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: users have home directories of their own, which only root can give");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let path = |path: &str| root.path().join(path);
    for directory in ["etc", "usr/lib", "run", "var"] {
        std::fs::create_dir_all(path(directory)).unwrap();
    }
    std::fs::write(path("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    std::fs::write(path("etc/shadow"), "root:*:19000:0:99999:7:::\n").unwrap();
    std::fs::write(path("etc/group"), "root:x:0:\nwheel:x:10:\n").unwrap();
    let owner = "owner: core:100";
    let text = WHOLE.replace(owner, "owner: '0'").replace("docker", "wheel");
    let journal = Lines::default();
    let once = || {
        let (mut sources, mut report) = (Sources::default(), Report::default());
        let facts = Facts::read(root.path(), facts().addresses);
        let actions = plan("user-data", &text, &facts, &mut sources, &mut report);
        let mut machine = apply::Running::new(root.path(), 20_000, &journal);
        let failures = apply::apply(&actions, &mut machine, &journal);
        assert_eq!(failures, 0, "{}", journal.take().join("\n"));
        let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
        let wanted = path("etc/systemd/system/multi-user.target.wants/a.service");
        assert!(wanted.symlink_metadata().is_ok());
        [read("etc/hostname"), read("etc/passwd"), read("etc/motd"), read("etc/environment")]
            .concat()
    };
    let first = once();
    assert_eq!(first, once());
    expect![[r#"
        web
        root:x:0:0::/root:/bin/sh
        core:x:1000:1000::/home/core:/bin/bash
        new:x:1001:1001:Somebody New:/home/new:/bin/bash
        address 10.0.0.1, $private_ipv4COREOS_PUBLIC_IPV4=203.0.113.1
        COREOS_PRIVATE_IPV4=10.0.0.1
    "#]]
    .assert_eq(&first);
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in "(#cloud-config\n)?[a-z_:\\[\\]{}\"$ \n#!=-]{0,80}") {
        let (mut sources, mut report) = (Sources::default(), Report::default());
        plan("a", &text, &facts(), &mut sources, &mut report);
        convert("a", &text, &mut sources, &mut report);
        let _ = report.display(&sources).to_string();
    }

    #[test]
    fn no_cloud_config_is_too_strange(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "coreos", "units", "name", "content", "command", "update", "group", "etcd2",
                "write_files", "path", "encoding", "users", "ssh_authorized_keys", "hostname",
                "drop-ins", "oem", "id", "permissions", "owner",
            ]),
            1..5,
        ),
        scalar in prop::sample::select(vec!["~", "1", "true", "a", "[]", "{}", "[~]", "[{}]", "..", "é"]),
        list in prop::collection::vec(any::<bool>(), 5),
    ) {
        let mut text = scalar.to_owned();
        for (word, list) in words.iter().rev().zip(list) {
            text = if list { format!("{{{word}: [{text}]}}") } else { format!("{{{word}: {text}}}") };
        }
        let text = format!("#cloud-config\n{text}\n");
        let (mut sources, mut report) = (Sources::default(), Report::default());
        plan("a", &text, &facts(), &mut sources, &mut report);
        convert("a", &text, &mut sources, &mut report);
    }
}
