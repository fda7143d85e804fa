//! Merkle trees by the recursive definitions of RFC 9162 section 2.1, with no sharing of code with what is tested.

use sha2::Digest as _;

pub(crate) type Hash = [u8; 32];

/// How a tree hashes.
#[derive(Clone, Copy)]
pub(crate) struct Naive {
    pub(crate) leaf: fn(&[u8]) -> Hash,
    pub(crate) node: fn(&Hash, &Hash) -> Hash,
    empty: fn() -> Hash,
}

pub(crate) const LOG: Naive = Naive {
    leaf: |bytes| sha2::Sha256::digest([&[0], bytes].concat()).into(),
    node: |left, right| sha2::Sha256::digest([&[1][..], left, right].concat()).into(),
    empty: || sha2::Sha256::digest([]).into(),
};

pub(crate) const CONTENT: Naive = Naive {
    leaf: |bytes| blake3::derive_key("proofline/v1 tree leaf", bytes),
    node: |left, right| blake3::derive_key("proofline/v1 tree node", &[*left, *right].concat()),
    empty: || blake3::derive_key("proofline/v1 tree node", &[]),
};

impl Naive {
    pub(crate) fn leaves(&self, contents: &[impl AsRef<[u8]>]) -> Vec<Hash> {
        contents.iter().map(|bytes| (self.leaf)(bytes.as_ref())).collect()
    }

    /// MTH of section 2.1.1.
    pub(crate) fn root(&self, leaves: &[Hash]) -> Hash {
        match leaves {
            [] => (self.empty)(),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len()));
                (self.node)(&self.root(left), &self.root(right))
            }
        }
    }

    /// PATH of section 2.1.3.1.
    pub(crate) fn path(&self, leaves: &[Hash], index: usize) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let middle = split(leaves.len());
        let (left, right) = leaves.split_at(middle);
        let (mut path, sibling) =
            if index < middle { (self.path(left, index), self.root(right)) } else { (self.path(right, index - middle), self.root(left)) };
        path.push(sibling);
        path
    }

    /// The set proof of some leaves, and the hashes that it is made of.
    pub(crate) fn set_path(&self, leaves: &[Hash], listed: &[usize]) -> Vec<Hash> {
        if listed.is_empty() {
            return vec![self.root(leaves)];
        }
        if leaves.len() == 1 {
            return Vec::new();
        }
        let middle = split(leaves.len());
        let left: Vec<_> = listed.iter().copied().filter(|it| *it < middle).collect();
        let right: Vec<_> = listed.iter().filter(|it| **it >= middle).map(|it| it - middle).collect();
        [self.set_path(&leaves[..middle], &left), self.set_path(&leaves[middle..], &right)].concat()
    }

    /// PROOF of section 2.1.4.1.
    pub(crate) fn consistency(&self, leaves: &[Hash], older: usize) -> Vec<Hash> {
        if older == 0 || older == leaves.len() { Vec::new() } else { self.subproof(leaves, older, Known::Yes) }
    }

    fn subproof(&self, leaves: &[Hash], older: usize, known: Known) -> Vec<Hash> {
        if older == leaves.len() {
            return match known {
                Known::Yes => Vec::new(),
                Known::No => vec![self.root(leaves)],
            };
        }
        let middle = split(leaves.len());
        let (left, right) = leaves.split_at(middle);
        let (mut proof, sibling) = if older <= middle {
            (self.subproof(left, older, known), self.root(right))
        } else {
            (self.subproof(right, older - middle, Known::No), self.root(left))
        };
        proof.push(sibling);
        proof
    }
}

/// Whether the reader knows the root of the subtree already.
#[derive(Clone, Copy)]
enum Known {
    Yes,
    No,
}

fn split(leaves: usize) -> usize {
    leaves.next_power_of_two() / 2
}
