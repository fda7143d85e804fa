//! One action, from the prompt to its outcome: which links of the chain are on record, and which are absent.

use proofline_proto::v1;
use proofline_verifier::{EntryIndex, LogEntry};
use thiserror::Error;
use v1::event::Body;

/// A link of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkName {
    /// The prompt or plan that the action follows from.
    Intent,
    /// What rules said of it, ours or those of an engine outside.
    PolicyDecision,
    /// With which it was done.
    Credential,
    /// In which it was done.
    Session,
    /// What the agent was about to do.
    Action,
    /// What came of it.
    Outcome,
}

impl LinkName {
    /// Returns the name for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::PolicyDecision => "policy decision",
            Self::Credential => "credential",
            Self::Session => "session",
            Self::Action => "action",
            Self::Outcome => "outcome",
        }
    }

    /// Returns what it means for people that the link is absent.
    #[must_use]
    pub const fn absence(self) -> &'static str {
        match self {
            Self::Intent => "no prompt or plan was declared before it",
            Self::PolicyDecision => "no rules were in force, and no decision of an engine outside is on record",
            Self::Credential => "no credential is named",
            Self::Session => "no session is bound",
            Self::Action => "no record of what was to be done",
            Self::Outcome => "no record of what came of it",
        }
    }
}

/// A link that is on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFound {
    /// The entry that shows it.
    pub index: EntryIndex,
    /// What it says, in one line.
    pub detail: String,
}

/// The chain of one action, in its order; `None` where a link is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Every link once.
    pub links: Vec<(LinkName, Option<LinkFound>)>,
}

impl Explanation {
    /// Returns the links that are absent.
    pub fn absent(&self) -> impl Iterator<Item = LinkName> {
        self.links.iter().filter(|(_, found)| found.is_none()).map(|(name, _)| *name)
    }
}

/// The entry tells of no action.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "entry {0} is not among the session's entries, or tells of no action: ask about an intent, an outcome, an access to data or a model call"
)]
pub struct NotAnAction(pub EntryIndex);

/// Explains the action that the entry at `at` tells of, from all entries of its session.
///
/// # Errors
/// [`NotAnAction`].
pub fn explain(entries: &[LogEntry], at: EntryIndex) -> Result<Explanation, NotAnAction> {
    let events: Vec<Recorded<'_>> = entries.iter().filter_map(Recorded::of).collect();
    let asked = events.iter().copied().find(|it| it.entry.index == at).ok_or(NotAnAction(at))?;
    let (action, outcome) = match asked.body {
        Body::ActionIntent(_) => (Some(asked), outcome_of(&events, &asked.event.event_id)),
        Body::ActionOutcome(it) => (intent_named(&events, &it.intent_event_id), Some(asked)),
        // What only a target or a provider reports is action and outcome in one.
        Body::DataAccess(_) | Body::ModelCall(_) | Body::MemoryAccess(_) => (Some(asked), Some(asked)),
        _ => return Err(NotAnAction(at)),
    };
    let decided = action.unwrap_or(asked);
    let links = vec![
        (LinkName::Intent, prompt(&events, decided)),
        (LinkName::PolicyDecision, policy_decision(&events, decided)),
        (LinkName::Credential, credential(&events, decided)),
        (LinkName::Session, entries.first().and_then(session)),
        (LinkName::Action, action.map(|it| it.found(what(it.body)))),
        (LinkName::Outcome, outcome.map(|it| it.found(came_of(it.body)))),
    ];
    Ok(Explanation { links })
}

/// An entry of an event, with what it holds.
#[derive(Clone, Copy)]
struct Recorded<'a> {
    entry: &'a LogEntry,
    event: &'a v1::Event,
    body: &'a Body,
}

impl<'a> Recorded<'a> {
    fn of(entry: &'a LogEntry) -> Option<Self> {
        let event = entry.event.as_ref()?;
        Some(Self { entry, event, body: event.body.as_ref()? })
    }

    fn found(&self, detail: String) -> LinkFound {
        LinkFound { index: self.entry.index, detail }
    }
}

fn intent_named<'a>(events: &[Recorded<'a>], id: &[u8]) -> Option<Recorded<'a>> {
    events.iter().copied().find(|it| matches!(it.body, Body::ActionIntent(_)) && it.event.event_id == id)
}

fn outcome_of<'a>(events: &[Recorded<'a>], id: &[u8]) -> Option<Recorded<'a>> {
    events.iter().copied().find(|it| matches!(it.body, Body::ActionOutcome(outcome) if outcome.intent_event_id == id))
}

