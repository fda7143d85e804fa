//! C2SP tlog-policy: whose signatures make a checkpoint trusted.
//!
//! A policy comes from one text form and goes back to it. Stricter than the C2SP text in one point: it must be UTF-8.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use thiserror::Error;

use crate::checkpoint::parse_decimal;
use crate::key::{KeyError, SignatureType, VerifierKey};
use crate::report::{Outcome, Refusal};

/// Longest policy that is parsed.
pub const POLICY_BYTES_MAX: usize = 256 * 1024;

const NO_QUORUM: &str = "none";

/// Why a text is no policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// Longer than [`POLICY_BYTES_MAX`].
    #[error("the policy has {bytes} bytes, at most {POLICY_BYTES_MAX} are read")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not UTF-8, or with a control character other than tab and newline, or without a newline at the end.
    #[error("the policy is not UTF-8 text of lines that end with a newline")]
    NotText,
    /// A line is wrong.
    #[error("policy line {line}: {source}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        source: PolicyLineError,
    },
    /// No line says which cosignatures are needed.
    #[error("the policy has no quorum line")]
    NoQuorum,
}

impl Refusal for PolicyError {
    fn outcome(&self) -> Outcome {
        Outcome::NotChecked
    }
}

/// What is wrong with one line of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyLineError {
    /// Not one of `log`, `witness`, `group`, `quorum`, or with the wrong number of items.
    #[error("expected: log VKEY [URL] | witness NAME VKEY [URL] | group NAME all|any|K MEMBER... | quorum NAME|none")]
    Form,
    /// The key is malformed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A log's key is no log key, or a witness's no cosigner key.
    #[error("key {key} makes another kind of signature than a {role} needs")]
    KeyRole {
        /// The key.
        key: String,
        /// `log` or `witness`.
        role: &'static str,
    },
    /// The key stands in the policy already.
    #[error("the key of {0} stands in the policy already")]
    DuplicateKey(String),
    /// The name is taken, or the reserved `none`.
    #[error("the name {0:?} is taken")]
    NameTaken(String),
    /// No line before this one defines the name.
    #[error("{0:?} is not defined before this line")]
    Undefined(String),
    /// The name is a member of a group already.
    #[error("{0:?} is a member of a group already")]
    MemberTwice(String),
    /// The threshold is not between 1 and the number of members.
    #[error("a threshold of {threshold:?} does not fit {members} members")]
    Threshold {
        /// As written.
        threshold: String,
        /// Members of the group.
        members: usize,
    },
    /// There is a quorum line already.
    #[error("the policy has a quorum line already")]
    QuorumTwice,
    /// A URL, a name or a member has white space or control characters, or is empty.
    #[error("{0:?} is not one word")]
    NotAWord(String),
}

/// How many members of a group must have cosigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// One of them.
    Any,
    /// Every one.
    All,
    /// This many.
    Of(usize),
}

impl fmt::Display for Threshold {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => out.write_str("any"),
            Self::All => out.write_str("all"),
            Self::Of(count) => count.fmt(out),
        }
    }
}

/// A key with the address that the policy may name for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyKey {
    /// The key.
    pub key: VerifierKey,
    /// Where its holder is reached. Never used here.
    pub url: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    name: String,
    threshold: Threshold,
    members: Vec<String>,
}

impl Group {
    fn needed(&self) -> usize {
        match self.threshold {
            Threshold::Any => 1,
            Threshold::All => self.members.len(),
            Threshold::Of(count) => count,
        }
    }
}

/// Which cosignatures a checkpoint needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quorum {
    /// None at all: the log's own signature is enough.
    NotAsked,
    /// Those of this witness or group.
    Of(String),
}

/// A policy under construction, line by line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyDraft {
    logs: Vec<PolicyKey>,
    witnesses: BTreeMap<String, PolicyKey>,
    /// Witness names in the order of their lines.
    witness_order: Vec<String>,
    groups: Vec<Group>,
    quorum: Option<Quorum>,
}

impl PolicyDraft {
    /// Adds a log that is trusted to sign checkpoints of the origin that its key names.
    ///
    /// # Errors
    /// [`PolicyLineError`].
    pub fn add_log(&mut self, key: VerifierKey, url: Option<&str>) -> Result<(), PolicyLineError> {
        if key.signature_type() != SignatureType::Ed25519 {
            return Err(PolicyLineError::KeyRole { key: key.to_string(), role: "log" });
        }
        if self.logs.iter().any(|log| log.key.public_key() == key.public_key()) {
            return Err(PolicyLineError::DuplicateKey(key.name().to_string()));
        }
        self.logs.push(PolicyKey { key, url: url.map(word).transpose()? });
        Ok(())
    }

