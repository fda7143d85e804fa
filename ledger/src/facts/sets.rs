//! What a session or an agent has touched: exact sets on disk, a row for each member, bounded in number.

use std::fmt::Write as _;

use crate::ids::EntryIndex;
use crate::key::{self, RowKey};
use crate::limits::{AGENT_SET_MAX, ID_BYTES_MAX, SESSION_SET_MAX};
use crate::store::{Store, StoreFault, Table};
use crate::writes::Writes;

/// Which set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Set {
    /// Resources of a session and of what is below it.
    SessionResources = 1,
    /// Systems of a session and of what is below it.
    SessionSystems = 2,
    SessionCredentials = 3,
    SessionScopes = 4,
    /// Resources that were read, each with the turn that read it first.
    SessionReads = 5,
    AgentResources = 6,
    AgentTools = 7,
    AgentServers = 8,
    AgentCredentials = 9,
}

/// A member, by its digest: names can be long, and two that share 128 bits of BLAKE3 are not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member([u8; 16]);

impl Member {
    pub(crate) fn of(name: &str) -> Self {
        let [member @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *blake3::hash(name.as_bytes()).as_bytes();
        Self(member)
    }
}

/// Who touched a member of a session's set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touched {
    /// Only sessions below.
    Below,
    /// The session itself.
    Here,
}

impl Touched {
    fn byte(self) -> u8 {
        match self {
            Self::Below => 1,
            Self::Here => 2,
        }
    }
}

fn prefix(set: Set, scope: &[u8]) -> RowKey {
    key::join(&[&[set as u8], scope])
}

fn row_key(set: Set, scope: &[u8], member: Member) -> RowKey {
    key::join(&[&[set as u8], scope, &member.0])
}

/// Returns who of a session and those below it touched a member.
pub(crate) fn touched<S: Store>(writes: &Writes<'_, S>, set: Set, scope: &[u8], member: Member) -> Result<Option<Touched>, StoreFault> {
    let by = |value: &[u8]| if value.first() == Some(&Touched::Here.byte()) { Touched::Here } else { Touched::Below };
    writes.look(Table::Members, &row_key(set, scope, member), |row| Ok(row.map(by)))
}

pub(crate) fn touch<S: Store>(writes: &mut Writes<'_, S>, set: Set, scope: &[u8], member: Member, by: Touched) {
    writes.put_bytes(Table::Members, row_key(set, scope, member), vec![by.byte()]);
}

/// Returns every member of a set of a session.
pub(crate) fn members<S: Store>(writes: &Writes<'_, S>, set: Set, scope: &[u8]) -> Result<Vec<Member>, StoreFault> {
    let prefix = prefix(set, scope);
    let rows = writes.members_under(&prefix, usize::try_from(SESSION_SET_MAX).unwrap_or(usize::MAX))?;
    let member = |key: &Vec<u8>| key.get(prefix.len()..).and_then(|tail| tail.try_into().ok()).map(Member);
    Ok(rows.iter().filter_map(member).collect())
}

/// Whether a member was new to a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    New,
    Known,
    /// New, and the set is full: it does not remember it.
    Full,
}

/// Tells whether a member is in a set.
pub(crate) fn knows<S: Store>(writes: &Writes<'_, S>, set: Set, scope: &[u8], member: Member) -> Result<bool, StoreFault> {
    writes.has(Table::Members, &row_key(set, scope, member))
}

/// Enters a member into a set of which `size` members are known.
pub(crate) fn enter<S: Store>(
    writes: &mut Writes<'_, S>,
    set: Set,
    scope: &[u8],
    member: Member,
    size: u64,
) -> Result<Entered, StoreFault> {
    let key = row_key(set, scope, member);
    if writes.has(Table::Members, &key)? {
        return Ok(Entered::Known);
    }
    let is_of_agent = matches!(set, Set::AgentResources | Set::AgentTools | Set::AgentServers | Set::AgentCredentials);
    if size >= if is_of_agent { AGENT_SET_MAX } else { SESSION_SET_MAX } {
        return Ok(Entered::Full);
    }
    writes.put_bytes(Table::Members, key, vec![Touched::Here.byte()]);
    Ok(Entered::New)
}

