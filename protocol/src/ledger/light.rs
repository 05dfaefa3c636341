//! Trust without a copy of the ledger: what a node that is no coordinator needs to check what it is
//! told of the state.
//!
//! It starts with the validators of the genesis document or of a checkpoint, and follows each
//! change of them by a [`Handover`]: a block that the old ones decided, whose state names the new
//! ones. A header counts when validators that are known so decided for it; a state's entry counts
//! when it is proven against such a header. Nobody who answers needs to be trusted.
//!
//! Source: E. Buchman, J. Kwon, Z. Milosevic and others, "A Tendermint Light Client" (2020), the
//! sequential one. It holds as long as less than a third of the validators of every set were faulty
//! when they were in office; keys that leak afterwards are what unbonding and recent checkpoints
//! are for.

use super::{
    Header, Key, Proof, block,
    entry::{self},
    validators::ValidatorSet,
    vote::Certificate,
};
use crate::{
    codec,
    genesis::{self, Genesis},
    id::{NetworkId, ValidatorsId},
    limits::MAX_PROOF_BYTES,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, sync::Arc};
use thiserror::Error;

/// Why what a node was told does not count.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// Ask for the handovers after [`Trust::height`] and try again.
    #[error("block {height} was decided by validators {found}, who are not known here yet")]
    UnknownValidators { height: u64, found: ValidatorsId },
    #[error("it is of network {found}, ours is {expected}")]
    OtherNetwork { expected: NetworkId, found: NetworkId },
    #[error("block {height} names validators {found}, who were not in office then")]
    NotInOffice { height: u64, found: ValidatorsId },
    #[error("the handover of height {found} is not after height {known}")]
    NotAfter { known: u64, found: u64 },
    #[error("the state of height {0} names no validators")]
    NoValidators(u64),
    #[error("nobody took over at height {0}")]
    NoHandover(u64),
    #[error(transparent)]
    Block(#[from] block::Error),
    #[error(transparent)]
    Entry(#[from] entry::Error),
}

impl From<codec::Error> for Error {
    fn from(error: codec::Error) -> Self {
        Self::Block(error.into())
    }
}

/// An entry of the state, or its absence, with all that proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven {
    pub header: Header,
    pub certificate: Certificate,
    pub proof: Proof,
}

impl Proven {
    /// Checks it; gives the value, `None` when there is no such entry.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn verify<T: DeserializeOwned + Serialize>(
        &self,
        trust: &Trust,
        key: &Key,
    ) -> Result<Option<T>, Error> {
        trust.check(&self.header, &self.certificate)?;
        Ok(self.proof.verify(self.header.state, key)?)
    }
}

/// A proof that can be handed on: canonical DAG-CBOR, in a file or an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    pub key: Key,
    pub proven: Proven,
    /// All changes of the validators before it, so that the genesis document is enough to check it.
    pub handovers: Vec<Handover>,
}

impl Document {
    /// # Errors
    /// When it has no canonical encoding; every document has one.
    pub fn to_bytes(&self) -> Result<Vec<u8>, codec::Error> {
        codec::encode("proof", self)
    }

    /// Decodes a document; nothing in it was verified.
    ///
    /// # Errors
    /// When it is longer than [`MAX_PROOF_BYTES`] or malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, codec::Error> {
        codec::decode("proof", MAX_PROOF_BYTES, bytes)
    }

    /// What `trust`, which need not know more than the genesis document, knows with its handovers.
    ///
    /// # Errors
    /// Why one of them does not count.
    pub fn trust(&self, mut trust: Trust) -> Result<Trust, Error> {
        let known = trust.height();
        for handover in self.handovers.iter().filter(|h| h.0.header.height > known) {
            trust.follow(handover)?;
        }
        Ok(trust)
    }
}

/// Proves who decides from the next block on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Handover(pub Proven);

/// The validators that are known to have decided blocks of a network, each set in its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    network: NetworkId,
    /// By the height after which they took over. Never empty.
    terms: BTreeMap<u64, Term>,
    latest: Arc<ValidatorSet>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    id: ValidatorsId,
    validators: Arc<ValidatorSet>,
}

impl Trust {
    /// Starts with the genesis document.
    ///
    /// # Errors
    /// When it is not valid.
    pub fn genesis(genesis: &Genesis) -> Result<Self, genesis::Error> {
        let (network, validators) = (genesis.network()?, genesis.validator_set()?);
        Ok(Self::checkpoint(network, 0, validators)?)
    }