    /// Adds a witness: a node, or somebody outside.
    ///
    /// # Errors
    /// [`PolicyLineError`].
    pub fn add_witness(&mut self, name: &str, key: VerifierKey, url: Option<&str>) -> Result<(), PolicyLineError> {
        if key.signature_type() != SignatureType::CosignatureV1 {
            return Err(PolicyLineError::KeyRole { key: key.to_string(), role: "witness" });
        }
        if self.witnesses.values().any(|witness| witness.key.public_key() == key.public_key()) {
            return Err(PolicyLineError::DuplicateKey(key.name().to_string()));
        }
        let name = self.new_name(name)?;
        self.witnesses.insert(name.clone(), PolicyKey { key, url: url.map(word).transpose()? });
        self.witness_order.push(name);
        Ok(())
    }

    /// Adds a group of witnesses and of groups that were added before.
    ///
    /// # Errors
    /// [`PolicyLineError`].
    pub fn add_group(&mut self, name: &str, threshold: Threshold, members: &[&str]) -> Result<(), PolicyLineError> {
        let name = self.new_name(name)?;
        let mut taken: BTreeSet<&str> = self.groups.iter().flat_map(|group| &group.members).map(String::as_str).collect();
        for &member in members {
            if !self.is_defined(member) {
                return Err(PolicyLineError::Undefined(member.to_owned()));
            }
            if !taken.insert(member) {
                return Err(PolicyLineError::MemberTwice(member.to_owned()));
            }
        }
        let group = Group { name, threshold, members: members.iter().map(|&member| member.to_owned()).collect() };
        if !(1..=members.len()).contains(&group.needed()) {
            return Err(PolicyLineError::Threshold { threshold: threshold.to_string(), members: members.len() });
        }
        self.groups.push(group);
        Ok(())
    }

    /// Says which witness or group makes the quorum; `none` asks for no cosignature.
    ///
    /// # Errors
    /// [`PolicyLineError`].
    pub fn set_quorum(&mut self, name: &str) -> Result<(), PolicyLineError> {
        if self.quorum.is_some() {
            return Err(PolicyLineError::QuorumTwice);
        }
        if name != NO_QUORUM && !self.is_defined(name) {
            return Err(PolicyLineError::Undefined(name.to_owned()));
        }
        self.quorum = Some(if name == NO_QUORUM { Quorum::NotAsked } else { Quorum::Of(name.to_owned()) });
        Ok(())
    }

    /// Completes the policy.
    ///
    /// # Errors
    /// [`PolicyError::NoQuorum`].
    pub fn finish(mut self) -> Result<Policy, PolicyError> {
        let quorum = self.quorum.take().ok_or(PolicyError::NoQuorum)?;
        Ok(Policy { lines: self, quorum })
    }

    fn new_name(&self, name: &str) -> Result<String, PolicyLineError> {
        if name == NO_QUORUM || self.is_defined(name) { Err(PolicyLineError::NameTaken(name.to_owned())) } else { word(name) }
    }

    fn is_defined(&self, name: &str) -> bool {
        self.witnesses.contains_key(name) || self.groups.iter().any(|group| group.name == name)
    }

    fn add_line(&mut self, line: &str) -> Result<(), PolicyLineError> {
        let items: Vec<&str> = line.split([' ', '\t']).filter(|item| !item.is_empty()).collect();
        match items.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", key] => self.add_log(VerifierKey::parse(key)?, None),
            ["log", key, url] => self.add_log(VerifierKey::parse(key)?, Some(url)),
            ["witness", name, key] => self.add_witness(name, VerifierKey::parse(key)?, None),
            ["witness", name, key, url] => self.add_witness(name, VerifierKey::parse(key)?, Some(url)),
            ["group", name, threshold, members @ ..] => self.add_group(name, parse_threshold(threshold, members.len())?, members),
            ["quorum", name] => self.set_quorum(name),
            _ => Err(PolicyLineError::Form),
        }
    }
}

/// A complete policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    lines: PolicyDraft,
    quorum: Quorum,
}

