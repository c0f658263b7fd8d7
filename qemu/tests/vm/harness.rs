//! What every test needs: a seat on the host, a machine, and laws that are told apart.

use std::{
    sync::{Condvar, Mutex},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use qemu::{Artifacts, Machine, Spec, manifest::Manifest};

/// A law: what must hold on a machine.
pub(crate) type Law<'a> = (&'static str, &'a dyn Fn(&Machine) -> Result<()>);

/// Checks all of them on one machine, and names every one that does not hold.
pub(crate) fn laws(machine: &Machine, laws: &[Law<'_>]) -> Result<()> {
    let mut broken = Vec::new();
    for (name, law) in laws {
        let start = Instant::now();
        match law(machine) {
            Ok(()) => println!("{name} ... ok ({:.1} s)", start.elapsed().as_secs_f64()),
            Err(error) => {
                println!("{name} ... FAILED: {error:?}");
                broken.push(*name);
            }
        }
    }
    if broken.is_empty() {
        return Ok(());
    }
    bail!("on machine {}, not so: {}", machine.name(), broken.join(", "))
}

/// Names each law after its function.
macro_rules! laws_of {
    ($($law:path),+ $(,)?) => { &[$((stringify!($law), &$law as &dyn Fn(&qemu::Machine) -> anyhow::Result<()>)),+] };
}
pub(crate) use laws_of;

/// The manifest of the image under test.
pub(crate) fn manifest() -> Result<Manifest> {
    let image = Artifacts::find()?.image()?;
    image.manifest.context("the image has no manifest")
}

/// A machine of the newest image, with nothing special, offline as all tests are.
pub(crate) fn machine(name: &str) -> Result<Spec> {
    Ok(Spec::named(&format!("test-{name}"))?.offline())
}

/// Machines that run at the same time: as many as there are processors, for each keeps one busy.
static SEATS: Mutex<Option<usize>> = Mutex::new(None);
static FREED: Condvar = Condvar::new();

fn all_seats() -> usize {
    thread::available_parallelism().map_or(1, usize::from).clamp(1, 8)
}

/// The right to run some machines, until it is dropped.
pub(crate) struct Seats(usize);

/// Waits for seats; who wants more than there are gets all.
pub(crate) fn seats(wanted: usize) -> Seats {
    let wanted = wanted.min(all_seats());
    let mut free = SEATS.lock().expect("no panic under the lock");
    while *free.get_or_insert_with(all_seats) < wanted {
        free = FREED.wait(free).expect("no panic under the lock");
    }
    *free = free.map(|free| free - wanted);
    Seats(wanted)
}

impl Drop for Seats {
    fn drop(&mut self) {
        let mut free = SEATS.lock().expect("no panic under the lock");
        *free = free.map(|free| free + self.0);
        FREED.notify_all();
    }
}
