//! The simulated network, without nodes: how long bytes take, and who is cut off from whom.

use archipelag_simulation_kernel as kernel;
use archipelag_simulations::{
    executor::Executor,
    network::{
        Connected, Cut, Fidelity, HostSet, Latency, Nat, Network, Profile, Settings,
        SimulatedTransport, Stream, address_of,
    },
    trace::Trace,
};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, future::poll_fn};
use libp2p::{
    PeerId, Transport as _,
    core::{
        Endpoint,
        transport::{DialOpts, ListenerId, PortUse, TransportEvent},
    },
};
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const MS: u64 = 1_000_000;
const MBIT: u64 = 1_000_000;
/// One way, and there is neither spread nor jitter.
const LATENCY_MS: u64 = 50;

fn settings() -> Settings {
    Settings {
        fidelity: Fidelity::Full,
        latency: Latency::new(vec![vec![LATENCY_MS * MS]], 0),
        jitter_percent: 0,
        loss_ppm: 0,
        give_up: 60_000 * MS,
        slow_start: false,
    }
}

fn profile(nat: Nat) -> Profile {
    Profile {
        peer: PeerId::random(),
        region: 0,
        up_bits_per_s: 100 * MBIT,
        down_bits_per_s: 100 * MBIT,
        nat,
    }
}

fn simulate<T: Send + 'static>(
    settings: Settings,
    hosts: Vec<Profile>,
    main: impl AsyncFnOnce(Network) -> T + Send + 'static,
) -> T {
    std::thread::spawn(move || {
        kernel::start(1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let executor = Executor::default();
        let network = Network::new(settings, Arc::new(Mutex::new(Trace::default())));
        for host in hosts {
            network.add(host);
        }
        let value = runtime.block_on(executor.run(main(network)));
        drop((executor, runtime));
        kernel::stop();
        value
    })
    .join()
    .unwrap()
}

fn three() -> Vec<Profile> {
    (0..3).map(|_| profile(Nat::None)).collect()
}

fn stream(connected: Connected) -> Stream {
    match connected {
        Connected::Stream(stream) => stream,
        Connected::Muxer(_) => panic!("this network simulates byte streams"),
    }
}

/// A host that listens, and the next connection to it.
async fn accept(transport: &mut SimulatedTransport) -> Stream {
    loop {
        if let TransportEvent::Incoming { upgrade, .. } =
            poll_fn(|context| Pin::new(&mut *transport).poll(context)).await
        {
            return stream(upgrade.await.unwrap());
        }
    }
}

fn listening(network: &Network, host: usize) -> SimulatedTransport {
    let mut transport = network.transport(host);
    transport.listen_on(ListenerId::next(), address_of(host)).unwrap();
    transport
}

async fn dial(network: &Network, from: usize, to: usize) -> io::Result<Stream> {
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse };
    let dialling = network.transport(from).dial(address_of(to), options);
    dialling.unwrap().await.map(stream)
}

/// Both ends of a connection.
async fn pair(network: &Network, from: usize, to: usize) -> (Stream, Stream) {
    let mut listener = listening(network, to);
    let (dialled, accepted) = futures::join!(dial(network, from, to), accept(&mut listener));
    (dialled.unwrap(), accepted)
}

/// Writes `count` bytes and gives how long it took until all were read.
async fn pass(from: &mut Stream, to: &mut Stream, count: usize) -> Duration {
    let began = Instant::now();
    let write = async { from.write_all(&vec![7; count]).await.unwrap() };
    let read = async {
        let mut bytes = vec![0; count];
        to.read_exact(&mut bytes).await.unwrap();
        assert!(bytes.iter().all(|byte| *byte == 7));
    };
    futures::join!(write, read);
    began.elapsed()
}

fn about(found: Duration, expected_ms: u64) {
    let (found, expected) = (found.as_secs_f64() * 1000.0, expected_ms as f64);
    assert!((found - expected).abs() < expected * 0.1, "{found} ms, not about {expected}");
}

#[test]
fn a_connection_takes_a_round_trip_and_a_byte_half_of_one() {
    simulate(settings(), three(), async |network| {
        let began = Instant::now();
        let (mut a, mut b) = pair(&network, 0, 1).await;
        about(began.elapsed(), 2 * LATENCY_MS);
        about(pass(&mut a, &mut b, 1).await, LATENCY_MS);
        about(pass(&mut b, &mut a, 1).await, LATENCY_MS);
    });
}

/// The window is a quarter of a mebibyte for each half round trip there and back: 2.6 MB/s.
#[test]
fn much_takes_as_long_as_window_and_line_allow() {
    let bytes = 2 << 20;
    let slow = vec![Profile { up_bits_per_s: 8 * MBIT, ..profile(Nat::None) }, profile(Nat::None)];
    let took = simulate(settings(), slow, async move |network| {
        let (mut a, mut b) = pair(&network, 0, 1).await;
        pass(&mut a, &mut b, bytes).await
    });
    // 2 MiB at a megabyte per second, headers included.
    about(took, 2_180 + LATENCY_MS);
}

