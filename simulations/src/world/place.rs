//! What a scenario says of each node, drawn from the seed: keys, line, clock, speed; and the
//! genesis document that follows from it.

use crate::{
    adversary::near_the_entry,
    disk::SimulatedDisk,
    draw::{below, pick, whole},
    network::Profile,
    scenario::{Behaviour, Group, Places, Role, Scenario},
};
use anyhow::Context as _;
use archipelag_node::{home::Identity, mesh};
use archipelag_protocol::{
    amount::Credits,
    genesis::{Allocation, Genesis, Publisher, PublisherTier, Validator},
    policy::Policy,
    sign::SecretKey,
    time::Timestamp,
};
use archipelag_simulation_kernel as kernel;
use libp2p::identity::Keypair;
use sha2::{Digest as _, Sha256};

/// What every Consumer starts with, unless the scenario says otherwise.
const CONSUMER_CREDITS: u64 = 1_000;
/// What the treasury starts with.
const TREASURY: Credits = Credits::from_whole(1_000_000);

/// One node of the scenario, whether it runs or not.
pub struct Place {
    pub index: usize,
    /// Index of its group.
    pub group: usize,
    pub identity: Identity,
    pub profile: Profile,
    pub roles: Vec<Role>,
    pub behaviour: Behaviour,
    pub starts_s: f64,
    pub skew_ms: f64,
    pub speed: f64,
    pub asking_percent: u16,
    pub disk: SimulatedDisk,
    /// Through which nodes it joins.
    pub bootstrap: Vec<usize>,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Place {
    #[must_use]
    pub fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    #[must_use]
    pub fn keeps_ledger(&self) -> bool {
        self.is(Role::Coordinator) || self.is(Role::Observer)
    }
}

fn seeded(seed: u64, name: &str, index: usize) -> [u8; 32] {
    Sha256::digest(format!("{seed}/{name}/{index}")).into()
}

fn identity(seed: u64, index: usize, behaviour: Behaviour) -> anyhow::Result<Identity> {
    let node = match behaviour {
        Behaviour::Sybil => near_the_entry(|n| seeded(seed, &format!("sybil {n}"), index))?,
        _ => Keypair::ed25519_from_bytes(seeded(seed, "node", index))?,
    };
    Ok(Identity {
        node,
        operator: SecretKey::from_seed(seeded(seed, "operator", index)),
        consumer: SecretKey::from_seed(seeded(seed, "consumer", index)),
    })
}

fn bits_per_s(mbit: f64) -> u64 {
    whole(mbit * 1e6).max(1)
}

fn region(scenario: &Scenario, group: &Group) -> usize {
    let name = match &group.region {
        None => return 0,
        Some(Places::One(name)) => name,
        Some(Places::Shares(shares)) => match pick(shares) {
            Some(name) => name,
            None => return 0,
        },
    };
    scenario.network.regions.iter().position(|region| region == name).unwrap_or(0)
}

/// All nodes of a scenario.
///
/// # Errors
/// When a key can't be made.
pub(super) fn draw(scenario: &Scenario, seed: u64) -> anyhow::Result<Vec<Place>> {
    let mut places = Vec::with_capacity(scenario.nodes());
    let first_group = scenario.groups.first().map_or(0, |group| group.count);
    for (at, group) in scenario.groups.iter().enumerate() {
        for _ in 0..group.count {
            let index = places.len();
            let identity = identity(seed, index, group.behaviour)?;
            let known = if index < first_group { index } else { first_group };
            let mut bootstrap: Vec<usize> = Vec::new();
            while bootstrap.len() < group.bootstrap.min(known) {
                let other = below(known);
                if !bootstrap.contains(&other) {
                    bootstrap.push(other);
                }
            }
            places.push(Place {
                index,
                group: at,
                profile: Profile {
                    peer: identity.node.public().to_peer_id(),
                    region: region(scenario, group),
                    up_bits_per_s: bits_per_s(group.up_mbit.draw()),
                    down_bits_per_s: bits_per_s(group.down_mbit.draw()),
                    nat: group.nat,
                },
                identity,
                roles: group.roles.clone(),
                behaviour: group.behaviour,
                starts_s: group.start_s.draw(),
                skew_ms: group.skew_ms.draw(),
                speed: group.speed.draw().max(1e-6),
                asking_percent: u16::try_from(whole(group.price_percent.draw()))
                    .unwrap_or(u16::MAX),
                disk: SimulatedDisk::default(),
                bootstrap,
            });
        }
    }
    Ok(places)
}

/// The network's first document.
///
/// # Errors
/// When the nodes don't make one.
pub(super) fn genesis(scenario: &Scenario, places: &[Place]) -> anyhow::Result<Genesis> {
    let mut policy = Policy::default();
    policy.publishing.open = true;
    if let Some(interval) = scenario.policy.advert_interval_s {
        policy.advert.interval_ms = whole(interval * 1000.0);
    }
    if let Some(epoch) = scenario.policy.epoch_s {
        policy.election.epoch_ms = whole(epoch * 1000.0);
    }
    let spends = |place: &&Place| {
        let name = &scenario.groups[place.group].name;
        scenario.workloads.iter().any(|workload| workload.from == *name)
    };
    let coordinators: Vec<&Place> = places.iter().filter(|p| p.is(Role::Coordinator)).collect();
    let first = coordinators.first().context("a network has at least one coordinator")?;
    let seats = u8::try_from(coordinators.len()).unwrap_or(u8::MAX);
    policy.election.seats = policy.election.seats.max(seats);
    let credits = scenario.policy.consumer_credits.unwrap_or(CONSUMER_CREDITS);
    let seat = |place: &&Place| {
        let node = mesh::identity::node_of(place.profile.peer).context("node keys are ed25519")?;
        anyhow::Ok(Validator { account: place.identity.operator.account(), node })
    };
    let genesis = Genesis {
        name: "simulation".into(),
        created: Timestamp(u64::try_from(kernel::EPOCH.as_millis())?),
        policy,
        accounts: places
            .iter()
            .filter(spends)
            .map(|place| Allocation {
                account: place.identity.consumer.account(),
                balance: Credits::from_whole(credits),
            })
            .collect(),
        treasury: TREASURY,
        validators: coordinators.iter().map(seat).collect::<Result<_, _>>()?,
        publishers: vec![Publisher {
            account: first.identity.operator.account(),
            tier: PublisherTier::Partner,
        }],
    };
    genesis.validate()?;
    Ok(genesis)
}
