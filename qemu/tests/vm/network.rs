//! Machines on one network.

use anyhow::{Result, ensure};
use qemu::cluster::Cluster;

use crate::{harness, shipped::identity};

#[test]
fn three_machines_see_each_other_until_the_cable_is_cut() -> Result<()> {
    let _seats = harness::seats(usize::MAX);
    let cluster = Cluster::start(3, 1, |number| {
        let spec = harness::machine(&format!("cluster-{number}")).expect("in the repository");
        Ok(spec.cpus(1).memory_mib(512))
    })?;
    cluster.wait_ready(&|_, _| {})?;
    for (from, to) in [(1, 2), (2, 3), (3, 1)] {
        ensure!(cluster.hears(from, to)?, "machine {from} does not see machine {to}");
    }
    cluster.switch.cut(1);
    ensure!(!cluster.hears(1, 2)?, "machine 1 sees machine 2 behind a cut cable");
    ensure!(!cluster.hears(2, 3)?, "machine 2 sees machine 3 over its cut cable");
    ensure!(cluster.hears(3, 1)?, "another's cable stops machines 3 and 1");
    cluster.switch.mend(1);
    ensure!(cluster.hears(1, 2)?, "the cable is mended and machine 2 stays away");
    machine_ids_and_host_keys_differ_between_machines(&cluster)
}

fn machine_ids_and_host_keys_differ_between_machines(cluster: &Cluster) -> Result<()> {
    let mut seen = Vec::new();
    for machine in &cluster.machines {
        for part in identity(machine)? {
            ensure!(!seen.contains(&part), "two machines share {part}");
            seen.push(part);
        }
    }
    Ok(())
}
