//! Nodes that start at their time, and those that come and go.

use super::{pause, until};
use crate::{
    record::Record,
    scenario::Session,
    world::{End, World},
};

/// Starts each node at its time.
pub(super) fn start(world: &World, record: &Record) {
    for place in world.places() {
        let (task, record) = (world.clone(), record.clone());
        let (index, starts_s) = (place.index, place.starts_s);
        let session = world.scenario().groups[place.group].session.clone();
        world.executor().spawn(async move {
            until(starts_s).await;
            begin(&task, &record, index).await;
            if let Some(session) = session {
                come_and_go(&task, &record, index, &session).await;
            }
        });
    }
}

async fn begin(world: &World, record: &Record, index: usize) {
    if let Err(error) = world.start(index).await {
        record.violation("start", Some(index), format!("{error:#}"));
    }
}

async fn come_and_go(world: &World, record: &Record, index: usize, session: &Session) {
    loop {
        pause(session.up_s.draw()).await;
        world.hold_down(index, if session.abrupt { End::Power } else { End::Stop }).await;
        pause(session.down_s.draw()).await;
        if let Err(error) = world.release(index).await {
            record.violation("start", Some(index), format!("{error:#}"));
        }
    }
}
