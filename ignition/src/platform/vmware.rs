//! What hypervisors on a desk are told of a machine: VMware's `guestinfo`, VirtualBox's properties.

use std::{io, io::Read, path::Path, process::Command};

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::read::MultiGzDecoder;

use super::{Found, PlatformError};
use crate::{
    document::config::Resource,
    fetch::{Fetch, Fetcher},
};

/// Keys in order: data, its encoding, and an address in its place.
const KEYS: &[(&str, &str, &str)] = &[
    (
        "guestinfo.ignition.config.data",
        "guestinfo.ignition.config.data.encoding",
        "guestinfo.ignition.config.url",
    ),
    (
        "guestinfo.coreos.config.data",
        "guestinfo.coreos.config.data.encoding",
        "guestinfo.coreos.config.url",
    ),
];
/// The whole description of the machine, where it was made from a template.
const OVFENV: &str = "guestinfo.ovfenv";
const DOCUMENT_BYTES: u64 = 64 * 1024 * 1024;

/// Somebody who asks VMware's hypervisor.
pub trait Guestinfo {
    /// The value of a key; nothing if it has none.
    fn get(&self, key: &str) -> io::Result<Option<String>>;
}

/// Asks by the port of the processor that the hypervisor itself answers at.
#[derive(Clone, Copy, Debug)]
pub struct Backdoor;

impl Guestinfo for Backdoor {
    fn get(&self, key: &str) -> io::Result<Option<String>> {
        // Elsewhere nobody is behind that port, or somebody else.
        if !vmw_backdoor::is_vmware_cpu() {
            return Err(io::Error::other("this is no machine of VMware: its processor denies it"));
        }
        let failed = |error| io::Error::other(format!("asking VMware for {key}: {error}"));
        // A locked-down kernel (Secure Boot) hands out no ports; VMware's own needs none handed out.
        let mut port = vmw_backdoor::access_backdoor_privileged()
            .or_else(|_| vmw_backdoor::access_backdoor())
            .map_err(failed)?;
        port.probe_vmware_backdoor().map_err(failed)?;
        let mut channel = port.open_enhanced_chan().map_err(failed)?;
        let value = channel.get_guestinfo(key.as_bytes()).map_err(failed)?;
        value.map(text).transpose()
    }
}

/// Values are texts of C: their end may be there.
fn text(mut value: Vec<u8>) -> io::Result<String> {
    while value.last() == Some(&0) {
        value.pop();
    }
    String::from_utf8(value).map_err(io::Error::other)
}

/// The document that VMware was told, by data or by address.
pub(super) fn find(
    guestinfo: &dyn Guestinfo,
    fetcher: &Fetcher<'_>,
) -> Result<Option<Found>, PlatformError> {
    let from = "VMware's guestinfo".to_owned();
    let wrong = |source| PlatformError::Read { from: from.clone(), source };
    let environment = guestinfo.get(OVFENV).map_err(wrong)?.unwrap_or_default();
    let get = |key: &str| match guestinfo.get(key) {
        Ok(None) => Ok(property(&environment, key)),
        other => other,
    };
    for (data, encoding, url) in KEYS {
        if let Some(text) = get(data).map_err(wrong)?.filter(|text| !text.is_empty()) {
            let encoding = get(encoding).map_err(wrong)?.unwrap_or_default();
            let bytes = decode(text, &encoding)
                .map_err(|why| PlatformError::Encoding { from: from.clone(), why })?;
            return Ok(Some(Found { from, bytes }));
        }
        if let Some(url) = get(url).map_err(wrong)?.filter(|url| !url.is_empty()) {
            let mut bytes = Vec::new();
            let resource = Resource { source: Some(url), ..Resource::default() };
            let fetched = fetcher.fetch(&resource, &mut bytes);
            fetched.map_err(|source| PlatformError::Fetch { from: from.clone(), source })?;
            return Ok(Some(Found { from, bytes }));
        }
    }
    Ok(None)
}

/// `base64`, `gzip`, both, or nothing.
fn decode(text: String, encoding: &str) -> Result<Vec<u8>, String> {
    let (packed, coded) = match encoding {
        "" => (false, false),
        "b64" | "base64" => (false, true),
        "gz" | "gzip" => (true, false),
        "gz+b64" | "gzip+b64" | "gz+base64" | "gzip+base64" => (true, true),
        other => return Err(format!("the encoding `{other}` is not known")),
    };
    let mut bytes = text.into_bytes();
    if coded {
        bytes.retain(|byte| !byte.is_ascii_whitespace());
        bytes = STANDARD.decode(bytes).map_err(|error| format!("it is not base64: {error}"))?;
    }
    if !packed {
        return Ok(bytes);
    }
    let mut out = Vec::new();
    let mut from = MultiGzDecoder::new(bytes.as_slice()).take(DOCUMENT_BYTES);
    from.read_to_end(&mut out).map_err(|error| format!("it is not gzip: {error}"))?;
    Ok(out)
}

