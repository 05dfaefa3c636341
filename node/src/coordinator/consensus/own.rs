//! What a coordinator asks of the ledger by itself: that who signed two things loses stake and
//! seat, its own turns back when it missed one, and what vouchers are worth that payees entrusted
//! to it.

use super::{
    Consensus,
    context::{Context, signed_proposal_of, signed_vote_of},
    io::Io,
};
use crate::coordinator::engine::{Fatal, Submission};
use arc_malachitebft_core_consensus::MisbehaviorEvidence;
use archipelag_protocol::{
    consensus::Message,
    id::{AccountId, NodeId},
    ledger::{Action, Evidence, Transaction, transaction},
    limits::MAX_BATCH,
    payment::SignedVoucher,
};

/// How long a transaction of its own is given before it is sent again.
const AGAIN_MS: u64 = 5_000;
/// Lanes whose vouchers it redeems for others, and of one payer.
const MAX_ENTRUSTED: usize = 1_024;
const MAX_ENTRUSTED_BY_ONE: usize = 64;

impl Io {
    /// Keeps what proves that a validator signed two things, one proof of each, until the ledger
    /// has one.
    pub(super) fn accuse(&mut self, seen: &MisbehaviorEvidence<Context>) {
        let votes = seen.votes.iter().flat_map(|(_, pairs)| pairs);
        let votes =
            votes.map(|(one, other)| Evidence::Votes(signed_vote_of(one), signed_vote_of(other)));
        let proposals = seen.proposals.iter().flat_map(|(_, pairs)| pairs);
        let proposals = proposals.map(|(one, other)| {
            Evidence::Proposals(signed_proposal_of(one), signed_proposal_of(other))
        });
        for evidence in votes.chain(proposals) {
            // A pair may be one message twice.
            let Ok(offender) = evidence.offender() else { continue };
            if offender != self.me() && self.can_lose(offender) {
                tracing::warn!(validator = %offender.short(), "coordinator.signed_two_things");
                self.evidence.entry(offender).or_insert(evidence);
            }
        }
    }

    fn can_lose(&self, offender: AccountId) -> bool {
        let stake = self.state.stakes.get(&offender);
        let seated = self.state.validators.contains(offender);
        stake.map_or(seated, |stake| !stake.slashed)
    }

    /// Takes vouchers whose signatures were checked, as far as there is room.
    pub(super) fn entrust(&mut self, vouchers: Vec<SignedVoucher>) {
        for voucher in vouchers {
            let lane = |other: &SignedVoucher| (other.value.hold, other.value.lane);
            let same = |other: &&mut SignedVoucher| lane(other) == lane(&voucher);
            if let Some(had) = self.entrusted.iter_mut().find(same) {
                if had.value.cumulative < voucher.value.cumulative {
                    *had = voucher;
                }
                continue;
            }
            let of_payer = self.entrusted.iter().filter(|other| other.signer == voucher.signer);
            let room = of_payer.count() < MAX_ENTRUSTED_BY_ONE;
            if room && self.entrusted.len() < MAX_ENTRUSTED {
                self.entrusted.push(voucher);
            }
        }
    }

    /// Whether there may be something to ask for.
    pub(super) fn wants_something(&self) -> bool {
        !self.evidence.is_empty() || !self.entrusted.is_empty() || self.absent_as().is_some()
    }

    /// The node to come back with, when the ledger has this one for absent.
    fn absent_as(&self) -> Option<NodeId> {
        let node = self.state.stakes.get(&self.me())?.node?;
        self.state.epoch.absent.contains_key(&self.me()).then_some(node)
    }

    /// What there is to ask for.
    fn own_action(&self) -> Option<Action> {
        if let Some(evidence) = self.evidence.values().next() {
            return Some(Action::Evidence { evidence: Box::new(evidence.clone()) });
        }
        if let Some(node) = self.absent_as() {
            return Some(Action::Candidate { node: Some(node) });
        }
        let vouchers = self.state.redeemable(self.now, self.entrusted.iter().take(MAX_BATCH));
        let vouchers: Vec<_> = vouchers.into_iter().cloned().collect();
        (!vouchers.is_empty()).then_some(Action::Redeem { vouchers })
    }

    /// Forgets what is done or can't be done any more.
    fn forget_spent(&mut self) {
        let spent: Vec<_> =
            self.evidence.keys().filter(|offender| !self.can_lose(**offender)).copied().collect();
        self.evidence.retain(|offender, _| !spent.contains(offender));
        let left = self.state.redeemable(self.now, &self.entrusted);
        self.entrusted = left.into_iter().cloned().collect();
    }
}

impl Consensus {
    /// Sends what there is to ask for, now and then until the ledger has it.
    pub(super) fn ask(&mut self) -> Result<(), Fatal> {
        if self.io.now < self.asks || !self.decides() || !self.io.wants_something() {
            return Ok(());
        }
        self.io.forget_spent();
        let Some(submission) = self.own()? else { return Ok(()) };
        self.asks = self.io.now.after_ms(AGAIN_MS);
        self.io.broadcast(&Message::Transactions(vec![submission.bytes.to_vec().into()]));
        // Full, or the operator is at it with the same nonce: our own next block has it all the
        // same.
        if let Err(reason) = self.io.admit(submission) {
            tracing::debug!(%reason, "coordinator.asks_again");
        }
        Ok(())
    }

    /// The transaction that asks for it.
    pub(super) fn own(&self) -> Result<Option<Submission>, Fatal> {
        let io = &self.io;
        let Some(action) = io.own_action() else { return Ok(None) };
        let nonce = io.state.accounts.get(&io.me()).map_or(0, |account| account.nonce);
        let transaction = io.key.seal(io.network, Transaction { nonce, salt: 0, action })?;
        let bytes = transaction::to_bytes(&transaction)?;
        // Proofs are others' words: they pass the same door as everybody's.
        if transaction::decode(&bytes, io.network).is_err() {
            return Ok(None);
        }
        let id = transaction::id(&transaction)?;
        Ok(Some(Submission { id, transaction, bytes: bytes.into() }))
    }
}
