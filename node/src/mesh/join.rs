//! Fetching a network's genesis from a node of it, before there is a mesh to ask.

use super::{
    behaviour::{self, REQUEST_TIMEOUT},
    identity,
};
use crate::environment::{MeshTransport, Tasks};
use anyhow::{Context as _, bail};
use archipelag_protocol::genesis::Genesis;
use futures::StreamExt;
use libp2p::{Multiaddr, Swarm, multiaddr::Protocol, request_response, swarm::SwarmEvent};

/// Asks the node at `address`, which must end in `/p2p/<peer>`, for its network's genesis. The
/// address authenticates the node; that it belongs to the network you mean is what you trust it
/// for.
///
/// # Errors
/// When it can't be reached or its genesis is not valid.
pub async fn fetch_genesis(
    address: &Multiaddr,
    key: &libp2p::identity::Keypair,
    transport: MeshTransport,
    tasks: &Tasks,
) -> anyhow::Result<Genesis> {
    let Some(Protocol::P2p(peer)) = address.iter().last() else {
        bail!("{address} names no node: it must end in /p2p/<peer id>");
    };
    if identity::node_of(peer).is_none() {
        bail!("{peer} is not the id of an Archipelag node");
    }
    let executor = tasks.clone();
    let config = libp2p::swarm::Config::with_executor(move |task| executor.spawn(task));
    let mut swarm =
        Swarm::new(transport, behaviour::genesis_requests(), key.public().to_peer_id(), config);
    swarm.behaviour_mut().send_request_with_addresses(&peer, Vec::new(), vec![address.clone()]);
    let answer = async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::Behaviour(request_response::Event::Message {
                    message: request_response::Message::Response { response, .. },
                    ..
                }) => return Ok(response),
                SwarmEvent::Behaviour(request_response::Event::OutboundFailure {
                    error, ..
                }) => {
                    bail!("{address} did not answer: {error}")
                }
                SwarmEvent::OutgoingConnectionError { error, .. } => {
                    bail!("{address} can't be reached: {error}")
                }
                _ => {}
            }
        }
    };
    let bytes = tokio::time::timeout(REQUEST_TIMEOUT, answer)
        .await
        .with_context(|| format!("{address} did not answer in time"))??;
    Ok(Genesis::decode(&bytes)?)
}
