//! What dishonest nodes do, around the node's own code: they keep silent where they should speak, or
//! speak too much. The lies of Islands about jobs are in `world/runtime.rs`.

use crate::world::World;
use archipelag_node::environment::MeshTransport;
use archipelag_protocol::catalog::Entry;
use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    PeerId, Transport as _,
    core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox},
    identity::Keypair,
};
use sha2::{Digest as _, Sha256};
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

/// What a muzzled node keeps to itself: gossip and answers to lookups.
const MUZZLED: [&[u8]; 2] = [b"/meshsub/", b"/kad/"];
/// A protocol is agreed on within so many bytes of a stream.
const AGREED_BYTES: usize = 512;
/// Between two adverts of a storm.
const STORM_EVERY: Duration = Duration::from_millis(20);
/// Keys that a Sybil tries for one near its target.
const TRIES: u32 = 64;

/// Lets a node connect and agree on protocols, and swallows what it says in some of them while
/// `active`.
pub(crate) fn muzzled(transport: MeshTransport, active: Arc<AtomicBool>) -> MeshTransport {
    let muzzle = move |(peer, inner): (PeerId, StreamMuxerBox), _| {
        let active = active.clone();
        (peer, StreamMuxerBox::new(Muzzle { inner, active }))
    };
    transport.map(muzzle).boxed()
}

/// A connection of a muzzled node.
#[derive(Debug)]
struct Muzzle {
    inner: StreamMuxerBox,
    active: Arc<AtomicBool>,
}

impl Muzzle {
    fn muted(&self, inner: SubstreamBox) -> Muted {
        Muted { inner, active: self.active.clone(), said: Vec::new(), mute: false }
    }
}

impl StreamMuxer for Muzzle {
    type Substream = Muted;
    type Error = io::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Muted>> {
        Pin::new(&mut self.inner).poll_inbound(context).map_ok(|stream| self.muted(stream))
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Muted>> {
        Pin::new(&mut self.inner).poll_outbound(context).map_ok(|stream| self.muted(stream))
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(context)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.inner).poll(context)
    }
}

/// A stream of a muzzled node.
#[derive(Debug)]
struct Muted {
    inner: SubstreamBox,
    active: Arc<AtomicBool>,
    /// The first bytes that it wrote: the protocol is among them.
    said: Vec<u8>,
    mute: bool,
}

impl AsyncRead for Muted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_read(context, out)
    }
}

impl AsyncWrite for Muted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.mute && self.active.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = written
            && self.said.len() < AGREED_BYTES
        {
            self.said.extend_from_slice(&bytes[..count]);
            let names = |protocol: &&[u8]| {
                self.said.windows(protocol.len()).any(|window| window == *protocol)
            };
            self.mute = MUZZLED.iter().any(names);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(context)
    }
}

/// Changes an Island's advert many times a second, for as long as it runs.
pub(crate) async fn storm(world: World, index: usize) {
    let mut number = 0;
    loop {
        tokio::time::sleep(STORM_EVERY).await;
        let Some(node) = world.node(index) else { return };
        let own = node.mesh.node();
        let islands = node.mesh.islands();
        let Some(seen) = islands.into_iter().find(|seen| seen.advert.value.node == own) else {
            continue;
        };
        let mut advert = seen.advert.value.clone();
        number += 1;
        advert.asking_percent = 100 + number % 100;
        node.mesh.advertise(advert);
    }
}

/// A key whose place in the distributed table is near the entry that lookups ask for.
///
/// # Errors
/// When the entry's Cargo can't be made.
pub(crate) fn near_the_entry(draw: impl Fn(u32) -> [u8; 32]) -> anyhow::Result<Keypair> {
    let all = crate::world::cargos()?;
    let work = all.iter().find(|cargo| cargo.manifest.slug == crate::scenario::WORK);
    let work = anyhow::Context::context(work, "there is no modelled work")?;
    let target: [u8; 32] = Sha256::digest(Entry::key_of_cargo(work.manifest.id()?)).into();
    let mut best: Option<([u8; 32], Keypair)> = None;
    for number in 0..TRIES {
        let key = Keypair::ed25519_from_bytes(draw(number))?;
        let place: [u8; 32] = Sha256::digest(key.public().to_peer_id().to_bytes()).into();
        let distance: [u8; 32] = std::array::from_fn(|at| place[at] ^ target[at]);
        if best.as_ref().is_none_or(|(nearest, _)| distance < *nearest) {
            best = Some((distance, key));
        }
    }
    best.map(|(_, key)| key).ok_or_else(|| anyhow::anyhow!("no key was tried"))
}
