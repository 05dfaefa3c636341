//! What becomes of holds over time.

use super::*;
use crate::{
    disk::{Handle, MemoryDisk},
    environment::{Executor, InlineWorkers, Tasks, TokioExecutor},
    mesh::now,
};
use archipelag_protocol::{
    id::TxId,
    ledger::{Action, Hold, IslandStanding, Payee, TransactionReceipt},
    payment::SignedVoucher,
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

    async fn entrust(&self, _: Vec<SignedVoucher>) -> Result<u16, ledger::Error> {
        Ok(0)
    }
}

/// Holds of a Consumer, its ledger, and what ends its tasks.
fn holds() -> (Holds, Arc<Till>, Tasks) {
    let executor: Arc<dyn Executor> = Arc::new(TokioExecutor(tokio::runtime::Handle::current()));
    let tasks = Tasks::new(executor.clone());
    let database = Handle::open(Arc::new(MemoryDisk::new()), "consumer").unwrap();
    let (workers, stop) = (Arc::new(InlineWorkers(executor)), tasks.stopping());
    let (store, found) = Store::open(database, workers, &tasks, stop, 4, now()).unwrap();
    let policy = Policy::default().payment;
    let holds = Holds::new(NetworkId([0; 32]), policy, store, Arc::default(), found);
    let till = Arc::new(Till { key: SecretKey::from_seed([7; 32]), sent: Mutex::default() });
    (holds, till, tasks)
}

#[tokio::test]
async fn an_expired_hold_is_closed_though_its_island_gets_no_job_any_more() {
    let (holds, till, tasks) = holds();
    let bank: Arc<dyn Bank> = till.clone();
    let payer = till.key.account();
    let (used, running) = (AccountId([1; 32]), AccountId([2; 32]));
    let price = Credits::from_whole(1);
    let reservation = holds.reserve(&bank, used, price, now(), &[]).await.unwrap();
    let _job = holds.reserve(&bank, running, price, now(), &[]).await.unwrap();
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

#[tokio::test]
async fn the_block_that_one_island_waits_for_opens_holds_for_others() {
    let (holds, till, tasks) = holds();
    let bank: Arc<dyn Bank> = till.clone();
    let island = |index: u8| AccountId([index; 32]);
    let spares: Vec<_> = (0..20).map(island).collect();
    let price = Credits::from_micro(400_000);
    let first = holds.reserve(&bank, island(3), price, now(), &spares).await.unwrap();
    // A quarter of 8 credits for the one that is needed, and of the 6 that are left a quarter for
    // others, a job's price each.
    let share = |index, cap| Payee { account: island(index), cap };
    let expected =
        vec![share(3, Credits::from_whole(2)), share(0, price), share(1, price), share(2, price)];
    match &lock(&till.sent)[..] {
        [Action::OpenHold { payees, .. }] => assert_eq!(*payees, expected),
        other => panic!("{other:?}"),
    }
    let second = holds.reserve(&bank, island(1), price, now(), &spares).await.unwrap();
    assert_eq!(lock(&till.sent).len(), 1, "a first job there waits for no block");
    assert_ne!(first.hold(), second.hold());
    // Small prices: no more than so many at once, and none twice.
    let cheap = Credits::from_micro(1);
    let _third = holds.reserve(&bank, island(30), cheap, now(), &spares).await.unwrap();
    match lock(&till.sent).last() {
        Some(Action::OpenHold { payees, .. }) => {
            let accounts: Vec<_> = payees.iter().map(|payee| payee.account.0[0]).collect();
            assert_eq!(accounts, [30, 4, 5, 6, 7, 8, 9, 10]);
        }
        other => panic!("{other:?}"),
    }
    tasks.stop().await;
}
