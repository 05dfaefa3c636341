//! One coordinator: the shipped handle and driver on a disk that fails as it is told.

use anyhow::Context as _;
use archipelag_node::{
    coordinator::{Config, Coordinator, Driver, Outgoing},
    disk::flaky::FlakyDisk,
};
use archipelag_protocol::{
    genesis::Genesis,
    id::{NodeId, TxId},
    ledger::{State, TransactionReceipt},
    query::{Request, Response},
    sign::SecretKey,
};
use archipelag_runtimes::workers::Workers;
use futures::{FutureExt as _, future::BoxFuture};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Works at once, where it is asked.
#[derive(Debug)]
struct Here;

impl Workers for Here {
    fn spawn(&self, work: BoxFuture<'static, ()>) {
        // What a coordinator hands over waits for nothing.
        let _done = work.now_or_never();
    }
}

/// A process of a validator: it may be one of two with one key.
pub(super) struct Process {
    /// Whose key it has.
    pub(super) validator: usize,
    pub(super) disk: FlakyDisk,
    pub(super) running: Option<Running>,
    /// How far its clock is ahead.
    pub(super) skew_ms: u64,
    /// The moment for which a step is planned.
    pub(super) planned: Option<u64>,
    /// Of an earlier run of this process, or this one.
    pub(super) height: u64,
}

pub(super) struct Running {
    pub(super) coordinator: Coordinator,
    pub(super) driver: Driver,
    pub(super) outgoing: mpsc::Receiver<Outgoing>,
    pub(super) waiting: Vec<(TxId, oneshot::Receiver<TransactionReceipt>)>,
}

impl Process {
    pub(super) fn new(validator: usize) -> Self {
        Self {
            validator,
            disk: FlakyDisk::default(),
            running: None,
            skew_ms: 0,
            planned: None,
            height: 0,
        }
    }

    /// # Errors
    /// When what its disk has is not right.
    pub(super) fn start(
        &mut self,
        genesis: &Genesis,
        key: &SecretKey,
        node: NodeId,
    ) -> anyhow::Result<()> {
        let (config, outgoing) = Config::among_others(genesis.clone(), key.clone(), Some(node));
        let (coordinator, driver) =
            Coordinator::open(config, self.disk.shared(), Arc::new(Here)).context("a restart")?;
        self.running = Some(Running { coordinator, driver, outgoing, waiting: Vec::new() });
        Ok(())
    }

    /// Ends it. Of what was written and not synced only that survives which `keep` names.
    pub(super) fn kill(&mut self, keep: impl FnMut(usize) -> bool) {
        // In this order: a process that is dead writes nothing.
        self.disk.cut_power(keep);
        self.running = None;
        self.planned = None;
    }

    pub(super) fn state(&self) -> Option<Arc<State>> {
        self.running.as_ref().map(|running| running.coordinator.state())
    }

    /// # Errors
    /// When it is down.
    pub(super) fn ask(&self, request: Request) -> anyhow::Result<Response> {
        let running = self.running.as_ref().context("it is down")?;
        running.coordinator.answer(request).now_or_never().context("it does not answer at once")
    }
}

impl Running {
    /// What submitters were told since the last look: by which block their transactions are final,
    /// or that they are refused (`None`).
    pub(super) fn answers(&mut self) -> Vec<(TxId, Option<u64>)> {
        let mut told = Vec::new();
        self.waiting.retain_mut(|(id, answer)| match answer.try_recv() {
            Ok(receipt) => {
                told.push((*id, receipt.outcome.is_ok().then_some(receipt.height)));
                false
            }
            Err(oneshot::error::TryRecvError::Empty) => true,
            Err(oneshot::error::TryRecvError::Closed) => false,
        });
        told
    }
}