    /// Starts with validators that somebody trustworthy has named: they decide the block after
    /// `height`.
    ///
    /// # Errors
    /// When they have no canonical encoding; every set has one.
    pub fn checkpoint(
        network: NetworkId,
        height: u64,
        validators: ValidatorSet,
    ) -> Result<Self, codec::Error> {
        let (id, latest) = (validators.id()?, Arc::new(validators));
        let term = Term { id, validators: Arc::clone(&latest) };
        Ok(Self { network, terms: BTreeMap::from([(height, term)]), latest })
    }

    /// The height after which the latest known validators took over.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.terms.last_key_value().map_or(0, |(height, _)| *height)
    }

    /// The latest known validators.
    #[must_use]
    pub fn validators(&self) -> &ValidatorSet {
        &self.latest
    }

    /// Checks that known validators decided for a block.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn check(&self, header: &Header, certificate: &Certificate) -> Result<(), Error> {
        let (expected, found) = (self.network, header.network);
        if expected != found {
            return Err(Error::OtherNetwork { expected, found });
        }
        let (height, found) = (header.height, header.validators);
        let Some((_, term)) = self.terms.range(..height).next_back() else {
            return Err(Error::NotInOffice { height, found });
        };
        match term.id == found {
            true => Ok(header.verify(certificate, &term.validators)?),
            // They may have taken over since; who was in office once decides nothing later on.
            false if height > self.height() => Err(Error::UnknownValidators { height, found }),
            false => Err(Error::NotInOffice { height, found }),
        }
    }

    /// Whether it is known who decided the block of `header`, so that a failed check is final.
    #[must_use]
    pub fn knows(&self, header: &Header) -> bool {
        let latest = self.terms.last_key_value();
        latest.is_some_and(|(from, term)| header.height <= *from || term.id == header.validators)
    }

    /// Learns who took over; the handovers of a network in order, none left out.
    ///
    /// # Errors
    /// Why it does not count. Nothing was learnt then.
    pub fn follow(&mut self, handover: &Handover) -> Result<(), Error> {
        let (known, found) = (self.height(), handover.0.header.height);
        if found <= known {
            return Err(Error::NotAfter { known, found });
        }
        let validators: Option<ValidatorSet> = handover.0.verify(self, &Key::Validators)?;
        let validators = validators.ok_or(Error::NoValidators(found))?;
        if validators.since() != found {
            return Err(Error::NoHandover(found));
        }
        let (id, validators) = (validators.id()?, Arc::new(validators));
        self.latest = Arc::clone(&validators);
        self.terms.insert(found, Term { id, validators });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        amount::Credits,
        genesis::{Allocation, Validator},
        id::{AccountId, NodeId},
        ledger::{Account, State},
        policy::Policy,
        sign::SecretKey,
        time::Timestamp,
    };

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed([seed; 32])
    }

    fn set(seeds: &[u8]) -> Vec<Validator> {
        let validator =
            |seed: &u8| Validator { account: key(*seed).account(), node: NodeId([*seed; 32]) };
        seeds.iter().map(validator).collect()
    }

    fn genesis() -> Genesis {
        let balance = Credits::from_whole(5);
        Genesis {
            name: "light".into(),
            created: Timestamp(1),
            policy: Policy::default(),
            accounts: vec![Allocation { account: key(9).account(), balance }],
            treasury: Credits::ZERO,
            validators: set(&[1, 2, 3, 4]),
            publishers: Vec::new(),
        }
    }

    fn certify(header: &Header, seeds: &[u8]) -> Certificate {
        let (height, block) = (header.height, header.hash().unwrap());
        let mut certificate = Certificate { height, round: 0, block, votes: Vec::new() };
        let vote = certificate.vote();
        let sign =
            |seed: &u8| (key(*seed).account(), key(*seed).sign(header.network, &vote).unwrap());
        certificate.votes = seeds.iter().map(sign).collect();
        certificate.votes.sort_by_key(|(voter, _)| *voter);
        certificate
    }

    /// What `deciders` say of the state after a block on `state`, about `key`.
    fn proven(state: &State, next: &State, key: &Key, deciders: &[u8]) -> Proven {
        let proposer = state.validators.iter().next().unwrap().account;
        let last = state.height.checked_sub(1).map(|_| certify_last(state));
        let (block, ..) = state.propose(proposer, Timestamp(2), last, []).unwrap();
        let header = Header { state: next.root(), ..block.header };
        let certificate = certify(&header, deciders);
        Proven { certificate, header, proof: next.prove(key).unwrap() }
    }

    fn certify_last(state: &State) -> Certificate {
        let (height, block) = (state.height, state.last_block);
        let mut certificate = Certificate { height, round: 0, block, votes: Vec::new() };
        let vote = certificate.vote();
        let voted = |key: &SecretKey| state.last_validators.contains(key.account());
        let all = (1..=8).map(key).filter(voted);
        certificate.votes =
            all.map(|key| (key.account(), key.sign(state.network, &vote).unwrap())).collect();
        certificate.votes.sort_by_key(|(voter, _)| *voter);
        certificate
    }

    /// A state whose next block others decide.
    fn handed_over(state: &State, seeds: &[u8]) -> State {
        let mut next = state.clone();
        next.validators = ValidatorSet::new(state.height + 1, set(seeds)).unwrap();
        next.rebuild_tree().unwrap();
        next
    }

    #[test]
    fn an_entry_counts_when_known_validators_decided_for_its_state() {
        let state = State::genesis(genesis()).unwrap();
        let trust = Trust::genesis(&genesis()).unwrap();
        let account = Key::Account(key(9).account());
        let good = proven(&state, &state, &account, &[1, 2, 4]);
        let found: Option<Account> = good.verify(&trust, &account).unwrap();
        assert_eq!(found.unwrap().balance, Credits::from_whole(5));
        let nobody = Key::Account(AccountId([7; 32]));
        let absent = proven(&state, &state, &nobody, &[1, 2, 3]);
        assert_eq!(absent.verify::<Account>(&trust, &nobody), Ok(None));

        // Another key's proof, too few votes, a stranger's vote, another network.
        assert!(absent.verify::<Account>(&trust, &account).is_err());
        assert!(
            proven(&state, &state, &account, &[1, 2]).verify::<Account>(&trust, &account).is_err()
        );
        assert!(
            proven(&state, &state, &account, &[1, 2, 5])
                .verify::<Account>(&trust, &account)
                .is_err()
        );
        let elsewhere = Genesis { name: "other".into(), ..genesis() };
        let elsewhere = Trust::genesis(&elsewhere).unwrap();
        assert!(matches!(
            good.verify::<Account>(&elsewhere, &account),
            Err(Error::OtherNetwork { .. })
        ));
        // Of another kind than the key's.
        assert!(good.verify::<ValidatorSet>(&trust, &account).is_err());
    }

    #[test]
    fn changes_of_the_validators_are_followed_in_order() {
        let first = State::genesis(genesis()).unwrap();
        let mut trust = Trust::genesis(&genesis()).unwrap();
        let second = handed_over(&first, &[1, 2, 3, 5]);
        let handover = Handover(proven(&first, &second, &Key::Validators, &[1, 2, 3]));
        // By the new ones' own word it does not count.
        let usurped = Handover(proven(&first, &second, &Key::Validators, &[2, 3, 5]));
        assert!(trust.clone().follow(&usurped).is_err());
        // Nor does a proof of something else.
        let other = Handover(proven(&first, &second, &Key::Treasury, &[1, 2, 3]));
        assert!(trust.clone().follow(&other).is_err());

        // What they decide is not known to count before the handover is.
        let account = Key::Account(key(9).account());
        let mut after = second.clone();
        (after.height, after.last_validators) = (1, first.validators.clone());
        let later = proven(&after, &after, &account, &[1, 2, 5]);
        let unknown = later.verify::<Account>(&trust, &account);
        assert!(matches!(unknown, Err(Error::UnknownValidators { height: 2, .. })));
        trust.follow(&handover).unwrap();
        assert_eq!((trust.height(), trust.validators()), (1, &second.validators));
        assert!(later.verify::<Account>(&trust, &account).unwrap().is_some());
        assert_eq!(trust.follow(&handover), Err(Error::NotAfter { known: 1, found: 1 }));
        // The first ones are out of office, whatever they sign now; what they decided then counts.
        let mut usurped = second;
        (usurped.height, usurped.last_validators) = (1, first.validators.clone());
        usurped.validators = first.validators.clone();
        usurped.rebuild_tree().unwrap();
        let late = proven(&usurped, &usurped, &account, &[1, 2, 3, 4]);
        let refused = late.verify::<Account>(&trust, &account);
        assert!(matches!(refused, Err(Error::UnknownValidators { height: 2, .. })), "{refused:?}");
        assert!(!trust.knows(&late.header) && trust.knows(&later.header));
        let mut before = late;
        before.header.height = 1;
        let refused = before.verify::<Account>(&trust, &account);
        assert!(matches!(refused, Err(Error::Block(_))), "{refused:?}");
        let early = proven(&first, &first, &account, &[1, 2, 3]);
        assert!(early.verify::<Account>(&trust, &account).is_ok());
    }
}
