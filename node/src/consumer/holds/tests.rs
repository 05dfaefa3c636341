//! What becomes of holds over time.

use super::*;
use crate::{
    disk::{Handle, MemoryDisk},
    environment::{Executor, InlineWorkers, Tasks, TokioExecutor},
};
use archipelag_protocol::{
    id::TxId,
    ledger::{Hold, IslandStanding, TransactionReceipt},
    policy::Policy,
    sign::SecretKey,
};
use async_trait::async_trait;

/// A ledger that has forgotten every hold; keeps what it was sent.
#[derive(Debug)]
struct Till {
    key: SecretKey,
    sent: Mutex<Vec<Action>>,
}

#[async_trait]
impl Bank for Till {
    fn key(&self) -> &SecretKey {
        &self.key
    }

    async fn balance(&self) -> Result<Credits, ledger::Error> {
        Ok(Credits::from_whole(8))
    }

    async fn hold(&self, _: HoldId) -> Result<Option<Hold>, ledger::Error> {
        Ok(None)
    }

    async fn standing(&self, _: AccountId) -> Result<IslandStanding, ledger::Error> {
        Ok(IslandStanding::default())
    }

    async fn send(&self, action: Action) -> Result<TransactionReceipt, ledger::Error> {
        let mut sent = lock(&self.sent);
        sent.push(action);
        let transaction = TxId([u8::try_from(sent.len()).unwrap(); 32]);
        Ok(TransactionReceipt { transaction, height: 1, outcome: Ok(()) })
    }
}

#[tokio::test]
async fn an_expired_hold_is_closed_though_its_island_gets_no_job_any_more() {
    let executor: Arc<dyn Executor> = Arc::new(TokioExecutor(tokio::runtime::Handle::current()));
    let tasks = Tasks::new(executor.clone());
    let database = Handle::open(Arc::new(MemoryDisk::new()), "consumer").unwrap();
    let (workers, stop) = (Arc::new(InlineWorkers(executor)), tasks.stopping());
    let (store, found) = Store::open(database, workers, &tasks, stop, 4, now()).unwrap();
    let policy = Policy::default().payment;
    let holds = Holds::new(NetworkId([0; 32]), policy, store, Arc::default(), found);
    let till = Arc::new(Till { key: SecretKey::from_seed([7; 32]), sent: Mutex::default() });
    let bank: Arc<dyn Bank> = till.clone();
    let payer = till.key.account();
    let (used, running) = (AccountId([1; 32]), AccountId([2; 32]));
    let price = Credits::from_whole(1);
    let reservation = holds.reserve(&bank, used, price, now()).await.unwrap();
    let _job = holds.reserve(&bank, running, price, now()).await.unwrap();
    let hold = reservation.hold();
    drop(reservation);

    holds.give_up_expired(payer, now()).await;
    assert_eq!(holds.expected_room(payer, used), Credits::from_whole(2));
    let later = now().after_ms(Policy::default().payment.hold_life_ms + 1);
    holds.give_up_expired(payer, later).await;
    holds.close_due(&bank).await;
    let closed: Vec<_> = lock(&till.sent).split_off(2);
    assert_eq!(closed, [Action::CloseHold { hold }]);
    assert_eq!(holds.expected_room(payer, used), Credits::ZERO);
    // What a job uses stays.
    assert_eq!(holds.expected_room(payer, running), Credits::from_whole(1));
    tasks.stop().await;
}
