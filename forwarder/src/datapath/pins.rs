//! Where maps and links are pinned, so that traffic goes on without the daemon.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::{
    mount::{MsFlags, mount},
    sys::{
        socket::{AddressFamily, SockFlag, SockType, socket},
        statfs::statfs,
    },
};

use super::syscall;
use crate::fault;

/// The kernel's usual place for bpffs.
pub(super) const BPFFS: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` in include/uapi/linux/magic.h.
pub(super) const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// The directory that holds one network namespace's pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    directory: PathBuf,
}

impl Pins {
    /// Where this network namespace's pins are, whether or not there are any.
    ///
    /// # Errors
    /// The namespace cannot be told.
    pub fn here() -> anyhow::Result<Self> {
        // bpffs takes no dots in names (kernel/bpf/inode.c, bpf_lookup).
        let mut name = format!("v{}", fault::abi());
        if let Some(namespace) = namespace()? {
            name = format!("{name}-netns-{namespace}");
        }
        Ok(Self {
            directory: Path::new(BPFFS).join("forwarder").join(name),
        })
    }

    pub(super) fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Makes the directory, and mounts bpffs where it is missing.
    ///
    /// # Errors
    /// bpffs is missing and cannot be mounted, or the directory cannot be made.
    pub fn create(&self) -> anyhow::Result<()> {
        let magic = statfs(BPFFS).with_context(|| format!("{BPFFS} is missing"))?;
        if magic.filesystem_type().0 as u64 != BPF_FS_MAGIC {
            let none: Option<&str> = None;
            mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), none).with_context(|| {
                format!("bpffs is not mounted: run `mount -t bpf bpf {BPFFS}` first")
            })?;
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .with_context(|| format!("cannot create {}", self.directory.display()))
    }

    /// Whether anything is pinned here.
    pub fn exist(&self) -> bool {
        self.directory.exists()
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the map `name` is pinned. The kernel keeps names with dots for itself (`bpf_lookup` in kernel/bpf/inode.c),
    /// and sections have them.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        map_in(&self.directory, name)
    }

    pub(super) fn link(&self, hook: &str, interface: u32) -> PathBuf {
        self.directory.join(format!("link-{hook}-{interface}"))
    }

    /// Every pinned link, with its hook and device index.
    pub(super) fn links(&self) -> anyhow::Result<Vec<(PathBuf, String, u32)>> {
        let mut links = Vec::new();
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(links),
            Err(error) => return Err(error.into()),
        };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Some((hook, index)) = name
                .strip_prefix("link-")
                .and_then(|rest| rest.rsplit_once('-'))
            else {
                continue;
            };
            let (hook, index) = (hook.to_owned(), index.parse()?);
            links.push((path, hook, index));
        }
        Ok(links)
    }

    /// Removes the pins of network namespaces that are gone: those whose every link has lost its device.
    /// Returns of how many namespaces.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn sweep(&self) -> anyhow::Result<usize> {
        let mut count = 0;
        let parent = self.directory.parent().context("pins have a directory")?;
        for entry in fs::read_dir(parent)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path == self.directory || !name.contains("-netns-") {
                continue;
            }
            let other = Self {
                directory: path.clone(),
            };
            let links = other.links()?;
            let gone = |path: &Path| syscall::link_device(path).is_ok_and(|index| index == 0);
            if !links.is_empty() && links.iter().all(|(path, _, _)| gone(path)) {
                other.remove()?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Removes everything, links first; returns how many pins there were.
    pub(super) fn remove(&self) -> anyhow::Result<usize> {
        let mut count = 0;
        for (path, _, _) in self.links()? {
            unpin_link(&path)?;
            count += 1;
        }
        for entry in fs::read_dir(&self.directory)? {
            fs::remove_file(entry?.path())?;
            count += 1;
        }
        fs::remove_dir(&self.directory)?;
        if let Some(parent) = self.directory.parent() {
            let _others_are_there = fs::remove_dir(parent);
        }
        Ok(count)
    }
}

/// As [`Pins::map`], in any directory of pins.
pub(super) fn map_in(directory: &Path, name: &str) -> PathBuf {
    let name = name.trim_start_matches(".bss.");
    directory.join(name.to_lowercase())
}

/// Takes a link off its device and removes its pin.
pub(super) fn unpin_link(path: &Path) -> io::Result<()> {
    // It fails for a filter's mark, which is no link, and for a device that is gone. Either way the pin goes.
    let _not_a_link = syscall::detach_link(path);
    fs::remove_file(path)
}

/// The cookie of this network namespace (Linux 5.14, commit e88b64ea), or its inode before that; `None` for
/// the one that process 1 is in.
fn namespace() -> anyhow::Result<Option<u64>> {
    let own = fs::metadata("/proc/self/ns/net")?.ino();
    if is_first() {
        return Ok(None);
    }
    let probe = socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    Ok(Some(cookie(&probe).unwrap_or(own)))
}

/// Whether this is the namespace of process 1. `/proc/1/ns/net` is hidden from a service that has fewer capabilities
/// than process 1; any file in `/proc/1/net` is not, and each namespace has files of its own there. Of this
/// thread: it may be in another one than its process.
fn is_first() -> bool {
    let number =
        |process: &str| fs::metadata(format!("/proc/{process}/net/dev")).map(|file| file.ino());
    matches!((number("1"), number("thread-self")), (Ok(first), Ok(own)) if first == own)
}

fn cookie(socket: &impl std::os::fd::AsFd) -> Option<u64> {
    /// include/uapi/asm-generic/socket.h
    const SO_NETNS_COOKIE: libc::c_int = 71;
    use std::os::fd::AsRawFd as _;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: both out-pointers lead to live values of the sizes given.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    (result == 0).then_some(cookie)
}
