//! The machine's console in this terminal.

use std::{
    io::{self, IsTerminal, Read, Write},
    os::fd::AsFd,
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::sys::termios::{self, SetArg, Termios};
use qemu::{Machine, interrupt};

/// Ctrl-A, as in QEMU and screen.
const ESCAPE: u8 = 0x01;

/// What a person at the terminal wants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Wish {
    /// The machine gets these bytes.
    Type(Vec<u8>),
    /// Away from here, and off with the machine.
    Leave,
    /// Press its power button.
    Power,
    /// Press its reset button.
    Reset,
    /// What can be wished.
    Help,
}

/// Splits what is typed into what is for the machine and what is for us.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    escaped: bool,
}

impl Keys {
    pub(crate) fn typed(&mut self, bytes: &[u8]) -> Vec<Wish> {
        let mut wishes: Vec<Wish> = Vec::new();
        for &byte in bytes {
            if !self.escaped && byte == ESCAPE {
                self.escaped = true;
                continue;
            }
            let wish = match (std::mem::take(&mut self.escaped), byte) {
                (true, b'x' | b'X') => Wish::Leave,
                (true, b'p' | b'P') => Wish::Power,
                (true, b'r' | b'R') => Wish::Reset,
                (true, b'a' | b'A' | ESCAPE) => Wish::Type(vec![ESCAPE]),
                (true, _) => Wish::Help,
                (false, byte) => Wish::Type(vec![byte]),
            };
            match (wishes.last_mut(), wish) {
                (Some(Wish::Type(before)), Wish::Type(more)) => before.extend(more),
                (_, wish) => wishes.push(wish),
            }
        }
        wishes
    }
}

/// A terminal that passes every key on, until this is dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Option<Self> {
        let stdin = io::stdin();
        let before = termios::tcgetattr(stdin.as_fd()).ok()?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin().as_fd(), SetArg::TCSADRAIN, &self.0);
    }
}

/// Shows the console until the machine is off or somebody leaves it.
pub(crate) fn attend(machine: &Machine, help: &str) -> anyhow::Result<()> {
    let terminal = io::stdin().is_terminal().then(Raw::enter).flatten();
    let (wishes, inbox) = mpsc::channel();
    if terminal.is_some() {
        thread::spawn(move || {
            let (mut keys, mut buffer) = (Keys::default(), [0; 256]);
            while let Ok(length @ 1..) = io::stdin().read(&mut buffer) {
                for wish in keys.typed(&buffer[..length]) {
                    let _ = wishes.send(wish);
                }
            }
        });
    }
    let mut shown = 0;
    while !interrupt::asked() {
        match machine.console().follow(shown, Duration::from_millis(20)) {
            Some(said) => {
                shown += said.len();
                let mut stdout = io::stdout().lock();
                stdout.write_all(&said)?;
                stdout.flush()?;
            }
            None => break,
        }
        for wish in inbox.try_iter() {
            match wish {
                Wish::Type(bytes) => machine.console().write(&bytes)?,
                Wish::Leave => return Ok(()),
                Wish::Power => machine.press_power()?,
                Wish::Reset => machine.reset()?,
                // Nobody else moves the cursor back in a raw terminal.
                Wish::Help => eprint!("\r\n{}\r\n", help.replace('\n', "\r\n")),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_for_the_machine_but_for_those_after_ctrl_a() {
        let mut keys = Keys::default();
        let text = |text: &str| Wish::Type(text.into());
        assert_eq!(keys.typed(b"ls\r"), [text("ls\r")]);
        assert_eq!(keys.typed(b"a\x01xb"), [text("a"), Wish::Leave, text("b")]);
        assert_eq!(keys.typed(b"\x01"), []);
        assert_eq!(keys.typed(b"p"), [Wish::Power], "the two keys may come apart");
        assert_eq!(keys.typed(b"\x01r\x01?"), [Wish::Reset, Wish::Help]);
        assert_eq!(keys.typed(b"\x01a\x01\x01"), [text("\x01\x01")], "Ctrl-A itself");
        assert_eq!(keys.typed(b"\x03"), [text("\x03")], "Ctrl-C is the machine's");
    }
}
