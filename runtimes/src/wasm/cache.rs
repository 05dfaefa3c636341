//! Compiled code on disk, so that a Cargo is compiled once per node and engine version.
//!
//! Loading compiled code is as good as running it: whoever can write here can take over the node.
//! The directory therefore belongs to the node alone, like its keys, and is made 0700; a file is
//! used only when its header names the module and this very engine, and its checksum is right, so
//! that a cut or rotten file is compiled again. That is protection against accidents: a process
//! that may write as the node's user has the keys too. Code never comes from other nodes.

use archipelag_protocol::id::ContentId;
use sha2::{Digest, Sha256};
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};
use wasmtime::Engine;

const MAGIC: &[u8; 16] = b"archipelag-wasm1";
const HEADER_BYTES: usize = 16 + 32 + 32;
const SUFFIX: &str = "cwasm";

#[derive(Debug)]
pub(super) struct DiskCache {
    directory: PathBuf,
    bytes_max: u64,
    engine: u64,
}

impl DiskCache {
    /// Creates the directory if need be and closes it to others.
    pub(super) fn open(directory: &Path, bytes_max: u64, engine: &Engine) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
        }
        // Not a stable hash: another build of the node may compile once more.
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { directory: directory.to_owned(), bytes_max, engine: hasher.finish() })
    }

    fn key(&self, module: ContentId) -> [u8; 32] {
        Sha256::new()
            .chain_update(module.0)
            .chain_update(self.engine.to_le_bytes())
            .finalize()
            .into()
    }

    fn path(&self, module: ContentId) -> PathBuf {
        self.directory.join(format!("{}.{SUFFIX}", ContentId(self.key(module))))
    }

    /// The code of `module`, if it is there and whole.
    pub(super) fn load(&self, module: ContentId) -> Option<Vec<u8>> {
        let path = self.path(module);
        let mut file = match fs::read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "compiled wasm can't be read");
                return None;
            }
        };
        let (header, code) = file.split_at_checked(HEADER_BYTES)?;
        if header != self.header(module, code) {
            tracing::warn!(path = %path.display(), "compiled wasm is damaged: compiling again");
            return None;
        }
        if let Ok(file) = fs::File::options().append(true).open(&path) {
            // Only for the order of eviction.
            let _touched = file.set_modified(SystemTime::now());
        }
        file.drain(..HEADER_BYTES);
        Some(file)
    }

    fn header(&self, module: ContentId, code: &[u8]) -> Vec<u8> {
        [MAGIC.as_slice(), &self.key(module), &Sha256::digest(code)].concat()
    }

    /// Keeps the code of `module` and makes room for it. A cache that can't be written only costs
    /// time.
    pub(super) fn store(&self, module: ContentId, code: &[u8]) {
        let path = self.path(module);
        if let Err(error) = self.try_store(&path, &self.header(module, code), code) {
            tracing::warn!(%error, path = %path.display(), "compiled wasm can't be kept");
        }
    }

    fn try_store(&self, path: &Path, header: &[u8], code: &[u8]) -> io::Result<()> {
        let bytes = (header.len() + code.len()) as u64;
        if bytes > self.bytes_max {
            return Ok(());
        }
        self.make_room(bytes)?;
        // One writer per module at a time; what a crash leaves is overwritten or evicted.
        let part = path.with_extension("part");
        fs::write(&part, [header, code].concat())?;
        fs::rename(&part, path)
    }

    /// Removes what was used longest ago until `bytes` more fit.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let about = entry.metadata()?;
            if about.is_file() {
                files.push((about.modified()?, entry.path(), about.len()));
            }
        }
        files.sort();
        let mut used: u64 = files.iter().map(|(.., bytes)| bytes).sum();
        for (_, path, freed) in files {
            if used.saturating_add(bytes) <= self.bytes_max {
                break;
            }
            fs::remove_file(path)?;
            used -= freed;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: ContentId = ContentId([7; 32]);

    fn cache(directory: &Path, bytes_max: u64) -> DiskCache {
        DiskCache::open(directory, bytes_max, &Engine::default()).unwrap()
    }

    #[test]
    fn what_is_stored_is_loaded_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(&directory.path().join("wasm"), 1 << 20);
        assert_eq!(cache.load(MODULE), None);
        cache.store(MODULE, b"code");
        assert_eq!(cache.load(MODULE).as_deref(), Some(b"code".as_slice()));
        assert_eq!(cache.load(ContentId([8; 32])), None);
        fs::copy(cache.path(MODULE), cache.path(ContentId([8; 32]))).unwrap();
        assert_eq!(cache.load(ContentId([8; 32])), None, "another module's file");
    }

    #[test]
    fn damaged_files_are_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path(), 1 << 20);
        cache.store(MODULE, b"code");
        let whole = fs::read(cache.path(MODULE)).unwrap();
        for cut in 0..whole.len() {
            fs::write(cache.path(MODULE), &whole[..cut]).unwrap();
            assert_eq!(cache.load(MODULE), None, "cut to {cut} bytes");
        }
        for position in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[position] ^= 1;
            fs::write(cache.path(MODULE), flipped).unwrap();
            assert_eq!(cache.load(MODULE), None, "byte {position} flipped");
        }
    }

    #[test]
    fn the_oldest_makes_room() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path(), 3 * (HEADER_BYTES as u64 + 100));
        let module = |n| ContentId([n; 32]);
        for n in 0..3 {
            cache.store(module(n), &[n; 100]);
            let age = std::time::Duration::from_secs(100 - u64::from(n));
            let file = fs::File::options().append(true).open(cache.path(module(n))).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        assert!(cache.load(module(0)).is_some(), "now the youngest");
        cache.store(module(3), &[3; 100]);
        let kept = [0, 1, 2, 3].map(|n| cache.load(module(n)).is_some());
        assert_eq!(kept, [true, false, true, true]);
        cache.store(module(4), &[4; 1000]);
        assert!(cache.load(module(4)).is_none() && cache.load(module(3)).is_some());
    }

    #[cfg(unix)]
    #[test]
    fn the_directory_is_the_nodes_alone() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        cache(directory.path(), 1);
        let mode = fs::metadata(directory.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
