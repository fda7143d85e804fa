//! What the annotations of a rule say.

use cedar_policy::Policy;
use proofline_proto::v1;

use super::check::RuleFault;

/// What follows when a rule matches, the milder first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Consequence {
    /// A finding, nothing else.
    Alert,
    /// The person must authenticate anew.
    StepUp,
    /// Somebody else must approve the exact action.
    RequireApproval,
    /// The event is denied.
    Deny,
    /// Denied, and the session is contained until it is released.
    SuspendSession,
    /// Denied, and the session is contained.
    RevokeSession,
    /// Denied, and the credential is contained.
    RevokeCredential,
    /// Denied, and the agent is contained.
    QuarantineAgent,
    /// Denied, and the MCP server is contained.
    BlockServer,
}

impl Consequence {
    const ALL: [(&'static str, Self); 9] = [
        ("alert", Self::Alert),
        ("step_up", Self::StepUp),
        ("require_approval", Self::RequireApproval),
        ("deny", Self::Deny),
        ("suspend_session", Self::SuspendSession),
        ("revoke_session", Self::RevokeSession),
        ("revoke_credential", Self::RevokeCredential),
        ("quarantine_agent", Self::QuarantineAgent),
        ("block_server", Self::BlockServer),
    ];

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, it)| *it)
    }

    /// Returns the name that the annotation has.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, it)| *it == self).map_or("", |(name, _)| name)
    }

    pub(crate) fn denies(self) -> bool {
        self >= Self::Deny
    }

    /// Returns the containment that follows, if one does.
    pub(crate) fn containment(self) -> Option<v1::ContainmentAction> {
        match self {
            Self::Alert | Self::StepUp | Self::RequireApproval | Self::Deny => None,
            Self::SuspendSession => Some(v1::ContainmentAction::SuspendSession),
            Self::RevokeSession => Some(v1::ContainmentAction::RevokeSession),
            Self::RevokeCredential => Some(v1::ContainmentAction::RevokeCredential),
            Self::QuarantineAgent => Some(v1::ContainmentAction::QuarantineAgent),
            Self::BlockServer => Some(v1::ContainmentAction::BlockServer),
        }
    }
}

/// Whether a rule acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// What it says follows.
    Enforce,
    /// It leaves a finding, and nothing follows.
    Observe,
}

/// What is said of a rule beside its conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `@id`: stands in every finding.
    pub id: String,
    /// `@containment`.
    pub consequence: Consequence,
    /// `@severity`.
    pub severity: v1::Severity,
    /// `@on_error`; without it, a critical rule does when it errs what it does when it matches, and any other alerts.
    pub on_error: Consequence,
    /// `@mode`.
    pub mode: Mode,
    /// `@asi`: entries of the OWASP list, comma-separated.
    pub asi: String,
    /// `@description`.
    pub description: String,
}

impl Rule {
    /// Reads the annotations of a policy.
    pub(super) fn read(policy: &Policy) -> Result<Self, Vec<RuleFault>> {
        let mut faults = Vec::new();
        for (name, _) in policy.annotations() {
            if !["id", "containment", "severity", "on_error", "asi", "mode", "description"].contains(&name) {
                faults.push(RuleFault::UnknownAnnotation(name.to_owned()));
            }
        }
        faults.sort_by_key(ToString::to_string);
        let id = policy.annotation("id").unwrap_or_default().to_owned();
        if !is_rule_id(&id) {
            faults.push(RuleFault::BadId(id.clone()));
        }
        let mut read = |name: &'static str| {
            let text = policy.annotation(name)?;
            let parsed = Consequence::parse(text);
            if parsed.is_none() {
                faults.push(RuleFault::BadValue { name, value: text.to_owned(), allowed: Self::consequences() });
            }
            Some(parsed.unwrap_or(Consequence::Alert))
        };
        let (consequence, on_error) = (read("containment"), read("on_error"));
        if consequence.is_none() {
            faults.push(RuleFault::MissingAnnotation("containment"));
        }
        let severity = severity(policy, &mut faults);
        let mode = match policy.annotation("mode") {
            None | Some("enforce") => Mode::Enforce,
            Some("observe") => Mode::Observe,
            Some(other) => {
                faults.push(RuleFault::BadValue { name: "mode", value: other.to_owned(), allowed: "enforce, observe".to_owned() });
                Mode::Enforce
            }
        };
        if !faults.is_empty() {
            return Err(faults);
        }
        let consequence = consequence.unwrap_or(Consequence::Alert);
        let by_default = if severity == v1::Severity::Critical { consequence } else { Consequence::Alert };
        let text = |name| policy.annotation(name).unwrap_or_default().to_owned();
        let on_error = on_error.unwrap_or(by_default);
        Ok(Self { id, consequence, severity, on_error, mode, asi: text("asi"), description: text("description") })
    }

    fn consequences() -> String {
        Consequence::ALL.map(|(name, _)| name).join(", ")
    }
}

fn severity(policy: &Policy, faults: &mut Vec<RuleFault>) -> v1::Severity {
    match policy.annotation("severity") {
        Some("info") => v1::Severity::Info,
        Some("low") => v1::Severity::Low,
        Some("medium") => v1::Severity::Medium,
        Some("high") => v1::Severity::High,
        Some("critical") => v1::Severity::Critical,
        Some(other) => {
            let allowed = "info, low, medium, high, critical".to_owned();
            faults.push(RuleFault::BadValue { name: "severity", value: other.to_owned(), allowed });
            v1::Severity::Unspecified
        }
        None => {
            faults.push(RuleFault::MissingAnnotation("severity"));
            v1::Severity::Unspecified
        }
    }
}

/// Ids sort as they read, and none can be taken for a finding of the ledger's own, which has a slash.
fn is_rule_id(id: &str) -> bool {
    let is_allowed = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.');
    !id.is_empty() && id.len() <= 64 && id.bytes().all(is_allowed)
}
