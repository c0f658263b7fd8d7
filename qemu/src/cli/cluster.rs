//! `qemu cluster`: several machines on one network, whose cables can be cut.

use std::{
    io,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use clap::Args;
use qemu::{
    Report,
    cluster::{Cluster, address},
    interrupt,
    switch::cable::{Cable, Loss},
};

use super::{
    options,
    options::{Options, duration},
};

/// Starts several machines on one network.
#[derive(Args, Clone, Debug)]
pub(crate) struct Command {
    /// How many.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u8).range(1..=16))]
    count: u8,
    /// Wait until all are ready and see each other, ask them how they are, power them off.
    #[arg(long)]
    check: bool,
    /// With --check: print JSON.
    #[arg(long, requires = "check")]
    json: bool,
    /// Keep the disks in build/run/NAME-1, NAME-2, ..., and start from them the next time.
    #[arg(long, value_name = "NAME")]
    keep: Option<String>,
    /// Decides which frames lossy cables lose.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    options: Options,
}

const HELP: &str = "\
  cut 2         nothing gets through to machine 2
  mend 2        its cable is as new
  slow 2 50ms   every frame takes so long, each way
  lossy 2 10%   so many get lost, each way
  rate 2 1M     so many bytes a second, each way
  cables        how they are
  help          this
  quit          switch all off (or Ctrl-C)";

impl Command {
    pub(crate) fn run(&self) -> anyhow::Result<bool> {
        let cluster = Cluster::start(self.count, self.seed, |number| match &self.keep {
            Some(name) => Ok(options::kept(self.options.spec(&format!("{name}-{number}"))?)),
            None => self.options.spec(&format!("cluster-{number}")),
        })?;
        eprintln!("qemu: accelerator: {}", cluster.machine(1).accelerator());
        eprintln!("qemu: what lossy cables lose is decided by the seed {}", self.seed);
        for (number, machine) in (1..).zip(&cluster.machines) {
            eprintln!(
                "qemu: machine {number}, {}: {}",
                address(number),
                machine.ssh_command_line()
            );
        }
        let ready =
            cluster.wait_ready(&|number, what| eprintln!("qemu: machine {number}: {what}"))?;
        if !self.check {
            attend(&cluster);
            return Ok(true);
        }
        let mut good = true;
        let mut reports = Vec::new();
        for (machine, ready) in cluster.machines.iter().zip(ready) {
            let report = Report::ask(machine, &ready, None)?;
            good &= report.good();
            if !self.json {
                println!("\n{}\n{report}", report.machine);
            }
            reports.push(report);
        }
        for from in 1..=self.count {
            for to in (1..=self.count).filter(|to| *to != from) {
                let hears = cluster.hears(from, to)?;
                good &= hears;
                let word = if hears { "ok  " } else { "BAD " };
                eprintln!("  {word}machine {from} reaches machine {to} at {}", address(to));
            }
        }
        if self.json {
            println!("{}", serde_json::to_string_pretty(&reports)?);
        }
        for machine in cluster.machines {
            machine.power_off()?;
        }
        Ok(good)
    }
}

/// Does what is typed, until somebody quits or no machine is left.
fn attend(cluster: &Cluster) {
    eprintln!("qemu: all are ready\n{HELP}");
    let (lines, inbox) = mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
        // Without a terminal there is nothing to read, and still no reason to end.
        loop {
            thread::park();
        }
    });
    while !interrupt::asked() && cluster.machines.iter().any(|m| m.still_runs().is_ok()) {
        let line = match inbox.recv_timeout(Duration::from_millis(200)) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        match order(&line, cluster.machines.len(), |port| cluster.switch.cable(port)) {
            Ok(Order::Nothing) => {}
            Ok(Order::Quit) => return,
            Ok(Order::Help) => eprintln!("{HELP}"),
            Ok(Order::Show) => {
                for number in 1..=cluster.machines.len() {
                    eprintln!("  {number}: {}", cluster.switch.cable(number - 1));
                }
            }
            Ok(Order::Set { machine, cable }) => {
                cluster.switch.set_cable(machine - 1, cable);
                eprintln!("  {machine}: {cable}");
            }
            Err(why) => eprintln!("  {why}; `help` lists what can be typed"),
        }
    }
}

#[derive(Debug, Eq, PartialEq)]
enum Order {
    Nothing,
    Quit,
    Help,
    Show,
    Set { machine: usize, cable: Cable },
}

/// Reads a typed line; `now` is how a cable is so far.
fn order(line: &str, machines: usize, now: impl Fn(usize) -> Cable) -> Result<Order, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let machine = |word: &str| match word.parse::<usize>() {
        Ok(number) if (1..=machines).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(format!("there is no machine {word}, only 1 to {machines}")),
    };
    let set = |word: &str, change: &dyn Fn(Cable) -> Result<Cable, String>| {
        let machine = machine(word)?;
        Ok(Order::Set { machine, cable: change(now(machine - 1))? })
    };
    match words[..] {
        [] => Ok(Order::Nothing),
        ["quit" | "exit"] => Ok(Order::Quit),
        ["help"] => Ok(Order::Help),
        ["cables"] => Ok(Order::Show),
        ["cut", n] => set(n, &|cable| Ok(Cable { cut: true, ..cable })),
        ["mend", n] => set(n, &|_| Ok(Cable::default())),
        ["slow", n, time] => set(n, &|cable| Ok(Cable { delay: duration(time)?, ..cable })),
        ["lossy", n, share] => set(n, &|cable| Ok(Cable { loss: share.parse::<Loss>()?, ..cable })),
        ["rate", n, rate] => {
            set(n, &|cable| Ok(Cable { bytes_per_second: Some(options::size(rate)?), ..cable }))
        }
        _ => Err(format!("`{line}` makes no sense here")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> Result<Order, String> {
        let slow = Cable { delay: Duration::from_millis(7), ..Cable::default() };
        order(line, 3, |port| if port == 1 { slow } else { Cable::default() })
    }

    fn cable(line: &str) -> String {
        match check(line) {
            Ok(Order::Set { machine, cable }) => format!("{machine}: {cable}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn cables_are_changed_by_typed_lines_one_trouble_upon_the_other() {
        assert_eq!(cable("cut 1"), "1: cut");
        assert_eq!(cable(" lossy  2 10% "), "2: slow by 7ms, losing 10%");
        assert_eq!(cable("slow 2 50ms"), "2: slow by 50ms");
        assert_eq!(cable("rate 3 1M"), "3: at most 1048576 bytes/s");
        assert_eq!(cable("mend 2"), "2: whole");
    }

    #[test]
    fn what_makes_no_sense_is_said_and_changes_nothing() {
        for line in ["cut", "cut 4", "cut 0", "cut x", "slow 1 soon", "lossy 1 110%", "dance"] {
            assert!(check(line).is_err(), "{line}");
        }
        assert_eq!(check("  "), Ok(Order::Nothing));
        assert_eq!(check("quit"), Ok(Order::Quit));
    }
}
