//! Files of the home directory: written atomically, secret ones for their owner alone.

use super::Error;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::Path,
};

/// A text or key file that is longer is not one of ours.
const MAX_TEXT_BYTES: usize = 1 << 20;
const SECRET_FILE: u32 = 0o600;
const DIRECTORY: u32 = 0o700;

fn failed(path: &Path) -> impl Fn(io::Error) -> Error {
    move |reason| Error::Io { path: path.to_owned(), reason }
}

/// Creates `path` and what leads to it; refuses one that others can write to.
pub(super) fn create_directory(path: &Path) -> Result<(), Error> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, DIRECTORY);
    builder.create(path).map_err(failed(path))?;
    check_mode(path, &fs::metadata(path).map_err(failed(path))?, 0o022, DIRECTORY)
}

#[cfg(unix)]
fn check_mode(path: &Path, found: &fs::Metadata, forbidden: u32, wanted: u32) -> Result<(), Error> {
    if std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & forbidden == 0 {
        return Ok(());
    }
    Err(Error::Exposed { path: path.to_owned(), wanted })
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the same signature as on Unix")]
fn check_mode(_: &Path, _: &fs::Metadata, _: u32, _: u32) -> Result<(), Error> {
    Ok(())
}

/// The file's bytes; `None` when there is none. At most `limit` bytes are read.
pub(super) fn read(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, Error> {
    open(path)?.map(|file| read_open(path, file, limit)).transpose()
}

fn open(path: &Path) -> Result<Option<File>, Error> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path)(error)),
    }
}

fn read_open(path: &Path, file: File, limit: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(failed(path))?;
    if bytes.len() > limit {
        let reason = format!("longer than {limit} bytes");
        return Err(Error::Malformed { path: path.to_owned(), reason });
    }
    Ok(bytes)
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(bytes)
        .map_err(|_| Error::Malformed { path: path.to_owned(), reason: "not UTF-8".into() })
}

pub(super) fn read_text(path: &Path) -> Result<Option<String>, Error> {
    read(path, MAX_TEXT_BYTES)?.map(|bytes| text(path, bytes)).transpose()
}

/// As [`read_text`], and refuses a file that anybody else can touch.
pub(super) fn read_secret(path: &Path) -> Result<Option<String>, Error> {
    let Some(file) = open(path)? else { return Ok(None) };
    check_mode(path, &file.metadata().map_err(failed(path))?, 0o077, SECRET_FILE)?;
    text(path, read_open(path, file, MAX_TEXT_BYTES)?).map(Some)
}

fn secret_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, SECRET_FILE);
    options
}

/// Opens or creates a file that only its owner can touch.
pub(super) fn open_secret(path: &Path) -> io::Result<File> {
    secret_options().open(path)
}

/// Writes a secret that is not there yet; `false` when another process was faster.
pub(super) fn write_secret(path: &Path, bytes: &[u8]) -> Result<bool, Error> {
    match put(path, bytes, true) {
        Ok(()) => Ok(true),
        Err(Error::Io { reason, .. }) if reason.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Replaces a file.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    put(path, bytes, false)
}

fn put(path: &Path, bytes: &[u8], only_new: bool) -> Result<(), Error> {
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    let put = || {
        // Left over by an earlier process of this id, perhaps with other permissions.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = secret_options().create_new(true).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        if only_new {
            let linked = fs::hard_link(&temporary, path);
            fs::remove_file(&temporary)?;
            linked?;
        } else {
            fs::rename(&temporary, path)?;
        }
        match path.parent() {
            Some(parent) if cfg!(unix) => File::open(parent)?.sync_all(),
            _ => Ok(()),
        }
    };
    put().map_err(failed(path))
}
