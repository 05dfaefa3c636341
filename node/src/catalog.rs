//! Cargos as this node knows them: verified catalog entries, compiled schemas, artifacts.
//!
//! Consumer, Island and gateway resolve Cargos here. Entries come from the ledger or, when no
//! coordinator answers, from Kademlia; artifacts from the own store or any node that holds them.
//! Nothing is kept or returned that has not been verified against its id and signatures.

mod artifacts;

pub use artifacts::ArtifactStore;

use crate::{
    environment::Tasks,
    ledger::Ledger,
    mesh::{self, Mesh, Protocol, artifact},
};
use archipelag_protocol::{
    catalog::{Entry, State},
    id::{CargoId, ContentId},
    manifest::{Artifact, Version},
};
use archipelag_runtimes::schema::Schema;
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use thiserror::Error;
use tokio::{sync::Semaphore, time::Instant};

/// How long a slug's newest version is taken from memory.
const SLUG_LIFE: Duration = Duration::from_secs(5);
/// How long a version's record is taken from memory: a suspension takes effect after this.
const RECORD_LIFE: Duration = Duration::from_secs(60);
/// Cargos kept in memory, schemas compiled.
const MAX_CACHED: usize = 512;
/// Artifact transfers that this node serves at a time.
const MAX_SERVING: usize = 16;

/// A Cargo version, verified, with its schemas compiled.
#[derive(Debug)]
pub struct Resolved {
    pub cargo: CargoId,
    pub entry: Entry,
    pub input_schema: Schema,
    pub output_schema: Schema,
}

/// Why a Cargo could not be resolved.
#[derive(Clone, Debug, Error)]
pub enum Error {
    #[error("no Cargo `{0}`: `archipelag cargo list` shows what there is")]
    Unknown(String),
    #[error("the catalog can't be reached: {0}")]
    Unreachable(String),
    #[error("the Cargo is not usable: {0}")]
    Invalid(String),
    #[error("no node within reach holds the artifact {0}")]
    Missing(ContentId),
}