/// Returns the intent that the action names as its cause, or else the last that was declared before it.
fn prompt(events: &[Recorded<'_>], action: Recorded<'_>) -> Option<LinkFound> {
    let declared = |it: &&Recorded<'_>| matches!(it.body, Body::IntentDeclared(_)) && it.entry.index < action.entry.index;
    let cause = action.event.session.as_ref().map(|it| it.parent_event_id.as_slice()).filter(|it| !it.is_empty());
    let named = events.iter().filter(declared).find(|it| Some(it.event.event_id.as_slice()) == cause);
    let found = named.or_else(|| events.iter().rev().find(declared))?;
    let Body::IntentDeclared(it) = found.body else { return None };
    let said = if it.summary_ref.is_empty() { &it.template } else { &it.summary_ref };
    Some(found.found(if it.declared_purpose.is_empty() { said.clone() } else { format!("{said} for {}", it.declared_purpose) }))
}

/// The ledger's own decision counts when rules were in force, an outside engine's when it names the action.
fn policy_decision(events: &[Recorded<'_>], action: Recorded<'_>) -> Option<LinkFound> {
    let by_rules = action.entry.decision.as_ref().filter(|it| !it.rule_set_digest.is_empty()).map(|decision| {
        let rules: Vec<&str> = decision.findings.iter().map(|it| it.rule_id.as_str()).collect();
        let verdict = decision.verdict().as_str_name().trim_start_matches("VERDICT_");
        action.found(if rules.is_empty() { verdict.to_owned() } else { format!("{verdict}: {}", rules.join(", ")) })
    });
    by_rules.or_else(|| {
        events.iter().find_map(|it| match it.body {
            Body::PolicyDecision(said) if said.intent_event_id == action.event.event_id => {
                let verdict = said.verdict().as_str_name().trim_start_matches("VERDICT_");
                Some(it.found(format!("{verdict} by {} {}", said.engine, said.policy_id)))
            }
            _ => None,
        })
    })
}

/// Returns where the credential of the action was issued, or else where the session showed it first.
fn credential(events: &[Recorded<'_>], action: Recorded<'_>) -> Option<LinkFound> {
    let of =
        |it: &Recorded<'_>| it.event.attribution.as_ref().and_then(|it| it.credential.clone()).filter(|it| !it.credential_id.is_empty());
    let id = of(&action)?.credential_id;
    let issued = events.iter().find_map(|it| match it.body {
        Body::CredentialIssued(issued) => {
            issued.credential.as_ref().filter(|it| it.credential_id == id).map(|_| it.found(format!("{id}, issued")))
        }
        _ => None,
    });
    issued.or_else(|| {
        let first = events.iter().find(|it| of(it).is_some_and(|it| it.credential_id == id))?;
        Some(first.found(format!("{id}, first shown; no record of its issue in the session")))
    })
}

fn session(first: &LogEntry) -> Option<LinkFound> {
    let place = first.session.as_ref()?;
    let attribution = first.event.as_ref().and_then(|it| it.attribution.as_ref());
    let by = attribution.and_then(|it| it.agent.as_ref()).map_or("an unnamed agent", |it| it.agent_id.as_str());
    let of = attribution.and_then(|it| it.initiator.as_ref()).map_or("nobody named", |it| it.subject.as_str());
    Some(LinkFound { index: first.index, detail: format!("{} by {by} for {of}", place.session_id) })
}

fn what(body: &Body) -> String {
    match body {
        Body::ActionIntent(it) => {
            let verb = it.verb().as_str_name().trim_start_matches("ACTION_VERB_");
            let tool = it.tool.as_ref().map_or("", |tool| tool.name.as_str());
            let resources: Vec<&str> = it.resources.iter().map(|it| it.uri.as_str()).collect();
            format!("{verb} {tool} {}", resources.join(" ")).trim_end().to_owned()
        }
        Body::DataAccess(it) => format!("access to {}", it.resource.as_ref().map_or("", |it| it.uri.as_str())),
        Body::ModelCall(it) => format!("model call to {}", it.request_model),
        Body::MemoryAccess(it) => format!("memory {} {}", it.store_id, it.record_id),
        _ => String::new(),
    }
}

fn came_of(body: &Body) -> String {
    let status = |it: v1::OutcomeStatus| it.as_str_name().trim_start_matches("OUTCOME_STATUS_").to_owned();
    match body {
        Body::ActionOutcome(it) if it.error_type.is_empty() => format!("{}, {} records", status(it.status()), it.records),
        Body::ActionOutcome(it) => format!("{}: {}", status(it.status()), it.error_type),
        Body::DataAccess(it) => format!("{}, {} records", status(it.status()), it.records),
        Body::ModelCall(it) => format!("{}, {} tokens", status(it.status()), it.input_tokens.saturating_add(it.output_tokens)),
        Body::MemoryAccess(it) => format!("{} records", it.records),
        _ => String::new(),
    }
}
