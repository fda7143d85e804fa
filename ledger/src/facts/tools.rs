//! Definitions of tools: which of them are good.

use proofline_proto::v1;

use super::row::{Held, ToolRow};
use super::sets;
use crate::event::is_identifier;
use crate::ledger::Judged;
use crate::limits::{ID_BYTES_MAX, REASON_BYTES_MAX, TOOL_PINS_MAX};
use crate::refusal::Refusal;
use crate::store::{Store, Table};
use crate::writes::Writes;

/// Length of the digest of a definition.
const DIGEST_BYTES: usize = 32;

/// Carries out an operator's word on which definition of a tool is good.
pub(crate) fn pin<S: Store>(writes: &mut Writes<'_, S>, it: &v1::PinTool) -> Judged<()> {
    if let Err(refusal) = check(it) {
        return Ok(Err(refusal));
    }
    let key = sets::named(writes, &it.tenant_id, &sets::joined(&it.server_id, &it.tool_name));
    let mut row = Held::<ToolRow>::read(writes, Table::ToolDefinitions, key)?;
    let mut pinned = if it.beside_others { row.now.good() } else { Vec::new() };
    if !pinned.contains(&it.definition_sha256) {
        pinned.push(it.definition_sha256.clone());
    }
    if pinned == row.now.pinned {
        return Ok(Err(Refusal::AlreadyDone { what: "definition of tool", name: it.tool_name.clone(), state: "pinned" }));
    }
    if pinned.len() > TOOL_PINS_MAX {
        let (actual, limit) = (pinned.len() as u64, TOOL_PINS_MAX as u64);
        return Ok(Err(Refusal::TooLarge { what: "pinned definitions of one tool", actual, limit }));
    }
    row.now.pinned = pinned;
    row.now.call(&it.server_id, &it.tool_name);
    row.write(writes)?;
    Ok(Ok(()))
}

fn check(it: &v1::PinTool) -> Result<(), Refusal> {
    let is_server = it.server_id.is_empty() || is_identifier(&it.server_id);
    if !is_identifier(&it.tenant_id) || !is_server || !is_identifier(&it.tool_name) {
        return Err(Refusal::Malformed("the pin names no tenant or no tool, or its server by no proper name"));
    }
    if it.definition_sha256.len() != DIGEST_BYTES {
        return Err(Refusal::Malformed("the definition is named by its SHA-256, 32 bytes"));
    }
    let is_reason = !it.reason.is_empty() && it.reason.len() <= REASON_BYTES_MAX;
    if is_reason { Ok(()) } else { Err(Refusal::Malformed("the pin gives no reason, or one that is too long")) }
}

impl ToolRow {
    /// Tells whether a definition is another than a good one. Of a tool that shows none there is nothing to compare.
    pub(crate) fn drifts(&self, definition: &[u8]) -> bool {
        let is_good = match self.pinned.as_slice() {
            [] => self.first.is_empty() || self.first == definition,
            pinned => pinned.iter().any(|it| it == definition),
        };
        !definition.is_empty() && !is_good
    }

    /// What was pinned; where nothing was, what was seen first.
    pub(crate) fn good(&self) -> Vec<Vec<u8>> {
        if self.pinned.is_empty() && !self.first.is_empty() { vec![self.first.clone()] } else { self.pinned.clone() }
    }

    /// Remembers what the tool is called.
    pub(crate) fn call(&mut self, server: &str, name: &str) {
        if self.name.is_empty() {
            self.name = name.chars().take(ID_BYTES_MAX).collect();
            self.server = sets::short(server);
        }
    }

    /// Returns what people are shown of it.
    pub(crate) fn summary(self) -> v1::ToolSummary {
        v1::ToolSummary {
            drift: self.drifts(&self.newest),
            server_id: self.server,
            tool_name: self.name,
            first_sha256: self.first,
            newest_sha256: self.newest,
            newest_unix_ns: self.newest_unix_ns,
            pinned_sha256: self.pinned,
        }
    }
}