#[derive(Clone, Debug)]
pub struct Catalog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    mesh: Mesh,
    ledger: Ledger,
    artifacts: ArtifactStore,
    cargos: Mutex<BTreeMap<CargoId, (Instant, Arc<Resolved>)>>,
    slugs: Mutex<BTreeMap<String, (Instant, CargoId)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Catalog {
    #[must_use]
    pub fn new(mesh: Mesh, ledger: Ledger, artifacts: ArtifactStore) -> Self {
        Self(Arc::new(Inner {
            mesh,
            ledger,
            artifacts,
            cargos: Mutex::default(),
            slugs: Mutex::default(),
        }))
    }

    /// Serves artifacts to other nodes until the node stops.
    pub fn serve(&self, tasks: &Tasks) {
        let mut streams = self.0.mesh.accept(Protocol::Artifact);
        let (artifacts, stop, all) = (self.0.artifacts.clone(), tasks.stopping(), tasks.clone());
        let room = Arc::new(Semaphore::new(MAX_SERVING));
        tasks.spawn(async move {
            loop {
                let next = tokio::select! {
                    () = stop.cancelled() => return,
                    next = streams.recv() => next,
                };
                let Some((node, stream)) = next else { return };
                // Dropping the stream tells the asker to go elsewhere.
                let Ok(place) = room.clone().try_acquire_owned() else { continue };
                let (artifacts, stop) = (artifacts.clone(), stop.clone());
                all.spawn(async move {
                    let _place = place;
                    tokio::select! {
                        () = stop.cancelled() => {}
                        served = artifact::serve(stream, |content| artifacts.get(content)) => {
                            if let Err(error) = served {
                                tracing::debug!(node = %node.short(), %error, "catalog.serve");
                            }
                        }
                    }
                });
            }
        });
    }

    /// The newest published version of `slug`, or the version named.
    ///
    /// # Errors
    /// [`Error::Unknown`] when there is none, else what stood in the way.
    pub async fn resolve(
        &self,
        slug: &str,
        version: Option<&Version>,
    ) -> Result<Arc<Resolved>, Error> {
        if let (None, Some(known)) = (version, self.fresh_slug(slug)) {
            return Ok(known);
        }
        let label = version.map_or_else(|| slug.to_owned(), |v| format!("{slug}@{v}"));
        let asked = self.0.ledger.slug(slug.to_owned(), version.cloned()).await;
        let entry = match asked {
            Ok(entry) => entry,
            Err(error) if version.is_some() => return Err(Error::Unreachable(error.to_string())),
            Err(error) => match self.0.mesh.lookup(Entry::key_of_slug(slug)).await {
                Some(entry) => Some(entry),
                None => return Err(Error::Unreachable(error.to_string())),
            },
        };
        let entry = entry.ok_or(Error::Unknown(label))?;
        if entry.manifest.value.slug != slug {
            return Err(Error::Invalid("the answer is about another slug".into()));
        }
        if version.is_some_and(|version| *version != entry.manifest.value.version) {
            return Err(Error::Invalid("the answer is about another version".into()));
        }
        let resolved = self.keep(entry).await?;
        if version.is_none() {
            let mut slugs = lock(&self.0.slugs);
            if slugs.len() >= MAX_CACHED {
                slugs.clear();
            }
            slugs.insert(slug.to_owned(), (Instant::now(), resolved.cargo));
        }
        Ok(resolved)
    }

    /// A Cargo version by its id.
    ///
    /// # Errors
    /// As [`Catalog::resolve`].
    pub async fn cargo(&self, cargo: CargoId) -> Result<Arc<Resolved>, Error> {
        if let Some(known) = self.fresh(cargo) {
            return Ok(known);
        }
        let entry = match self.0.ledger.cargo(cargo).await {
            Ok(entry) => entry,
            Err(error) => match self.0.mesh.lookup(Entry::key_of_cargo(cargo)).await {
                Some(entry) => Some(entry),
                None => return Err(Error::Unreachable(error.to_string())),
            },
        };
        let entry = entry.ok_or_else(|| Error::Unknown(cargo.to_string()))?;
        if entry.record.cargo != cargo {
            return Err(Error::Invalid("the answer is about another Cargo".into()));
        }
        self.keep(entry).await
    }

    fn fresh_slug(&self, slug: &str) -> Option<Arc<Resolved>> {
        let (since, cargo) = *lock(&self.0.slugs).get(slug)?;
        if since.elapsed() < SLUG_LIFE { self.fresh(cargo) } else { None }
    }

    fn fresh(&self, cargo: CargoId) -> Option<Arc<Resolved>> {
        let cargos = lock(&self.0.cargos);
        let (since, resolved) = cargos.get(&cargo)?;
        (since.elapsed() < RECORD_LIFE).then(|| resolved.clone())
    }

    /// Verifies an entry and keeps it.
    async fn keep(&self, entry: Entry) -> Result<Arc<Resolved>, Error> {
        self.0.ledger.know(&entry.header).await;
        let (mesh, invalid) = (&self.0.mesh, |e: String| Error::Invalid(e));
        entry
            .verify(&mesh.trust(), &mesh.genesis().policy.payout)
            .map_err(|e| invalid(e.to_string()))?;
        let known = lock(&self.0.cargos).get(&entry.record.cargo).map(|(_, known)| known.clone());
        if known.as_ref().is_some_and(|known| known.entry.record.height > entry.record.height) {
            return Err(invalid("the answer is an older record than one that is known".into()));
        }
        // Only the block by which it is proven is another one.
        if let Some(known) = known.filter(|known| known.entry.record == entry.record) {
            lock(&self.0.cargos).insert(known.cargo, (Instant::now(), known.clone()));
            return Ok(known);
        }
        let manifest = &entry.manifest.value;
        if entry.record.state != State::Published {
            let state = entry.record.state;
            return Err(Error::Invalid(format!(
                "{} is {state:?}, not published",
                manifest.label()
            )));
        }
        let input_schema = Schema::compile(&manifest.input_schema)
            .map_err(|e| invalid(format!("input_schema: {e}")))?;
        let output_schema = Schema::compile(&manifest.output_schema)
            .map_err(|e| invalid(format!("output_schema: {e}")))?;
        let resolved =
            Arc::new(Resolved { cargo: entry.record.cargo, entry, input_schema, output_schema });
        let mut cargos = lock(&self.0.cargos);
        if cargos.len() >= MAX_CACHED {
            let oldest =
                cargos.iter().min_by_key(|(_, (since, _))| *since).map(|(cargo, _)| *cargo);
            if let Some(oldest) = oldest {
                cargos.remove(&oldest);
            }
        }
        cargos.insert(resolved.cargo, (Instant::now(), resolved.clone()));
        Ok(resolved)
    }

    /// The bytes of a Cargo's module, from here or from another node.
    ///
    /// # Errors
    /// [`Error::Missing`] when nobody within reach holds it, [`Error::Invalid`] when the Cargo has
    /// none.
    pub async fn artifact(&self, resolved: &Resolved) -> Result<Bytes, Error> {
        let Artifact::Module { hash, size_bytes } = &resolved.entry.manifest.value.artifact else {
            let runtime = resolved.entry.manifest.value.runtime_type;
            return Err(Error::Invalid(format!("{runtime} Cargos have no module")));
        };
        if let Some(bytes) = self.0.artifacts.get(*hash) {
            return Ok(bytes);
        }
        let bytes = self.fetch(*hash, *size_bytes).await?;
        self.hold_artifact(bytes.clone()).await?;
        Ok(bytes)
    }

    async fn fetch(&self, content: ContentId, size: u64) -> Result<Bytes, Error> {
        let mesh = &self.0.mesh;
        let mut transfer = artifact::Transfer::new(content, size);
        let mut tried = vec![mesh.node()];
        // Who says that it has it, then everybody who is connected.
        for claimed in [true, false] {
            let nodes = if claimed {
                mesh.providers(content).await
            } else {
                mesh.peers().into_iter().map(|peer| peer.node).collect()
            };
            for node in nodes {
                if tried.contains(&node) {
                    continue;
                }
                tried.push(node);
                match transfer.fetch_from(mesh, node).await {
                    Ok(Some(bytes)) => return Ok(bytes),
                    Ok(None) => mesh.misbehaved(node, "it served other bytes than asked for"),
                    Err(error) => tracing::debug!(node = %node.short(), %error, "catalog.fetch"),
                }
            }
        }
        Err(Error::Missing(content))
    }

    /// Keeps an artifact and tells the mesh that this node serves it.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the store refuses it.
    pub async fn hold_artifact(&self, bytes: Bytes) -> Result<ContentId, Error> {
        let content =
            self.0.artifacts.put(bytes).await.map_err(|e| Error::Invalid(e.to_string()))?;
        if let Err(error @ mesh::Error::Closed) = self.0.mesh.provide(content).await {
            return Err(Error::Unreachable(error.to_string()));
        }
        Ok(content)
    }
}
