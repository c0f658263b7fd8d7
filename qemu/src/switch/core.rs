//! The switch itself: frames and the time go in, deliveries come out. No socket, no clock.
//!
//! ```text
//!   machine ──cable──▶ ┌────────┐ ──cable──▶ machine
//!    (port 0)  leg In  │ table  │  leg Out    (port 1)
//!   machine ◀──cable── └────────┘ ◀──cable── machine
//! ```
//! A frame crosses two cables. Each crossing may lose it, holds it for the time that the cable's
//! rate and delay ask for, and drops it when the cable is cut meanwhile. Between the two the switch
//! learns where the sender lives and decides which ports get a copy.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use super::cable::{Cable, Dice};

/// A socket of the switch, counted from 0 in the order of plugging.
pub type Port = usize;

/// What happens to a switch.
#[derive(Clone, Debug)]
pub enum Event {
    /// A machine sent a frame.
    Frame {
        /// Where it came in.
        from: Port,
        /// From the destination address on, without the checksum.
        frame: Vec<u8>,
    },
    /// An operator changed a cable.
    Cable {
        /// Whose.
        port: Port,
        /// What it is like from now on.
        cable: Cable,
    },
    /// The time of an earlier [`Effect::WakeAt`] has come.
    Tick,
}

/// What a switch wants done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Give this frame to the machine on that port.
    Deliver {
        /// Whose machine.
        to: Port,
        /// The frame, as it came.
        frame: Vec<u8>,
    },
    /// Send [`Event::Tick`] at this time: a frame is on its way until then.
    WakeAt(Duration),
}

/// What a real cable with a full buffer would drop is dropped here too: frames waiting on one leg.
const QUEUE: usize = 1024;
/// A machine that said nothing for so long may have moved; what is for it goes everywhere again.
const FORGET: Duration = Duration::from_secs(300);
/// Two addresses and a type: what is shorter is not Ethernet.
const HEADER: usize = 14;

type Mac = [u8; 6];

/// A layer-2 switch that learns.
#[derive(Debug)]
pub struct Switch {
    cables: Vec<Cable>,
    table: BTreeMap<Mac, (Port, Duration)>,
    legs: BTreeMap<Leg, Traffic>,
    flying: BinaryHeap<Reverse<Flight>>,
    sequence: u64,
    dice: Dice,
}

/// One direction of one cable.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Leg {
    In(Port),
    Out(Port),
}

/// What a leg remembers of the frames on it.
#[derive(Debug, Default)]
struct Traffic {
    /// The sender's end is busy until then (the rate).
    busy_until: Duration,
    /// Nothing arrives before this: cables do not reorder.
    last_arrival: Duration,
    waiting: usize,
}

/// A frame on a leg. Ordered by arrival, then by age.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Flight {
    arrives: Duration,
    sequence: u64,
    leg: Leg,
    frame: Vec<u8>,
}

impl Switch {
    /// A switch without cables. The seed decides which frames a lossy cable loses.
    pub fn new(seed: u64) -> Self {
        Self {
            cables: Vec::new(),
            table: BTreeMap::new(),
            legs: BTreeMap::new(),
            flying: BinaryHeap::new(),
            sequence: 0,
            dice: Dice::new(seed),
        }
    }

    /// One more port, with a perfect cable.
    pub fn plug(&mut self) -> Port {
        self.cables.push(Cable::default());
        self.cables.len() - 1
    }

    /// The cable of a port.
    pub fn cable(&self, port: Port) -> Cable {
        self.cables[port]
    }

    /// Takes one event, answers with everything that is due at `now`.
    pub fn step(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        // What is due already arrives before anything new happens, however late we are called.
        let mut effects = self.arrive(now);
        match event {
            Event::Frame { from, frame } => {
                if frame.len() >= HEADER {
                    self.send(Leg::In(from), frame, now);
                }
            }
            Event::Cable { port, cable } => self.replace(port, cable),
            Event::Tick => {}
        }
        effects.extend(self.arrive(now));
        effects.extend(self.flying.peek().map(|Reverse(next)| Effect::WakeAt(next.arrives)));
        effects
    }

    fn replace(&mut self, port: Port, cable: Cable) {
        self.cables[port] = cable;
        if cable.cut {
            // Behind a cut cable lives nobody, and what was on it is gone.
            self.table.retain(|_, (owner, _)| *owner != port);
            self.flying.retain(|Reverse(flight)| flight.leg.port() != port);
            self.legs.retain(|leg, _| leg.port() != port);
        }
    }

    /// Puts a frame on a leg.
    fn send(&mut self, leg: Leg, frame: Vec<u8>, now: Duration) {
        let cable = self.cables[leg.port()];
        if cable.cut || cable.loss.strikes(&mut self.dice) {
            return;
        }
        let traffic = self.legs.entry(leg).or_default();
        if traffic.waiting >= QUEUE {
            return;
        }
        traffic.busy_until = traffic.busy_until.max(now) + cable.time_to_send(frame.len());
        traffic.last_arrival = traffic.last_arrival.max(traffic.busy_until + cable.delay);
        traffic.waiting += 1;
        self.sequence += 1;
        self.flying.push(Reverse(Flight {
            arrives: traffic.last_arrival,
            sequence: self.sequence,
            leg,
            frame,
        }));
    }

    /// Lands everything that is due, which may send more.
    fn arrive(&mut self, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some(Reverse(flight)) = self.flying.pop() {
            if flight.arrives > now {
                self.flying.push(Reverse(flight));
                break;
            }
            if let Some(traffic) = self.legs.get_mut(&flight.leg) {
                traffic.waiting -= 1;
            }
            match flight.leg {
                // It left the switch when it reached it, however late we were asked.
                Leg::In(from) => self.forward(from, &flight.frame, flight.arrives),
                Leg::Out(to) => effects.push(Effect::Deliver { to, frame: flight.frame }),
            }
        }
        effects
    }

    fn forward(&mut self, from: Port, frame: &[u8], now: Duration) {
        let (destination, source) = (address(frame, 0), address(frame, 6));
        if is_group(source) {
            return; // No machine has such an address: a broken or a hostile frame.
        }
        self.table.insert(source, (from, now));
        let known = match self.table.get(&destination) {
            Some(&(port, seen)) if now.saturating_sub(seen) < FORGET => Some(port),
            Some(_) | None => None,
        };
        let ports: Vec<Port> = match known {
            Some(port) => vec![port],
            None => (0..self.cables.len()).collect(),
        };
        for port in ports {
            if port != from {
                self.send(Leg::Out(port), frame.to_vec(), now);
            }
        }
    }
}

impl Leg {
    fn port(self) -> Port {
        match self {
            Self::In(port) | Self::Out(port) => port,
        }
    }
}

fn address(frame: &[u8], at: usize) -> Mac {
    frame[at..at + 6].try_into().expect("six bytes")
}

/// Broadcast and multicast.
fn is_group(mac: Mac) -> bool {
    mac[0] & 1 == 1
}

#[cfg(test)]
mod tests;
