//! The services of platforms, each with what it wants to hear, refuses and sends elsewhere.

use std::{
    io,
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use http_client::Hand;
use ignition::{
    attributes,
    fetch::{Fetcher, Names, Places},
    files::tree::Root,
    journal::{Lines, Silent},
    platform::{
        self, Found, Machine, Online, PlatformError, Volume, Volumes, metadata, vmware::Guestinfo,
    },
};

use crate::stand_in::{Asked, StandIn, ok, redirect, status};

/// A machine with nothing next to it, but for a volume.
struct Nothing(Option<&'static str>);

impl Volumes for Nothing {
    fn find(&self, volume: &Volume) -> io::Result<Option<Found>> {
        let bytes = self.0.map(|text| text.as_bytes().to_vec());
        Ok(bytes.map(|bytes| Found { from: volume.label.to_owned(), bytes }))
    }
}

impl Guestinfo for Nothing {
    fn get(&self, _: &str) -> io::Result<Option<String>> {
        Ok(None)
    }
}

struct Outcome {
    result: Result<Option<Found>, PlatformError>,
    slept: Vec<u128>,
    connected: bool,
    said: Vec<String>,
}

fn find(cmdline: &str, server: &StandIn, volume: Option<&'static str>) -> Outcome {
    let nothing = Nothing(volume);
    let empty = tempfile::tempdir().unwrap();
    let machine = Machine {
        sys: empty.path(),
        esp: None,
        volumes: &nothing,
        guestinfo: &nothing,
        vboxcontrol: Path::new("/nonexistent"),
    };
    let (clock, lines) = (Hand::new(), Lines::default());
    let places = || Places { metadata: Some(server.url("")), buckets: None };
    let plan = platform::plan(cmdline).unwrap();
    let offline = Fetcher::offline(&lines);
    let mut connected = false;
    let mut connect = || {
        connected = true;
        let fetcher = Fetcher::online(Names::System, &lines).with_places(places(), &clock);
        Ok(Online { fetcher, dhcp_server: Some(IpAddr::from([192, 0, 2, 1])) })
    };
    let result = platform::find(&plan, &machine, &offline, &mut connect, &lines);
    Outcome { result, slept: clock.slept(), connected, said: lines.take() }
}

/// The user data that a platform gives, where `answer` is all that its service knows.
fn check(id: &str, answer: fn(&Asked) -> Option<String>) {
    let server = StandIn::new(move |_, asked| answer(asked).unwrap_or_else(|| status(400)));
    let outcome = find(&format!("ignition.platform.id={id}"), &server, None);
    let found = outcome.result.unwrap_or_else(|error| panic!("{id}: {error:?}")).unwrap();
    assert_eq!(String::from_utf8_lossy(&found.bytes), "hello", "{id}");
}

#[test]
fn each_platform_is_asked_as_it_wants_to_be() {
    check("aws", |asked| match asked.line.as_str() {
        "PUT /latest/api/token"
            if asked.header("x-aws-ec2-metadata-token-ttl-seconds") == "21600" =>
        {
            Some(ok("word"))
        }
        "GET /2019-10-01/user-data" if asked.header("x-aws-ec2-metadata-token") == "word" => {
            Some(ok("hello"))
        }
        _ => None,
    });
    check("gce", |asked| {
        let path = "GET /computeMetadata/v1/instance/attributes/user-data";
        (asked.line == path && asked.header("metadata-flavor") == "Google").then(|| ok("hello"))
    });
    check("azure", |asked| {
        let path = "GET /metadata/instance/compute/userData?api-version=2021-01-01&format=text";
        (asked.line == path && asked.header("metadata") == "true").then(|| ok("aGVs\nbG8="))
    });
    check("oraclecloud", |asked| {
        let path = "GET /opc/v2/instance/metadata/user_data";
        let word = "Bearer Oracle";
        (asked.line == path && asked.header("authorization") == word).then(|| ok("aGVsbG8="))
    });
    check("akamai", |asked| match asked.line.as_str() {
        "PUT /v1/token" if asked.header("metadata-token-expiry-seconds") == "300" => {
            Some(ok("word\n"))
        }
        "GET /v1/user-data" if asked.header("metadata-token") == "word" => Some(ok("aGVsbG8=")),
        _ => None,
    });
}

#[test]
fn the_plain_ones_have_a_path_each() {
    check("openstack", |a| (a.line == "GET /openstack/latest/user_data").then(|| ok("hello")));
    check("digitalocean", |a| (a.line == "GET /metadata/v1/user-data").then(|| ok("hello")));
    check("hetzner", |a| (a.line == "GET /hetzner/v1/userdata").then(|| ok("hello")));
    check("vultr", |a| (a.line == "GET /user-data/user-data").then(|| ok("hello")));
    check("exoscale", |a| (a.line == "GET /1.0/user-data").then(|| ok("hello")));
    check("upcloud", |a| (a.line == "GET /metadata/v1/user_data").then(|| ok("hello")));
    check("aliyun", |a| (a.line == "GET /latest/user-data").then(|| ok("hello")));
    check("cloudstack", |a| (a.line == "GET /latest/user-data").then(|| ok("hello")));
    check("packet", |a| (a.line == "GET /userdata").then(|| ok("hello")));
}

#[test]
fn an_amazon_of_old_gives_no_token_and_is_asked_without() {
    let server = StandIn::new(|_, asked| match asked.line.as_str() {
        "PUT /latest/api/token" => status(404),
        _ if asked.header("x-aws-ec2-metadata-token").is_empty() => ok("hello"),
        _ => status(400),
    });
    let found = find("ignition.platform.id=aws", &server, None).result.unwrap().unwrap();
    assert_eq!(found.bytes, b"hello");
}

#[test]
fn a_token_that_is_refused_stops_the_boot() {
    let server = StandIn::new(|_, _| status(403));
    let error = find("ignition.platform.id=aws", &server, None).result.unwrap_err();
    assert!(matches!(error, PlatformError::Fetch { .. }), "{error:?}");
    assert_eq!(server.lines(), ["PUT /latest/api/token"]);
}

#[test]
fn no_user_data_is_no_document_and_no_error() {
    for (id, code) in [("hetzner", 404), ("digitalocean", 204), ("gcp", 404)] {
        let server = StandIn::new(move |_, _| status(code));
        let outcome = find(&format!("ignition.platform.id={id}"), &server, None);
        assert_eq!(outcome.result.unwrap(), None);
        assert_eq!(outcome.said, [format!("document: none on the platform {id}")]);
    }
    let server = StandIn::new(|_, _| ok(""));
    assert_eq!(find("ignition.platform.id=vultr", &server, None).result.unwrap(), None);
}

#[test]
fn a_service_that_is_slow_to_come_up_is_waited_for() {
    let server = StandIn::new(|count, _| match count {
        1 => status(500),
        2 => status(404),
        3 => status(410),
        _ => ok("aGVsbG8="),
    });
    let outcome = find("ignition.platform.id=azure", &server, None);
    assert_eq!(outcome.result.unwrap().unwrap().bytes, b"hello");
    assert_eq!(outcome.slept, [200, 400, 800]);
    assert!(outcome.said[0].contains("try 1: the server says 500"), "{:?}", outcome.said);
}

#[test]
fn a_service_may_send_elsewhere_but_gets_no_word_there() {
    let server = StandIn::new(|_, asked| match asked.line.as_str() {
        "PUT /latest/api/token" => ok("word"),
        "GET /2019-10-01/user-data" => redirect("/elsewhere"),
        _ if asked.header("x-aws-ec2-metadata-token").is_empty() => ok("hello"),
        _ => status(400),
    });
    let found = find("ignition.platform.id=aws", &server, None).result.unwrap().unwrap();
    assert_eq!(found.bytes, b"hello");
}

#[test]
fn what_should_be_base64_and_is_not_is_said() {
    let server = StandIn::new(|_, _| ok("{}"));
    let error = find("ignition.platform.id=azure", &server, None).result.unwrap_err();
    assert!(error.to_string().contains("should be in base64"), "{error}");
}

#[test]
fn what_is_next_to_the_machine_needs_no_network() {
    let server = StandIn::new(|_, _| ok("hello"));
    for cmdline in ["", "ignition.platform.id=proxmoxve", "ignition.platform.id=openstack"] {
        let outcome = find(cmdline, &server, Some("drive"));
        assert_eq!(outcome.result.unwrap().unwrap().bytes, b"drive");
        assert!(!outcome.connected);
    }
    let outcome = find("", &server, None);
    assert_eq!(outcome.result.unwrap(), None);
    assert!(!outcome.connected && server.lines().is_empty());
}

#[test]
fn an_address_of_the_command_line_comes_before_all() {
    let server = StandIn::new(|_, _| ok("hello"));
    let outcome =
        find(&format!("ignition.config.url={}", server.url("/a")), &server, Some("drive"));
    assert_eq!(outcome.result.unwrap().unwrap().bytes, b"hello");
    // And a thing that is not there is an error then, not a reason to look elsewhere.
    let server = StandIn::new(|_, _| status(404));
    let outcome =
        find(&format!("ignition.config.url={}", server.url("/a")), &server, Some("drive"));
    assert!(outcome.result.is_err());
}

#[test]
fn a_firmware_file_and_a_file_of_the_esp_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let nothing = Nothing(None);
    let machine = Machine {
        sys: folder.path(),
        esp: Some(folder.path()),
        volumes: &nothing,
        guestinfo: &nothing,
        vboxcontrol: Path::new("/nonexistent"),
    };
    let offline = Fetcher::offline(&Silent);
    let look = || {
        let plan = platform::plan("").unwrap();
        let mut connect = || -> Result<Online<'_>, PlatformError> { panic!("not needed") };
        platform::find(&plan, &machine, &offline, &mut connect, &Silent).unwrap().unwrap()
    };
    write("pithos/config.bu", "esp");
    assert_eq!(look().from, "pithos/config.bu of the ESP");
    write("firmware/qemu_fw_cfg/by_name/opt/com.coreos/config/raw", "firmware");
    write("firmware/qemu_fw_cfg/by_name/opt/com.coreos/config/size", "8\n");
    assert_eq!(look().bytes, b"firmware");
    write("firmware/qemu_fw_cfg/by_name/opt/org.pithos/config/raw", "ours");
    write("firmware/qemu_fw_cfg/by_name/opt/org.pithos/config/size", "4\n");
    assert_eq!(look().from, "fw_cfg opt/org.pithos/config");
}

#[test]
fn attributes_of_a_machine_are_asked_for_with_a_token() {
    let seen = Arc::new(Mutex::new(0));
    let count = seen.clone();
    let server = StandIn::new(move |_, asked| match asked.line.as_str() {
        "PUT /latest/api/token" => ok("word"),
        _ if asked.header("x-aws-ec2-metadata-token") != "word" => status(401),
        "GET /2021-01-03/meta-data/instance-id" => {
            *count.lock().unwrap() += 1;
            ok("i-1")
        }
        _ => status(404),
    });
    let clock = Hand::new();
    let places = Places { metadata: Some(server.url("")), buckets: None };
    let fetcher = Fetcher::online(Names::System, &Silent).with_places(places, &clock);
    let metadata = metadata::ask("aws", &fetcher).unwrap().unwrap();
    assert_eq!(
        metadata.environment(),
        "AFTERBURN_AWS_INSTANCE_ID=i-1\nCOREOS_EC2_INSTANCE_ID=i-1\n"
    );
    assert_eq!(*seen.lock().unwrap(), 1);
    assert_eq!(metadata::ask("qemu", &fetcher).unwrap(), None);
}

#[test]
fn what_a_platform_says_is_where_units_look_for_it() {
    let server = StandIn::new(|count, asked| match asked.line.as_str() {
        // It is slow to come up.
        _ if count < 3 => status(503),
        "GET /hetzner/v1/metadata/hostname" => ok("sea-4"),
        "GET /hetzner/v1/metadata/public-ipv4" => ok("192.0.2.7"),
        "GET /hetzner/v1/metadata/public-keys" => ok(r#"["ssh-ed25519 A sea"]"#),
        _ => status(404),
    });
    let clock = Hand::new();
    let places = Places { metadata: Some(server.url("")), buckets: None };
    let fetcher = Fetcher::online(Names::System, &Silent).with_places(places, &clock);
    let metadata = metadata::ask("hetzner", &fetcher).unwrap().unwrap();
    let tree = tempfile::tempdir().unwrap();
    let root = Root::open(tree.path()).unwrap();
    let plan = attributes::plan(&metadata, &attributes::Facts::read(&root).unwrap());
    plan.perform(&root, &Silent).unwrap();
    let text = std::fs::read_to_string(tree.path().join("run/metadata/flatcar")).unwrap();
    assert_eq!(
        text,
        "AFTERBURN_HETZNER_HOSTNAME=sea-4\nAFTERBURN_HETZNER_PUBLIC_IPV4=192.0.2.7\n\
         COREOS_HETZNER_HOSTNAME=sea-4\nCOREOS_HETZNER_PUBLIC_IPV4=192.0.2.7\n"
    );
    assert_eq!(plan.hostname.as_deref(), Some("sea-4"));
    assert_eq!(metadata.ssh_keys, ["ssh-ed25519 A sea"]);
}
