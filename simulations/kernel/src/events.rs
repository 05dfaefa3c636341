//! What will happen, by virtual time. Events of one instant come in an order drawn from the seed, so
//! that seeds explore interleavings.

use crate::{NOW, Nanos, entropy, nanos, now};
use std::{
    cell::RefCell, cmp::Reverse, collections::BinaryHeap, rc::Rc, task::Waker, time::Duration,
};

/// Events of one instant that happen before tasks run again.
const BATCH: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    Fire { slot: u32, generation: u32 },
    Call { of: usize, a: u64 },
}

/// When, a random number, a serial number: the order of events.
type Event = Reverse<(Nanos, u32, u64, Action)>;

#[derive(Default)]
struct Slot {
    generation: u32,
    fired: bool,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Events {
    heap: BinaryHeap<Event>,
    serial: u64,
    slots: Vec<Slot>,
    free: Vec<u32>,
    handlers: Vec<Rc<dyn Fn(u64)>>,
}

thread_local! {
    static EVENTS: RefCell<Events> = RefCell::default();
}

impl Events {
    fn push(&mut self, at: Nanos, action: Action) {
        let tie = entropy::owned_by(entropy::WORLD, entropy::bits);
        let tie = u32::try_from(tie >> 32).unwrap_or(u32::MAX);
        self.serial += 1;
        self.heap.push(Reverse((at.max(now()), tie, self.serial, action)));
    }

    fn slot(&mut self, slot: u32) -> &mut Slot {
        &mut self.slots[usize::try_from(slot).unwrap_or(usize::MAX)]
    }

    fn arm(&mut self, slot: u32, after: Duration) {
        let generation = self.slot(slot).generation;
        self.push(now().saturating_add(nanos(after)), Action::Fire { slot, generation });
    }
}

/// What [`schedule`] calls: a function that was registered on this thread.
#[derive(Clone, Copy, Debug)]
pub struct Handler(usize);

/// Names a function, so that events of it take little memory.
pub fn register(handler: impl Fn(u64) + 'static) -> Handler {
    EVENTS.with_borrow_mut(|events| {
        events.handlers.push(Rc::new(handler));
        Handler(events.handlers.len() - 1)
    })
}

/// Calls `handler` with `argument` at the time `at`, or at once when that has passed.
pub fn schedule(at: Nanos, handler: Handler, argument: u64) {
    EVENTS.with_borrow_mut(|events| events.push(at, Action::Call { of: handler.0, a: argument }));
}

pub(crate) fn clear() {
    EVENTS.set(Events::default());
}

/// Goes on to the next instant at which something happens, if that is not after `deadline`, and lets
/// it happen. `false`: nothing happens until then.
pub(crate) fn advance(deadline: Nanos) -> bool {
    let Some(at) = EVENTS.with_borrow(|events| events.heap.peek().map(|event| event.0.0)) else {
        return false;
    };
    if at > deadline {
        return false;
    }
    NOW.set(at.max(now()));
    for _ in 0..BATCH {
        let next = EVENTS.with_borrow_mut(|events| {
            let due = events.heap.peek().is_some_and(|event| event.0.0 <= at);
            if due { events.heap.pop().map(|event| event.0.3) } else { None }
        });
        match next {
            None => break,
            Some(Action::Call { of, a }) => {
                let handler = EVENTS.with_borrow(|events| events.handlers[of].clone());
                entropy::owned_by(entropy::WORLD, || handler(a));
            }
            Some(Action::Fire { slot, generation }) => fire(slot, generation),
        }
    }
    true
}

fn fire(slot: u32, generation: u32) {
    let waker = EVENTS.with_borrow_mut(|events| {
        let slot = events.slot(slot);
        if slot.generation != generation {
            return None;
        }
        slot.fired = true;
        slot.waker.take()
    });
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A timer of virtual time: what futures-timer is made of here.
#[derive(Debug)]
pub struct Timer(u32);

impl Timer {
    /// Fires once, `after` from now.
    #[must_use]
    pub fn new(after: Duration) -> Self {
        EVENTS.with_borrow_mut(|events| {
            let slot = events.free.pop().unwrap_or_else(|| {
                events.slots.push(Slot::default());
                u32::try_from(events.slots.len() - 1).unwrap_or(u32::MAX)
            });
            events.slot(slot).fired = false;
            events.arm(slot, after);
            Self(slot)
        })
    }

    /// Fires `after` from now instead.
    pub fn reset(&mut self, after: Duration) {
        EVENTS.with_borrow_mut(|events| {
            let slot = events.slot(self.0);
            slot.generation = slot.generation.wrapping_add(1);
            slot.fired = false;
            events.arm(self.0, after);
        });
    }

    /// Whether it has fired; when not, `waker` is woken when it does.
    pub fn has_fired(&mut self, waker: &Waker) -> bool {
        EVENTS.with_borrow_mut(|events| {
            let slot = events.slot(self.0);
            if !slot.fired && !slot.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
                slot.waker = Some(waker.clone());
            }
            slot.fired
        })
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // What the waker holds may end in timers, so it is dropped when the table is free again.
        let waker = EVENTS.try_with(|events| {
            let mut events = events.borrow_mut();
            let index = usize::try_from(self.0).unwrap_or(usize::MAX);
            let slot = events.slots.get_mut(index)?;
            slot.generation = slot.generation.wrapping_add(1);
            let waker = slot.waker.take();
            events.free.push(self.0);
            waker
        });
        drop(waker);
    }
}
