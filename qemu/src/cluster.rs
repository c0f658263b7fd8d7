//! Several machines on one network: 10.77.0.1, 10.77.0.2, ...

use std::thread;

use crate::{
    error::Error,
    host,
    machine::{Machine, Ready},
    spec::Spec,
    switch::Switch,
};

/// Machines on one switch. They are counted from 1, as people do.
pub struct Cluster {
    /// The machines, in order.
    pub machines: Vec<Machine>,
    /// What they are plugged into.
    pub switch: Switch,
}

impl Cluster {
    /// Starts `count` machines. `describe` says what machine number n is like; its card on the
    /// network, its address and its name are added here.
    pub fn start(
        count: u8,
        seed: u64,
        describe: impl Fn(u8) -> Result<Spec, Error>,
    ) -> Result<Self, Error> {
        let specs = (1..=count).map(&describe).collect::<Result<Vec<_>, _>>()?;
        if let Some(spec) = specs.iter().max_by_key(|spec| spec.memory_mib) {
            host::ensure_memory(u32::from(count), spec.memory_mib)?;
        }
        let switch = Switch::start(seed)?;
        let mut machines = Vec::new();
        for (number, spec) in (1..).zip(specs) {
            let (_, socket) = switch.plug()?;
            let mac = format!("52:54:00:77:00:{number:02x}");
            let network = format!(
                "[Match]\nMACAddress={mac}\n\n[Network]\nAddress={}/24\n\
                 LinkLocalAddressing=ipv6\nIPv6AcceptRA=no\n",
                address(number)
            );
            let spec = spec
                .plugged_into(&mac, socket)
                .credential("network.network.50-cluster", &network)
                .credential("system.hostname", &format!("node{number}"));
            machines.push(spec.start()?);
        }
        Ok(Self { machines, switch })
    }

    /// Machine number n.
    pub fn machine(&self, number: u8) -> &Machine {
        &self.machines[usize::from(number) - 1]
    }

    /// Waits until all have booted; they do it at the same time.
    pub fn wait_ready(&self, said: &(dyn Fn(u8, &str) + Sync)) -> Result<Vec<Ready>, Error> {
        thread::scope(|scope| {
            let waiting: Vec<_> = (1..)
                .zip(&self.machines)
                .map(|(number, machine)| {
                    scope
                        .spawn(move || machine.wait_ready_saying(&mut |_, what| said(number, what)))
                })
                .collect();
            let done = waiting.into_iter().map(|thread| thread.join().expect("no panic"));
            done.collect()
        })
    }

    /// Whether one machine hears another: three pings, one of which has to come back.
    pub fn hears(&self, from: u8, to: u8) -> Result<bool, Error> {
        let machine = self.machine(from);
        let output = machine.ssh(&format!("sudo ping -n -c 3 -i 0.3 -W 3 {}", address(to)))?;
        match output.status {
            0 => Ok(true),
            1 => Ok(false),
            // Not silence, but no ping at all.
            _ => Err(machine.about(output.text().expect_err("it ended badly"))),
        }
    }
}

/// The address of machine number n.
pub fn address(number: u8) -> String {
    format!("10.77.0.{number}")
}
