//! Baseline: the same bytes echoed over a bare libp2p stream, one stream each, over TCP, Noise and
//! Yamux on loopback.

use super::{Figure, at_once, in_sequence, nodes};
use crate::{
    environment::{Tasks, TokioExecutor, network_transport},
    frames,
    mesh::{Mesh, Protocol},
};
use archipelag_protocol::{
    amount::Credits,
    genesis::{Genesis, Validator},
    id::{AccountId, NodeId},
    policy::Policy,
    time::Timestamp,
};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::{Multiaddr, identity::Keypair};
use std::{sync::Arc, time::Duration};

fn start(seed: u8, join: Vec<Multiaddr>, tasks: &Tasks) -> anyhow::Result<Mesh> {
    let key = Keypair::ed25519_from_bytes([seed; 32])?;
    let genesis = Genesis {
        name: "echo".into(),
        created: Timestamp(1),
        policy: Policy::default(),
        accounts: vec![],
        treasury: Credits::ZERO,
        validators: vec![Validator { account: AccountId([1; 32]), node: NodeId([1; 32]) }],
        publishers: vec![],
    };
    let config = nodes::mesh_config(join)?;
    Mesh::start(config, &key, Arc::new(genesis), network_transport(&key)?, tasks)
}

/// Echoes `request` bytes there and `response` bytes back.
pub(super) async fn measure(
    request: usize,
    response: usize,
    time: Duration,
) -> anyhow::Result<Figure> {
    let tasks = Tasks::new(Arc::new(TokioExecutor(tokio::runtime::Handle::current())));
    let server = start(51, Vec::new(), &tasks)?;
    let client = start(52, vec![nodes::listening(&server).await?], &tasks)?;
    let mut streams = server.accept(Protocol::Job);
    let (all, stop) = (tasks.clone(), tasks.stopping());
    tasks.spawn(async move {
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => return,
                next = streams.recv() => next,
            };
            let Some((_, mut stream)) = next else { return };
            all.spawn(async move {
                if frames::read(&mut stream).await.is_ok() {
                    // A client that has gone ends the measurement with an error of its own.
                    let _ = frames::write(&mut stream, &vec![7; response]).await;
                    let _ = stream.close().await;
                }
            });
        }
    });
    let node = server.node();
    while client.peers().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let once = move || {
        let client = client.clone();
        async move {
            let mut stream = client.open_stream(node, Protocol::Job).await?;
            frames::write(&mut stream, &vec![7; request]).await?;
            stream.flush().await?;
            frames::read(&mut stream).await?;
            let mut rest = [0; 1];
            // The other side closes; waiting for it keeps the number of open streams bounded.
            anyhow::ensure!(stream.read(&mut rest).await? == 0, "more bytes than asked for");
            Ok(())
        }
    };
    let mut latencies = in_sequence(time, async || once().await).await?;
    let per_second = at_once(super::jobs::AT_ONCE, time, once).await?;
    tasks.stop().await;
    Ok(Figure { p50_us: latencies.micros(50), per_second })
}