/// A property of the description of a machine: `<Property oe:key="KEY" oe:value="VALUE"/>`. No more
/// of XML is read than such lines have.
fn property(environment: &str, key: &str) -> Option<String> {
    environment.split("<Property").skip(1).find_map(|rest| {
        let tag = &rest[..rest.find('>')?];
        let attribute = |name: &str| {
            let start = tag.find(&format!("{name}=\""))? + name.len() + 2;
            let length = tag[start..].find('"')?;
            Some(&tag[start..start + length])
        };
        let value = attribute("oe:value")?;
        (attribute("oe:key")? == key).then(|| unescape(value))
    })
}

fn unescape(text: &str) -> String {
    let plain = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#10;", "\n")];
    let mut text = text.to_owned();
    for (escape, plain) in plain {
        text = text.replace(escape, plain);
    }
    text.replace("&amp;", "&")
}

/// The document that VirtualBox was told. Without its tool nobody can ask it.
pub(super) fn virtualbox(tool: &Path) -> Result<Option<Found>, PlatformError> {
    let from = "VirtualBox's guest property /Ignition/Config".to_owned();
    let get = |key: &str| {
        let output = Command::new(tool).args(["guestproperty", "get", key]).output();
        let output = output.map_err(|error| {
            let why = format!("{} would have to ask for it: {error}", tool.display());
            PlatformError::Read { from: from.clone(), source: io::Error::new(error.kind(), why) }
        })?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.trim_end().split_once("Value: ").map(|(_, value)| value.to_owned()))
    };
    let Some(text) = get("/Ignition/Config")? else { return Ok(None) };
    if let Some(encoding) = get("/Ignition/Config/Encoding")?.filter(|text| !text.is_empty()) {
        let why = format!("its encoding is `{encoding}`, and must be none");
        return Err(PlatformError::Encoding { from, why });
    }
    Ok(Some(Found { from, bytes: text.into_bytes() }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::journal::Silent;

    struct Keys(BTreeMap<&'static str, &'static str>);

    impl Guestinfo for Keys {
        fn get(&self, key: &str) -> io::Result<Option<String>> {
            Ok(self.0.get(key).map(|value| (*value).to_owned()))
        }
    }

    fn found(keys: &[(&'static str, &'static str)]) -> String {
        let keys = Keys(keys.iter().copied().collect());
        match find(&keys, &Fetcher::offline(&Silent)) {
            Ok(None) => "none".to_owned(),
            Ok(Some(found)) => String::from_utf8(found.bytes).unwrap(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn data_comes_in_every_encoding() {
        const DATA: &str = "guestinfo.ignition.config.data";
        const ENCODING: &str = "guestinfo.ignition.config.data.encoding";
        assert_eq!(found(&[]), "none");
        assert_eq!(found(&[(DATA, "{}")]), "{}");
        assert_eq!(found(&[(DATA, "e30="), (ENCODING, "base64")]), "{}");
        let packed = "H4sIAAAAAAAAA6uuBQBDv6ajAgAAAA==";
        assert_eq!(found(&[(DATA, packed), (ENCODING, "gz+b64")]), "{}");
        let error = found(&[(DATA, "{}"), (ENCODING, "rot13")]);
        assert_eq!(error, "the document of VMware's guestinfo: the encoding `rot13` is not known");
        assert_eq!(found(&[("guestinfo.coreos.config.url", "data:,%7B%7D")]), "{}");
    }

    #[test]
    fn data_may_be_in_the_description_of_the_machine() {
        let environment = r#"<Environment><PropertySection>
            <Property oe:key="other" oe:value="x"/>
            <Property oe:key="guestinfo.ignition.config.data" oe:value="{&quot;a&quot;: 1}"/>
            </PropertySection></Environment>"#;
        let keys = Keys([(OVFENV, environment)].into_iter().collect());
        let found = find(&keys, &Fetcher::offline(&Silent)).unwrap().unwrap();
        assert_eq!(found.bytes, br#"{"a": 1}"#);
    }

    #[test]
    fn a_machine_of_others_is_not_asked_by_a_port_that_only_vmware_has() {
        if vmw_backdoor::is_vmware_cpu() {
            return;
        }
        let error = find(&Backdoor, &Fetcher::offline(&Silent)).unwrap_err();
        let why = crate::causes::chain(&error);
        assert!(why.contains("this is no machine of VMware"), "{why}");
        assert_eq!(text(b"{}\0".to_vec()).unwrap(), "{}");
    }

    #[test]
    fn without_its_tool_virtualbox_cannot_be_asked() {
        let error = virtualbox(Path::new("/nonexistent/VBoxControl")).unwrap_err();
        assert!(matches!(error, PlatformError::Read { .. }));
    }
}