impl Policy {
    /// Parses the text of a policy file.
    ///
    /// # Errors
    /// [`PolicyError`], with the number of the line.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > POLICY_BYTES_MAX {
            return Err(PolicyError::TooLong { bytes: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| PolicyError::NotText)?;
        let is_forbidden = |it: char| it.is_ascii_control() && it != '\n' && it != '\t';
        let lines = text.strip_suffix('\n').filter(|it| !it.contains(is_forbidden)).ok_or(PolicyError::NotText)?;
        let mut draft = PolicyDraft::default();
        for (text, line) in lines.split('\n').zip(1..) {
            draft.add_line(text).map_err(|source| PolicyError::Line { line, source })?;
        }
        draft.finish()
    }

    /// Makes the usual policy of a cluster: its log key, and cosignatures of `threshold` of its nodes.
    ///
    /// # Errors
    /// [`PolicyLineError`].
    pub fn of_cluster(log: VerifierKey, nodes: Vec<VerifierKey>, threshold: Threshold) -> Result<Self, PolicyLineError> {
        let mut lines = PolicyDraft::default();
        lines.add_log(log, None)?;
        let names: Vec<String> = nodes.iter().map(|node| node.name().to_string()).collect();
        for (name, node) in names.iter().zip(nodes) {
            lines.add_witness(name, node, None)?;
        }
        let members: Vec<&str> = names.iter().map(String::as_str).collect();
        lines.add_group("nodes", threshold, &members)?;
        Ok(Self { lines, quorum: Quorum::Of("nodes".to_owned()) })
    }

    /// Returns the text of the policy file, without comments.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        for log in &self.lines.logs {
            text.push_str(&format!("log {}{}\n", log.key, tail(log.url.as_deref())));
        }
        for (name, witness) in self.witnesses() {
            text.push_str(&format!("witness {name} {}{}\n", witness.key, tail(witness.url.as_deref())));
        }
        for group in &self.lines.groups {
            text.push_str(&format!("group {} {} {}\n", group.name, group.threshold, group.members.join(" ")));
        }
        let quorum = match &self.quorum {
            Quorum::NotAsked => NO_QUORUM,
            Quorum::Of(name) => name,
        };
        text.push_str(&format!("quorum {quorum}\n"));
        text
    }

    /// Returns the trusted logs.
    #[must_use]
    pub fn logs(&self) -> &[PolicyKey] {
        &self.lines.logs
    }

    /// Returns the witnesses by the names that they have in the policy, in the order of their lines.
    pub fn witnesses(&self) -> impl Iterator<Item = (&str, &PolicyKey)> {
        self.lines.witness_order.iter().filter_map(|name| Some((name.as_str(), self.lines.witnesses.get(name)?)))
    }

    /// Returns which cosignatures a checkpoint needs.
    #[must_use]
    pub fn quorum(&self) -> &Quorum {
        &self.quorum
    }

    /// Tells whether cosignatures of these witnesses, by their names in the policy, are enough.
    #[must_use]
    pub fn is_met_by(&self, cosigned: &BTreeSet<&str>) -> bool {
        let Quorum::Of(quorum) = &self.quorum else { return true };
        // A group names only what stands before it, so one pass in order is enough.
        let mut satisfied = cosigned.clone();
        for group in &self.lines.groups {
            if group.members.iter().filter(|member| satisfied.contains(member.as_str())).count() >= group.needed() {
                satisfied.insert(&group.name);
            }
        }
        satisfied.contains(quorum.as_str())
    }
}

fn tail(url: Option<&str>) -> String {
    url.map_or_else(String::new, |url| format!(" {url}"))
}

fn word(text: &str) -> Result<String, PolicyLineError> {
    let is_word = !text.is_empty() && !text.contains(|it: char| it == ' ' || it.is_ascii_control()) && !text.starts_with('#');
    if is_word { Ok(text.to_owned()) } else { Err(PolicyLineError::NotAWord(text.to_owned())) }
}

fn parse_threshold(text: &str, members: usize) -> Result<Threshold, PolicyLineError> {
    match text {
        "all" => Ok(Threshold::All),
        "any" => Ok(Threshold::Any),
        _ => parse_decimal(text)
            .and_then(|count| usize::try_from(count).ok())
            .map(Threshold::Of)
            .ok_or_else(|| PolicyLineError::Threshold { threshold: text.to_owned(), members }),
    }
}
