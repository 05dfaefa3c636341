//! `archipelag cargo new`: a small working wasm Cargo in Rust to start from.

use super::{Error, FILE, wrong};
use archipelag_protocol::manifest::check_slug;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where `@SLUG@` stands for the slug, and `@NAME@` for a name made from it.
const FILES: [(&str, &str); 7] = [
    (FILE, include_str!("skeleton/cargo.toml")),
    ("input.schema.json", include_str!("skeleton/input.schema.json")),
    ("output.schema.json", include_str!("skeleton/output.schema.json")),
    ("cases/hello.json", include_str!("skeleton/hello.json")),
    ("guest/Cargo.toml", include_str!("skeleton/guest.toml")),
    ("guest/src/main.rs", include_str!("skeleton/guest.rs")),
    ("build.sh", include_str!("skeleton/build.sh")),
];

/// Writes the skeleton into `folder`, which must not exist or be empty, and gives its files.
///
/// # Errors
/// When the folder's name is no slug, it has content, or it can't be written.
pub fn create(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |reason: io::Error| Error::Io { path, reason }
    };
    let shown = folder.display().to_string();
    let slug = folder.file_name().and_then(|name| name.to_str()).unwrap_or("");
    check_slug(slug).map_err(|_| {
        wrong(&shown, "the folder's name becomes the slug: 1 to 64 lower-case letters, digits and inner hyphens")
    })?;
    match fs::read_dir(folder) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(wrong(&shown, "not empty"));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(folder)(error)),
    }
    let mut written = Vec::new();
    for (name, text) in FILES {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io(parent))?;
        }
        let text = text.replace("@SLUG@", slug).replace("@NAME@", &title(slug));
        fs::write(&path, text).map_err(io(&path))?;
        written.push(path);
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let script = folder.join("build.sh");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).map_err(io(&script))?;
    }
    Ok(written)
}

/// `word-count` as `Word count`.
fn title(slug: &str) -> String {
    let words = slug.replace('-', " ");
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
