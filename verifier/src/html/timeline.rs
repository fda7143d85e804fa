//! Entries as rows.

use proofline_proto::v1::{self, event::Body as EventBody};
use v1::entry_core::Body;

use super::text::safe;
use crate::entry::LogEntry;
use crate::evidence::facts;
use crate::rfc3339;

/// One entry, as a reader sees it. Its texts are not safe yet.
#[derive(Clone, Debug)]
pub(super) struct Row {
    index: u64,
    time: String,
    agent: String,
    session: String,
    action: String,
    resource: String,
    verdict: String,
    pub(super) findings: Vec<String>,
    /// What a containment did.
    pub(super) containment: Option<String>,
}

impl Row {
    pub(super) fn of(entry: &LogEntry) -> Self {
        let attribution = entry.event.as_ref().and_then(|event| event.attribution.as_ref());
        let agent = attribution.and_then(|it| it.agent.as_ref()).map(|it| it.agent_id.clone()).unwrap_or_default();
        let (action, resource) = match entry.event.as_ref().and_then(|event| event.body.as_ref()) {
            Some(body) => action(body),
            None => (facts::entry_kind(&entry.body).to_owned(), String::new()),
        };
        let containment = match &entry.body {
            Body::Containment(of) => Some(containment(of)),
            _ => None,
        };
        let decision = entry.decision.as_ref();
        Self {
            index: entry.index.0,
            time: rfc3339::of_nanoseconds(entry.committed_unix_ns),
            agent,
            session: entry.session.as_ref().map(|place| place.session_id.clone()).unwrap_or_default(),
            action,
            resource,
            verdict: decision.map(facts::verdict).unwrap_or_default(),
            findings: decision.into_iter().flat_map(|it| &it.findings).map(|it| it.rule_id.clone()).collect(),
            containment,
        }
    }

    /// Returns the row of the timeline.
    pub(super) fn html(&self) -> String {
        let class = if matches!(self.verdict.as_str(), "" | "ALLOW") { "" } else { " class=\"deny\"" };
        format!(
            "<tr><td class=\"n\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td{class}>{}</td><td>{}</td></tr>",
            self.index,
            self.time,
            safe(&self.agent),
            safe(&self.session),
            safe(&self.action),
            safe(self.containment.as_ref().unwrap_or(&self.resource)),
            safe(&self.verdict),
            safe(&self.findings.join(", "))
        )
    }

    /// Returns the row of the table of findings and containment.
    pub(super) fn finding_html(&self) -> String {
        let what = if self.findings.is_empty() { self.action.clone() } else { self.findings.join(", ") };
        let detail = self.containment.clone().unwrap_or_else(|| format!("{} {}", self.action, self.resource));
        format!(
            "<tr><td class=\"n\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            self.index,
            self.time,
            safe(&what),
            safe(&detail),
            safe(&self.verdict)
        )
    }
}

fn containment(of: &v1::Containment) -> String {
    let targets: Vec<_> = of.targets.iter().map(|target| format!("{}/{}", target.tenant_id, target.id)).collect();
    let change = of.change().as_str_name().trim_start_matches("CONTAINMENT_CHANGE_").to_lowercase();
    let action = of.action().as_str_name().trim_start_matches("CONTAINMENT_ACTION_").to_lowercase();
    format!("containment {} {change}: {action} {} ({})", of.containment_id, targets.join(", "), of.reason)
}

/// What an event did, and to what.
fn action(of: &EventBody) -> (String, String) {
    let kind = facts::event_kind(of);
    let uris = |resources: Vec<&v1::Resource>| resources.iter().map(|it| it.uri.as_str()).collect::<Vec<_>>().join(", ");
    match of {
        EventBody::ActionIntent(it) => {
            let tool = it.tool.as_ref().map_or("", |tool| tool.name.as_str());
            (format!("{kind}: {tool}"), uris(it.resources.iter().collect()))
        }
        EventBody::ActionOutcome(it) => (kind.to_owned(), uris(it.accesses.iter().filter_map(|access| access.resource.as_ref()).collect())),
        EventBody::DataAccess(it) => (kind.to_owned(), uris(it.resource.iter().collect())),
        EventBody::CredentialUsed(it) => (kind.to_owned(), uris(it.target.iter().collect())),
        EventBody::MemoryAccess(it) => (kind.to_owned(), format!("{} {}", it.store_id, it.record_id)),
        EventBody::SubAgentSpawned(it) => (kind.to_owned(), it.child_session_id.clone()),
        EventBody::HandedOff(it) => (kind.to_owned(), it.to_session_id.clone()),
        EventBody::McpConnected(it) => (kind.to_owned(), it.server_id.clone()),
        EventBody::ToolDefined(it) => (format!("{kind}: {}", it.name), it.server_id.clone()),
        _ => (kind.to_owned(), String::new()),
    }
}
