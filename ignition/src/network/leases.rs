//! What systemd-networkd knows by DHCP, on the running system.

use std::{fs, net::IpAddr, path::Path};

/// Where it keeps a file for each link.
pub const LEASES: &str = "/run/systemd/netif/leases";

/// Who gave the first link that has one its address.
pub fn lease_server(leases: &Path) -> Option<IpAddr> {
    let entries = fs::read_dir(leases).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files.iter().find_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        text.lines().find_map(|line| line.strip_prefix("SERVER_ADDRESS=")?.parse().ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_in_the_lease() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(lease_server(&folder.path().join("none")), None);
        fs::write(folder.path().join("2"), "# private\nADDRESS=192.0.2.9\n").unwrap();
        assert_eq!(lease_server(folder.path()), None);
        let lease = "ADDRESS=192.0.2.9\nSERVER_ADDRESS=192.0.2.1\nROUTER=192.0.2.2\n";
        fs::write(folder.path().join("3"), lease).unwrap();
        assert_eq!(lease_server(folder.path()), Some(IpAddr::from([192, 0, 2, 1])));
    }
}