#[test]
fn what_comes_to_one_line_queues_there() {
    let narrow = Profile { down_bits_per_s: 8 * MBIT, ..profile(Nat::None) };
    let hosts = vec![narrow, profile(Nat::None), profile(Nat::None)];
    simulate(settings(), hosts, async |network| {
        let (mut a, mut b) = pair(&network, 1, 0).await;
        let alone = pass(&mut a, &mut b, 200_000).await;
        let (mut c, mut d) = pair(&network, 2, 0).await;
        let (one, other) =
            futures::join!(pass(&mut a, &mut b, 200_000), pass(&mut c, &mut d, 200_000));
        about(alone, 208 + LATENCY_MS);
        about(one.max(other), 416 + LATENCY_MS);
    });
}

#[test]
fn slow_start_costs_round_trips() {
    let long = |slow_start| {
        simulate(Settings { slow_start, ..settings() }, three(), async |network| {
            let (mut a, mut b) = pair(&network, 0, 1).await;
            pass(&mut a, &mut b, 200_000).await
        })
    };
    let (without, with) = (long(false), long(true));
    // 14 480, 28 960, 57 920, 115 840 bytes: the fourth window ends it.
    about(with - without, 3 * 2 * LATENCY_MS);
}

#[test]
fn lost_segments_come_later_and_in_order() {
    let long = |loss_ppm| {
        simulate(Settings { loss_ppm, ..settings() }, three(), async |network| {
            let (mut a, mut b) = pair(&network, 0, 1).await;
            for _ in 0..50 {
                pass(&mut a, &mut b, 1000).await;
            }
            network.traffic(0).resent_chunks
        })
    };
    assert_eq!(long(0), 0);
    let resent = long(100_000);
    assert!((2..=12).contains(&resent), "{resent} of 50 were sent again at a loss of 10 %");
}

fn cut(from: usize, to: usize, both_ways: bool) -> Cut {
    Cut { from: HostSet::new([from]), to: HostSet::new([to]), both_ways }
}

#[test]
fn a_cut_holds_bytes_back_until_it_is_mended() {
    simulate(settings(), three(), async |network| {
        let (mut a, mut b) = pair(&network, 0, 1).await;
        network.cut(1, cut(0, 1, false));
        // The other direction is open.
        about(pass(&mut b, &mut a, 1).await, LATENCY_MS);
        let mending = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            network.mend(1);
        };
        let (took, ()) = futures::join!(pass(&mut a, &mut b, 1), mending);
        // TCP tries again at 0.2, 0.6, 1.4, 3, 6.2 s.
        about(took, 6_200 + LATENCY_MS);
    });
}

#[test]
fn a_cut_that_lasts_resets_the_side_that_sends() {
    simulate(settings(), three(), async |network| {
        let (mut a, mut b) = pair(&network, 0, 1).await;
        network.cut(1, cut(0, 1, true));
        let began = Instant::now();
        a.write_all(b"x").await.unwrap();
        let told = a.read(&mut [0]).await.unwrap_err();
        assert_eq!(told.kind(), io::ErrorKind::ConnectionReset);
        assert!(began.elapsed() > Duration::from_secs(60), "{:?}", began.elapsed());
        assert!(
            dial(&network, 2, 1).await.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
        );
        let mut byte = [0];
        let silent = tokio::time::timeout(Duration::from_secs(600), b.read(&mut byte));
        assert!(silent.await.is_err(), "who sends nothing is told nothing");
    });
}

#[test]
fn a_host_that_was_off_knows_no_connection_of_before() {
    simulate(settings(), three(), async |network| {
        let (mut a, b) = pair(&network, 0, 1).await;
        network.set_silent(1, true);
        drop(b);
        let mut byte = [0];
        let nothing = tokio::time::timeout(Duration::from_secs(30), a.read(&mut byte));
        assert!(nothing.await.is_err(), "nobody tells of a host without power");
        assert!(dial(&network, 2, 1).await.is_err_and(|e| e.kind() == io::ErrorKind::TimedOut));
        network.set_silent(1, false);
        let began = Instant::now();
        a.write_all(b"x").await.unwrap();
        let told = a.read(&mut [0]).await.unwrap_err();
        assert_eq!(told.kind(), io::ErrorKind::ConnectionReset);
        about(began.elapsed(), 2 * LATENCY_MS);
    });
}

#[test]
fn an_end_arrives_after_what_was_written() {
    simulate(settings(), three(), async |network| {
        let (mut a, mut b) = pair(&network, 0, 1).await;
        a.write_all(b"bye").await.unwrap();
        a.close().await.unwrap();
        let mut text = String::new();
        b.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "bye");
        drop((a, b));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(network.connections(), 0, "nothing is kept of it");
    });
}

#[test]
fn a_nat_lets_in_whom_its_kind_says() {
    let reached = |nat: Nat, dials: &'static [usize]| {
        let hosts = vec![profile(nat), profile(Nat::None), profile(Nat::None)];
        simulate(settings(), hosts, async move |network| {
            let _listener = listening(&network, 0);
            for host in dials {
                let _ = dial(&network, 0, *host).await;
            }
            dial(&network, 1, 0).await.is_ok()
        })
    };
    assert!(reached(Nat::None, &[]));
    assert!(!reached(Nat::FullCone, &[]));
    assert!(reached(Nat::FullCone, &[2]));
    assert!(!reached(Nat::Restricted, &[2]));
    assert!(reached(Nat::Restricted, &[1]));
    assert!(!reached(Nat::Symmetric, &[1]));
}
