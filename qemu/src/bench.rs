//! Measures a boot without noise: instructions that the guest executed, from power-on to each
//! milestone that its console shows, beside the wall clock.
//!
//! Under `-icount` QEMU counts every instruction, and answers `query-replay` with the number. A
//! milestone is a text on the serial console; the count is asked for when the text is seen, which
//! is some milliseconds late: a few million instructions of some thousand million.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{Error, Machine, Spec};

/// How long one milestone may take: counting makes QEMU several times slower.
const PATIENCE: Duration = Duration::from_secs(900);

/// A point of the boot, and the text that shows that it is reached.
#[derive(Clone, Copy, Debug)]
pub struct Milestone {
    /// What the table calls it.
    pub name: &'static str,
    /// What the console says then.
    pub text: &'static str,
}

/// When a milestone was reached, counted from power-on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// What the table calls it.
    pub name: &'static str,
    /// Instructions that the guest executed until then.
    pub instructions: u64,
    /// Time that passed on this machine.
    pub wall: Duration,
}

/// The milestones of an image whose initramfs says nothing, as ours.
pub const OURS: &[Milestone] = &[
    Milestone { name: "loader", text: "BdsDxe: starting" },
    Milestone { name: "kernel", text: "EFI stub: " },
    Milestone { name: "systemd", text: "Welcome to " },
    Milestone { name: "login", text: " login: " },
];

/// The milestones of an image with systemd in its initramfs too.
pub const STOCK: &[Milestone] = &[
    Milestone { name: "loader", text: "BdsDxe: starting" },
    Milestone { name: "kernel", text: "EFI stub: " },
    Milestone { name: "initramfs", text: "Booting initrd of " },
    Milestone { name: "systemd", text: "Welcome to " },
    Milestone { name: "login", text: " login: " },
];

/// Starts `spec` with instructions counted, and waits for each milestone in turn.
pub fn boot(spec: Spec, milestones: &[Milestone]) -> Result<(Machine, Vec<Reached>), Error> {
    let machine = spec.icount(0).start()?;
    let start = Instant::now();
    let mut from = 0;
    let mut reached = vec![];
    for milestone in milestones {
        let end = Instant::now() + PATIENCE;
        from = loop {
            let transcript = machine.console().transcript();
            if let Some(at) = find(&transcript, from, milestone.text) {
                break at;
            }
            machine.still_runs()?;
            if Instant::now() > end {
                // Fails, and says so with the tail of the console.
                machine.wait_for(milestone.text, Duration::ZERO)?;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let answer = machine.qmp("query-replay", json!({}))?;
        let instructions = answer["icount"].as_u64().unwrap_or_default();
        reached.push(Reached { name: milestone.name, instructions, wall: start.elapsed() });
    }
    Ok((machine, reached))
}

/// Where `text` ends in `transcript`, looked for behind `from`.
fn find(transcript: &str, from: usize, text: &str) -> Option<usize> {
    let at = transcript.get(from..)?.find(text)?;
    Some(from + at + text.len())
}

/// Instructions between two milestones.
pub fn between(reached: &[Reached], from: &str, to: &str) -> Option<u64> {
    let at = |name: &str| reached.iter().find(|r| r.name == name).map(|r| r.instructions);
    at(to)?.checked_sub(at(from)?)
}

/// A table of both, as Markdown, and what one is of the other.
pub fn table(ours: &[Reached], stock: &[Reached]) -> String {
    let mut text = String::from(
        "| from power-on to | PithOS | | stock | |\n| --- | --- | --- | --- | --- |\n",
    );
    let cell = |all: &[Reached], name: &str| match all.iter().find(|r| r.name == name) {
        Some(r) => format!("{} | {:.1} s", giga(r.instructions), r.wall.as_secs_f64()),
        None => "- | -".to_owned(),
    };
    for milestone in STOCK {
        let (ours, stock) = (cell(ours, milestone.name), cell(stock, milestone.name));
        let _ = writeln!(text, "| {} | {ours} | {stock} |", milestone.name);
    }
    for to in ["systemd", "login"] {
        let spans = (between(ours, "kernel", to), between(stock, "kernel", to));
        if let (Some(ours), Some(stock)) = spans {
            let share = 100.0 * ours as f64 / stock as f64;
            let (ours, stock) = (giga(ours), giga(stock));
            let _ =
                writeln!(text, "| kernel to {to} | **{ours}** | {share:.0} % | **{stock}** | |");
        }
    }
    text
}

/// Thousands of millions.
fn giga(instructions: u64) -> String {
    format!("{:.2} G", instructions as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn reached(all: &[(&'static str, u64)]) -> Vec<Reached> {
        let one = |&(name, giga): &(&'static str, u64)| Reached {
            name,
            instructions: giga * 1_000_000_000,
            wall: Duration::from_secs(giga),
        };
        all.iter().map(one).collect()
    }

    #[test]
    fn the_table_says_what_share_of_the_stock_image_we_take() {
        let ours = reached(&[("loader", 1), ("kernel", 2), ("systemd", 4), ("login", 8)]);
        let stock = reached(&[("loader", 1), ("kernel", 3), ("systemd", 13), ("login", 23)]);
        expect![[r"
            | from power-on to | PithOS | | stock | |
            | --- | --- | --- | --- | --- |
            | loader | 1.00 G | 1.0 s | 1.00 G | 1.0 s |
            | kernel | 2.00 G | 2.0 s | 3.00 G | 3.0 s |
            | initramfs | - | - | - | - |
            | systemd | 4.00 G | 4.0 s | 13.00 G | 13.0 s |
            | login | 8.00 G | 8.0 s | 23.00 G | 23.0 s |
            | kernel to systemd | **2.00 G** | 20 % | **10.00 G** | |
            | kernel to login | **6.00 G** | 30 % | **20.00 G** | |
        "]]
        .assert_eq(&table(&ours, &stock));
    }

    #[test]
    fn a_text_is_looked_for_behind_the_last_one() {
        assert_eq!(find("Welcome to a. Welcome to b", 0, "Welcome to "), Some(11));
        assert_eq!(find("Welcome to a. Welcome to b", 11, "Welcome to "), Some(25));
        assert_eq!(find("Welcome to a.", 11, "Welcome to "), None);
        assert_eq!(find("", 3, "x"), None);
    }
}
