//! Another's XDP program on a device that is to have ours.

use std::fmt;

use super::{others, syscall};

/// It is neither replaced nor taken off unless that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupant {
    /// Its number.
    pub id: u32,
    /// What it is called; empty if it has no name, or this process may not see it.
    pub name: String,
    /// The link by which it is there; `None` if it was put there without one, or this process may not see it.
    pub link: Option<u32>,
    /// Whether it is generic instead of in the driver.
    pub generic: bool,
}

impl Occupant {
    /// The program `id`, unless it is ours.
    pub fn of(id: u32, generic: bool) -> Option<Self> {
        // Without CAP_SYS_ADMIN, which the daemon gives up, only the number can be told.
        let loaded = others::loaded().unwrap_or_default();
        (!others::is_ours(id)).then(|| Self {
            id,
            name: loaded.name(id).to_owned(),
            link: loaded.link(id),
            generic,
        })
    }

    /// The command that takes it off `device`.
    pub fn off(&self, device: &str) -> String {
        match self.link {
            Some(link) => format!("bpftool link detach id {link}"),
            None if self.generic => format!("ip link set dev {device} xdpgeneric off"),
            None => format!("ip link set dev {device} xdp off"),
        }
    }

    /// Takes it off, if it is there by a link. False if it is not.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn detach_link(&self) -> std::io::Result<bool> {
        match self.link {
            Some(link) => syscall::detach_link_id(link).map(|()| true),
            None => Ok(false),
        }
    }
}

impl fmt::Display for Occupant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.as_str() {
            "" => write!(formatter, "number {}", self.id),
            name => write!(formatter, "`{name}`, number {}", self.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Some(7), false, "bpftool link detach id 7")]
    #[case(None, false, "ip link set dev eth0 xdp off")]
    #[case(None, true, "ip link set dev eth0 xdpgeneric off")]
    fn it_is_named_and_so_is_what_takes_it_off(
        #[case] link: Option<u32>,
        #[case] generic: bool,
        #[case] off: &str,
    ) {
        let mut it = Occupant {
            id: 37,
            name: "theirs".to_owned(),
            link,
            generic,
        };
        assert_eq!(it.off("eth0"), off);
        assert_eq!(it.to_string(), "`theirs`, number 37");
        it.name.clear();
        assert_eq!(it.to_string(), "number 37");
    }
}
