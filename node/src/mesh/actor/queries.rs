//! The actor's part for the query protocol: asking, and passing on what others ask.

use super::{Actor, Asked, REQUEST_TIMEOUT, identity};
use archipelag_protocol::{
    codec,
    event::bounded,
    limits::MAX_QUERY_BYTES,
    query::{self, Request, Response},
};
use libp2p::{PeerId, request_response};
use tokio::sync::oneshot;

impl Actor {
    pub(super) fn on_query(&mut self, event: request_response::Event<Vec<u8>, Vec<u8>>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                request_response::Message::Request { request, channel, .. } => {
                    self.shared.metrics.queries.inc();
                    self.on_request(peer, &request, channel);
                }
                request_response::Message::Response { request_id, response } => {
                    match self.asked.remove(&request_id) {
                        Some(Asked::Caller(answer)) => {
                            let _ = answer.send(Ok(response));
                        }
                        Some(Asked::Adverts(node)) => self.on_adverts(node, &response),
                        None => {}
                    }
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                if let Some(Asked::Caller(answer)) = self.asked.remove(&request_id) {
                    let _ = answer.send(Err(error.to_string()));
                }
            }
            _ => {}
        }
    }

    fn on_request(
        &mut self,
        peer: PeerId,
        bytes: &[u8],
        channel: request_response::ResponseChannel<Vec<u8>>,
    ) {
        let Some(node) = identity::node_of(peer) else { return };
        match query::decode_request(bytes) {
            Ok(Request::Adverts) => self.respond(channel, &Response::Adverts(self.known_adverts())),
            Ok(request) => {
                let (answer, answered) = oneshot::channel();
                if self.inbox.queries.try_send((node, request, answer)).is_err() {
                    self.respond(
                        channel,
                        &Response::Unavailable("this node is busy: try again".into()),
                    );
                    return;
                }
                let answers = self.answers.0.clone();
                self.tasks.spawn(async move {
                    let answered = tokio::time::timeout(REQUEST_TIMEOUT, answered).await;
                    let response = match answered {
                        Ok(Ok(response)) => response,
                        _ => Response::Unavailable("this node did not answer in time".into()),
                    };
                    // When the swarm's task is gone, so is the asker's connection.
                    let _ = answers.send((channel, response)).await;
                });
            }
            Err(error) => {
                self.strike(node, &error.to_string());
                self.respond(channel, &Response::Unavailable(bounded(error.to_string())));
            }
        }
    }

    pub(super) fn respond(
        &mut self,
        channel: request_response::ResponseChannel<Vec<u8>>,
        response: &Response,
    ) {
        let bytes = codec::encode_loose("query answer", response)
            .ok()
            .filter(|bytes| bytes.len() <= MAX_QUERY_BYTES)
            .or_else(|| {
                let reason = "the answer is longer than a message may be: ask for fewer items";
                codec::encode_loose("query answer", &Response::Unavailable(reason.into())).ok()
            });
        if let Some(bytes) = bytes {
            // The asker may be gone.
            let _ = self.swarm.behaviour_mut().query.send_response(channel, bytes);
        }
    }
}
