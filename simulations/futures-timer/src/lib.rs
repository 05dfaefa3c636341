//! The one type of futures-timer 3, in virtual time. libp2p calls it.

use archipelag_simulation_kernel::Timer;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// Completes after a while.
#[derive(Debug)]
pub struct Delay(Timer);

impl Delay {
    #[must_use]
    pub fn new(after: Duration) -> Self {
        Self(Timer::new(after))
    }

    pub fn reset(&mut self, after: Duration) {
        self.0.reset(after);
    }
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0.has_fired(context.waker()) { Poll::Ready(()) } else { Poll::Pending }
    }
}