/// Stands for the turn of a resource that only a write of the session itself showed: no turn read it.
const OWN_WRITE: u64 = u64::MAX;

/// Returns the turn in which a session read a resource first, or the turn that never is when its own write showed it.
pub(crate) fn turn_of_read<S: Store>(writes: &Writes<'_, S>, scope: &[u8], uri: &str) -> Result<Option<u64>, StoreFault> {
    turn_at(writes, &row_key(Set::SessionReads, scope, writes.member(uri)))
}

fn turn_at<S: Store>(writes: &Writes<'_, S>, key: &[u8]) -> Result<Option<u64>, StoreFault> {
    writes.look(Table::Members, key, |row| Ok(row.and_then(|value| value.try_into().ok()).map(u64::from_be_bytes)))
}

/// Remembers the first read of a resource, and tells whether it was that.
pub(crate) fn note_read<S: Store>(writes: &mut Writes<'_, S>, scope: &[u8], uri: &str, turn: u64) -> Result<bool, StoreFault> {
    let key = row_key(Set::SessionReads, scope, writes.member(uri));
    let is_first = turn_at(writes, &key)?.is_none_or(|known| known == OWN_WRITE);
    if is_first {
        writes.put_bytes(Table::Members, key, turn.to_be_bytes().to_vec());
    }
    Ok(is_first)
}

/// Remembers a resource that the outcome of a session's own write showed.
pub(crate) fn note_shown<S: Store>(writes: &mut Writes<'_, S>, scope: &[u8], uri: &str) -> Result<(), StoreFault> {
    let key = row_key(Set::SessionReads, scope, writes.member(uri));
    if turn_at(writes, &key)?.is_none() {
        writes.put_bytes(Table::Members, key, OWN_WRITE.to_be_bytes().to_vec());
    }
    Ok(())
}

/// The key of a row about a name that may be long.
pub(crate) fn named<S: Store>(writes: &Writes<'_, S>, tenant: &str, name: &str) -> RowKey {
    key::join(&[&key::length(tenant), tenant.as_bytes(), &writes.member(name).0])
}

/// Returns a name that is short enough to be kept in a row that is written often: itself, or its digest.
pub(crate) fn short(name: &str) -> String {
    if name.len() <= ID_BYTES_MAX { name.to_owned() } else { format!("blake3:{}", blake3::hash(name.as_bytes()).to_hex()) }
}

/// Digits of the length of a name, and what parts two of them.
const LENGTH_DIGITS: usize = 8;

/// Joins two names so that no other two give the same.
pub(crate) fn joined(one: &str, other: &str) -> String {
    let mut joined = String::with_capacity(one.len() + other.len() + LENGTH_DIGITS);
    // Writing to a string cannot fail.
    write!(joined, "{}", one.len()).unwrap_or_default();
    joined.push(':');
    joined.push_str(one);
    joined.push('/');
    joined.push_str(other);
    joined
}

/// Whether an intent was allowed. A row for each, so that nothing has to be read when one is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Granted {
    No = 0,
    Yes = 1,
}

/// The key of an intent.
pub(crate) fn intent(tenant: &str, session: &str, event_id: &[u8], granted: Granted) -> RowKey {
    key::join(&[&key::length(tenant), tenant.as_bytes(), &key::length(session), session.as_bytes(), event_id, &[granted as u8]])
}

pub(crate) fn unresolved(tenant: &str, index: EntryIndex) -> RowKey {
    key::join(&[&key::length(tenant), tenant.as_bytes(), &key::entry(index)])
}

/// Reads a key that [`unresolved`] made.
pub(crate) fn unresolved_place(key: &[u8]) -> Option<(&str, EntryIndex)> {
    let (tenant, index) = key.split_last_chunk()?;
    let tenant = std::str::from_utf8(tenant.get(2..)?).ok()?;
    Some((tenant, EntryIndex(u64::from_be_bytes(*index))))
}
