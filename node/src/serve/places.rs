//! Which connections are kept when there are too many: a bounded number, a bounded share of it for
//! one client address, and of these first those that don't wait for their client.

use crate::{origin::origin, services::lock};
use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The connections that there are.
#[derive(Debug)]
pub(super) struct Places {
    /// Connections at a time.
    most: usize,
    /// Connections of one client at a time.
    share: usize,
    /// How long what is sent to a client may lie unread before its connection counts as waiting.
    grace: Duration,
    taken: Mutex<Vec<Arc<Seat>>>,
}

#[derive(Debug)]
struct Seat {
    client: IpAddr,
    waits: Mutex<Waits>,
    given_up: CancellationToken,
}

/// Since when a connection waits for its client.
#[derive(Debug)]
struct Waits {
    /// To send a request.
    request: Option<Instant>,
    /// To read what is sent to it.
    reader: Option<Instant>,
    /// A request's answer is not complete.
    answering: bool,
}

/// One connection's place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    seat: Arc<Seat>,
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Busy(Arc<Seat>);

impl Drop for Busy {
    fn drop(&mut self) {
        lock(&self.0.waits).answering = false;
    }
}

impl Places {
    pub(super) fn new(most: usize, share: usize, grace: Duration) -> Self {
        Self { most, share, grace, taken: Mutex::default() }
    }

    /// A place for a connection from `address`.
    ///
    /// When all are taken, or the client has its share, the connection that has waited for its
    /// client longest gives its place up, of that client's if it has its share. When none of them
    /// waits, there is no place. So silent connections, however many, never keep others out; a
    /// client's requests keep out its own at most.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let client = origin(address);
        let mut taken = lock(&self.taken);
        let own = taken.iter().filter(|seat| seat.client == client).count();
        if own >= self.share || taken.len() >= self.most {
            let fits = |seat: &&Arc<Seat>| own < self.share || seat.client == client;
            let since = |seat: &Seat| seat.waits_since(self.grace);
            let waiting = taken.iter().filter(fits).filter_map(|seat| Some((since(seat)?, seat)));
            let longest = waiting.min_by_key(|(since, _)| *since).map(|(_, seat)| seat.clone())?;
            taken.retain(|seat| !Arc::ptr_eq(seat, &longest));
            longest.given_up.cancel();
        }
        let waits = Waits { request: Some(Instant::now()), reader: None, answering: false };
        let seat =
            Arc::new(Seat { client, waits: waits.into(), given_up: CancellationToken::new() });
        taken.push(seat.clone());
        drop(taken);
        Some(Place { places: self.clone(), seat })
    }
}

impl Seat {
    fn waits_since(&self, grace: Duration) -> Option<Instant> {
        let waits = lock(&self.waits);
        let reader = waits.reader.filter(|since| since.elapsed() >= grace);
        [waits.request, reader].into_iter().flatten().min()
    }
}

impl Place {
    /// A request has come; what it gives lives until the answer is complete. The connection is busy
    /// until that is [`Place::written`].
    pub(super) fn busy(&self) -> Busy {
        let mut waits = lock(&self.seat.waits);
        (waits.request, waits.answering) = (None, true);
        drop(waits);
        Busy(self.seat.clone())
    }

    /// All that there was to send has been handed to the operating system.
    pub(super) fn written(&self) {
        let mut waits = lock(&self.seat.waits);
        if !waits.answering {
            waits.request.get_or_insert_with(Instant::now);
        }
    }

    /// Whether the client leaves unread what is sent to it.
    pub(super) fn unread(&self, unread: bool) {
        lock(&self.seat.waits).reader = unread.then(Instant::now);
    }

    /// Cancelled when another connection needs the place more.
    pub(super) fn given_up(&self) -> CancellationToken {
        self.seat.given_up.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.places.taken).retain(|seat| !Arc::ptr_eq(seat, &self.seat));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_over(place: &Place) -> bool {
        place.given_up().is_cancelled()
    }

    #[test]
    fn who_waits_longest_for_its_client_gives_up_its_place() {
        let places = Arc::new(Places::new(4, 4, Duration::ZERO));
        let take = |text: &str| places.take(address(text));
        let of = |text: &str| take(text).unwrap();
        let (first, second, third) = (of("10.0.0.1"), of("10.0.0.2"), of("10.0.0.3"));
        let answering = first.busy();
        let fourth = of("10.0.0.4");
        let fifth = of("10.0.0.5");
        assert!(is_over(&second) && ![&first, &third, &fourth, &fifth].into_iter().any(is_over));

        let busy: Vec<Busy> = [&third, &fourth, &fifth].map(Place::busy).into();
        drop(answering);
        assert!(take("10.0.0.6").is_none(), "its answer is not written");
        drop(busy);
        [&third, &fourth, &fifth].into_iter().for_each(|place| place.written());
        // Answered, it waits again, and for less long than the others.
        first.written();
        let busy: Vec<Busy> = [&third, &fourth].map(Place::busy).into();
        let sixth = of("10.0.0.6");
        assert!(is_over(&fifth) && !is_over(&first));
        // An answer that is not read is no reason to stay.
        let unread = first.busy();
        let also = sixth.busy();
        assert!(take("10.0.0.7").is_none(), "all are answered");
        fourth.unread(true);
        fourth.unread(false);
        assert!(take("10.0.0.7").is_none(), "it was read after all");
        first.unread(true);
        let _seventh = of("10.0.0.7");
        assert!(is_over(&first) && ![&third, &fourth, &sixth].into_iter().any(is_over));
        drop((busy, unread, also));
    }

    #[test]
    fn a_pause_in_reading_costs_no_place() {
        let both = |grace: Duration| {
            let places = Arc::new(Places::new(1, 1, grace));
            let reader = places.take(address("10.0.0.1")).unwrap();
            let _busy = reader.busy();
            reader.unread(true);
            (places.take(address("10.0.0.2")).is_some(), is_over(&reader))
        };
        assert_eq!(both(Duration::from_secs(3600)), (false, false));
        assert_eq!(both(Duration::ZERO), (true, true));
    }

    #[test]
    fn a_client_keeps_out_none_but_itself() {
        let places = Arc::new(Places::new(10, 2, Duration::ZERO));
        let take = |text: &str| places.take(address(text));
        let other = take("10.0.0.2").unwrap();
        let mine = [take("10.0.0.1").unwrap(), take("::ffff:10.0.0.1").unwrap()];
        let third = take("10.0.0.1").unwrap();
        assert!(is_over(&mine[0]) && !is_over(&mine[1]) && !is_over(&other));
        let _busy = (mine[1].busy(), third.busy());
        assert!(take("10.0.0.1").is_none());
        let _theirs = take("10.0.0.2").expect("another's share");
        // One that was closed makes room; one that gave up its place had left it before.
        drop(mine);
        assert!(take("10.0.0.1").is_some());

        let six = [take("2001:db8::1").unwrap(), take("2001:db8::2").unwrap()];
        let _busy = [six[0].busy(), six[1].busy()];
        assert!(take("2001:db8::ffff:0:0:3").is_none(), "one network is one client");
        assert!(take("2001:db8:0:1::1").is_some());
    }
}
