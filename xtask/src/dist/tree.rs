//! Files as they are to lie on the user's host, with modes that leave nothing open to others.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// A directory that stands for `/`.
pub struct Tree(PathBuf);

impl Tree {
    /// An empty one.
    pub fn create(root: &Path) -> Result<Self> {
        if root.exists() {
            fs::remove_dir_all(root).with_context(|| format!("cannot empty {}", root.display()))?;
        }
        make(root)?;
        Ok(Self(root.to_owned()))
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// An empty directory.
    pub fn directory(&self, path: &str) -> Result<()> {
        make(&self.0.join(path))
    }

    /// A file that everybody may read.
    pub fn file(&self, path: &str, content: &[u8]) -> Result<()> {
        self.put(path, content, 0o644)
    }

    /// One that everybody may run.
    pub fn program(&self, path: &str, content: &[u8]) -> Result<()> {
        self.put(path, content, 0o755)
    }

    /// A copy of a file of the repository or of what was built.
    pub fn copy(&self, from: &Path, path: &str) -> Result<()> {
        self.file(path, &read(from)?)
    }

    fn put(&self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        let path = self.0.join(path);
        if let Some(parent) = path.parent() {
            make(parent)?;
        }
        fs::write(&path, content)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(mode)))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// KiB of all files.
    pub fn size(&self) -> Result<u64> {
        Ok(bytes(&self.0)?.div_ceil(1024))
    }
}

/// Reads a file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Whatever the umask: every directory on the way is made by this.
fn make(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make(parent)?;
    }
    fs::create_dir(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot create {}", path.display()))
}

fn bytes(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() {
            bytes(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(sum)
}
