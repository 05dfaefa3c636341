//! Transactions that are submitted here, on their way to the engine: the signatures of those that
//! come at the same time are checked together, which costs half of one by one.

use super::{
    actor::{Command, Head},
    engine::Submission,
};
use archipelag_protocol::{
    id::{NetworkId, TxId},
    ledger::{Rejected, SignedTransaction, TransactionReceipt, transaction},
};
use archipelag_runtimes::workers::{self, Workers};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// Transactions that may wait to be checked.
pub(super) const QUEUE: usize = 4_096;
/// That are checked together: more cost hardly less, and their submitters wait longer.
const BATCH: usize = 256;
/// Their bytes: one may hold hundreds of signatures.
const BATCH_BYTES: usize = 256 << 10;

/// A transaction from the wire, and who waits for what becomes of it.
#[derive(Debug)]
pub(super) struct Submitted {
    pub(super) bytes: Vec<u8>,
    pub(super) answer: oneshot::Sender<TransactionReceipt>,
}

/// What the task needs besides what is submitted.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) network: NetworkId,
    pub(super) submitted: mpsc::Receiver<Submitted>,
    /// Weak: the driver ends when no handle is left.
    pub(super) commands: mpsc::WeakSender<Command>,
    pub(super) head: watch::Receiver<Arc<Head>>,
}

impl Intake {
    /// Runs until no handle is left.
    pub(super) async fn run(mut self, workers: &dyn Workers) {
        let mut batch = Vec::new();
        while let Some(first) = self.submitted.recv().await {
            let mut size_bytes = first.bytes.len();
            batch.push(first);
            while batch.len() < BATCH
                && size_bytes < BATCH_BYTES
                && let Ok(next) = self.submitted.try_recv()
            {
                size_bytes += next.bytes.len();
                batch.push(next);
            }
            let (mut batch, network) = (std::mem::take(&mut batch), self.network);
            let state = Arc::clone(&self.head.borrow().state);
            let check = move || {
                batch.retain(|one| !one.answer.is_closed());
                let list: Vec<_> = batch.iter().map(|one: &Submitted| &one.bytes).collect();
                // Strangers cost no signature check.
                let known = |one: &SignedTransaction| match state.accounts.get(&one.signer) {
                    Some(_) => Ok(()),
                    None => Err(Rejected::NoAccount(one.signer)),
                };
                let checked = transaction::decode_all(&list, network, known);
                batch.into_iter().zip(checked).collect::<Vec<_>>()
            };
            // Submitters learn by their answers that theirs is lost.
            let Ok(checked) = workers::run(workers, check).await else { continue };
            let Some(commands) = self.commands.upgrade() else { return };
            for (Submitted { bytes, answer }, checked) in checked {
                let id = TxId(Sha256::digest(&bytes).into());
                let submission =
                    checked.map(|transaction| Submission { id, transaction, bytes: bytes.into() });
                let (submission, place) = match (submission, commands.try_reserve()) {
                    (Ok(submission), Ok(place)) => (submission, place),
                    (Err(reason), _) => {
                        self.refuse(id, reason, answer);
                        continue;
                    }
                    (Ok(_), Err(mpsc::error::TrySendError::Full(()))) => {
                        self.refuse(id, Rejected::Busy, answer);
                        continue;
                    }
                    (Ok(_), Err(mpsc::error::TrySendError::Closed(()))) => return,
                };
                place.send(Command::Submit { submission, answer });
            }
        }
    }

    fn refuse(
        &self,
        transaction: TxId,
        reason: Rejected,
        answer: oneshot::Sender<TransactionReceipt>,
    ) {
        let height = self.head.borrow().state.height;
        // A submitter that is gone wants no answer.
        let _gone = answer.send(TransactionReceipt { transaction, height, outcome: Err(reason) });
    }
}
