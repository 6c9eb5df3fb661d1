//! Sets of client addresses.

use ipnet::IpNet;

use super::ruleset::Family;

/// Addresses of one family, as the shortest list of prefixes that do not touch: equal sets have equal lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientSet {
    family: Family,
    prefixes: Vec<IpNet>,
}

impl ClientSet {
    pub fn everybody(family: Family) -> Self {
        Self {
            family,
            prefixes: vec![family.everything()],
        }
    }

    /// Prefixes of another family are left out.
    pub fn new(family: Family, prefixes: &[IpNet]) -> Self {
        let prefixes = prefixes
            .iter()
            .filter(|one| Family::of(one.addr()) == family)
            .map(IpNet::trunc)
            .collect();
        Self {
            family,
            prefixes: IpNet::aggregate(&prefixes),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    pub fn is_everybody(&self) -> bool {
        self.prefixes == [self.family.everything()]
    }

    pub fn intersect(&self, other: &Self) -> Self {
        let mut common = Vec::new();
        for one in &self.prefixes {
            for two in &other.prefixes {
                if one.contains(two) {
                    common.push(*two);
                } else if two.contains(one) {
                    common.push(*one);
                }
            }
        }
        Self::new(self.family, &common)
    }

    pub fn subtract(&self, other: &Self) -> Self {
        let mut left = self.prefixes.clone();
        for gone in &other.prefixes {
            left = left.iter().flat_map(|one| without(*one, *gone)).collect();
        }
        Self::new(self.family, &left)
    }

    pub fn unite(&self, other: &Self) -> Self {
        let mut all = self.prefixes.clone();
        all.extend(&other.prefixes);
        Self::new(self.family, &all)
    }

    pub fn complement(&self) -> Self {
        Self::everybody(self.family).subtract(self)
    }

    pub fn is_subset(&self, other: &Self) -> bool {
        self.subtract(other).is_empty()
    }

    /// The same as lists of who is let in (everybody if it is empty) and who of them is not, as short as they can be.
    pub fn lists(&self) -> (Vec<IpNet>, Vec<IpNet>) {
        if self.is_everybody() {
            return (Vec::new(), Vec::new());
        }
        let plain = (self.prefixes.clone(), Vec::new());
        let hull = self.hull();
        let holes = Self::new(self.family, &[hull]).subtract(self);
        if self.prefixes.len() <= holes.prefixes.len() + 1 {
            return plain;
        }
        let allow = if hull.prefix_len() == 0 {
            Vec::new()
        } else {
            vec![hull]
        };
        (allow, holes.prefixes)
    }

    /// The longest prefix that holds all of them.
    fn hull(&self) -> IpNet {
        let mut hull = self
            .prefixes
            .first()
            .copied()
            .unwrap_or(self.family.everything());
        while !self.prefixes.iter().all(|one| hull.contains(one)) {
            hull = hull.supernet().unwrap_or(self.family.everything());
        }
        hull
    }
}

/// What is left of `whole`.
fn without(whole: IpNet, gone: IpNet) -> Vec<IpNet> {
    if gone.contains(&whole) {
        return Vec::new();
    }
    if !whole.contains(&gone) {
        return vec![whole];
    }
    let mut left = Vec::new();
    let mut rest = whole;
    while rest != gone {
        let Ok(halves) = rest.subnets(rest.prefix_len() + 1) else {
            break;
        };
        for half in halves {
            if half.contains(&gone) {
                rest = half;
            } else {
                left.push(half);
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(prefixes: &[&str]) -> ClientSet {
        let prefixes: Vec<IpNet> = prefixes.iter().map(|one| one.parse().unwrap()).collect();
        ClientSet::new(Family::V4, &prefixes)
    }

    #[test]
    fn a_hole_is_a_deny_list() {
        let set = set(&["10.0.0.7/32"]).complement();
        assert_eq!(set.prefixes.len(), 32);
        assert_eq!(set.lists(), (vec![], vec!["10.0.0.7/32".parse().unwrap()]));
    }

    #[test]
    fn a_hole_in_a_prefix_is_both_lists() {
        let set = set(&["10.0.0.0/8"]).subtract(&set(&["10.0.0.7/32"]));
        let lists = (
            vec!["10.0.0.0/8".parse().unwrap()],
            vec!["10.0.0.7/32".parse().unwrap()],
        );
        assert_eq!(set.lists(), lists);
    }

    #[test]
    fn halves_are_one() {
        let both = set(&["10.0.0.0/25"]).unite(&set(&["10.0.0.128/25"]));
        assert_eq!(both, set(&["10.0.0.0/24"]));
        assert!(set(&["10.0.0.3/32"]).is_subset(&both));
        assert!(both.subtract(&set(&["0.0.0.0/0"])).is_empty());
        assert!(set(&["0.0.0.0/1", "128.0.0.0/1"]).is_everybody());
    }
}
