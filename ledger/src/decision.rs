//! The decision that stands in each event's entry: the verdict, and the findings that led to it.

use proofline_proto::v1;
use v1::{ContainmentAction, FindingKind, TargetKind, Verdict};

use crate::approvals::{Asked, Standing};
use crate::containment::{self, Cover};
use crate::facts::Observed;
use crate::hash::Hash;
use crate::ids::EntryIndex;
use crate::key;
use crate::ledger::Ledger;
use crate::limits::{FACTS_KEPT_BYTES_MAX, FINDINGS_MAX, OBSERVED_GAP_MAX_NS};
use crate::row::AgentRow;
use crate::rules::{Because, Consequence, Fired, Mode, Rule};
use crate::store::{Store, StoreFault, Table};
use crate::writes::Writes;

/// Decides on an event that is recorded next. `agent` is the event's, or the one that its session is bound to; `cover` is
/// what of containments covers the event. What a rule contains is contained for the very next event.
pub(crate) fn decide<S: Store>(
    ledger: &mut Ledger,
    writes: &mut Writes<'_, S>,
    event: &v1::Event,
    agent: &str,
    cover: &Cover,
    observed: &Observed<'_>,
) -> Result<v1::Decision, StoreFault> {
    let mut deciding = Deciding { event, agent, index: ledger.log.next(), findings: Vec::new(), verdict: Verdict::Allow };
    deciding.built_in(ledger, cover, observed);
    let ruled = deciding.by_rules(ledger, writes, observed)?;
    deciding.bound_findings();
    Ok(v1::Decision {
        verdict: deciding.verdict.into(),
        findings: deciding.findings,
        // Made with those of other events, when the entry is completed.
        facts_digest: Vec::new(),
        rule_set_digest: ledger.rules.as_ref().map(|rules| rules.digest().0.to_vec()).unwrap_or_default(),
        action_digest: ruled.map(|digest| digest.0.to_vec()).unwrap_or_default(),
    })
}

struct Deciding<'a> {
    event: &'a v1::Event,
    agent: &'a str,
    index: EntryIndex,
    findings: Vec<v1::Finding>,
    verdict: Verdict,
}

/// A rule that matched, and what follows from it.
struct Consequent {
    rule: Rule,
    because: Because,
    consequence: Consequence,
}

impl Deciding<'_> {
    /// What the ledger says of itself, whatever the rules are.
    fn built_in(&mut self, ledger: &Ledger, cover: &Cover, observed: &Observed<'_>) {
        match observed.facts.agent_state.as_str() {
            "decommissioned" => self.deny("built-in/agent-decommissioned", 0),
            "suspended" => self.deny("built-in/agent-suspended", 0),
            "unregistered" => self.findings.push(built_in("built-in/agent-unregistered", v1::Severity::Low)),
            _ => (),
        }
        if let Some(containment_id) = cover.first {
            self.deny("built-in/contained", containment_id);
        }
        if cover.is_too_wide {
            self.deny("built-in/lineage-too-wide", 0);
        }
        if self.event.observed_unix_ns.abs_diff(ledger.log.now().0) > OBSERVED_GAP_MAX_NS {
            self.findings.push(built_in("built-in/observed-time-gap", v1::Severity::Info));
        }
        if observed.facts.unattributed {
            self.findings.push(built_in("built-in/unattributed", v1::Severity::Medium));
        }
    }

    /// Sorts the findings; keeps the gravest when there are more than an entry has room for.
    fn bound_findings(&mut self) {
        if self.findings.len() > FINDINGS_MAX {
            self.findings.sort_by_key(|it| (std::cmp::Reverse(it.containment_id != 0), std::cmp::Reverse(it.severity)));
            self.findings.truncate(FINDINGS_MAX);
            self.findings.push(built_in("built-in/more-findings", v1::Severity::High));
        }
        self.findings.sort_by(|one, other| one.rule_id.cmp(&other.rule_id));
    }

    fn deny(&mut self, rule: &str, containment_id: u64) {
        self.findings.push(v1::Finding { containment_id, ..built_in(rule, v1::Severity::Critical) });
        self.verdict = Verdict::Deny;
    }

    /// Lets the active rules speak. Returns the digest of the action when it needs an approval.
    fn by_rules<S: Store>(
        &mut self,
        ledger: &mut Ledger,
        writes: &mut Writes<'_, S>,
        observed: &Observed<'_>,
    ) -> Result<Option<Hash>, StoreFault> {
        let Some(rules) = &ledger.rules else { return Ok(None) };
        let mut to_approve = Vec::new();
        let mut spoke = false;
        let fired: Vec<Consequent> = rules.fired(&observed.facts).iter().map(Consequent::of).collect();
        for it in fired {
            spoke = true;
            if it.rule.mode == Mode::Observe {
                self.findings.push(it.finding(FindingKind::ObserveOnly));
                continue;
            }
            let mut finding = it.finding(it.kind());
            match it.consequence {
                Consequence::Alert => (),
                Consequence::StepUp => self.verdict = stronger(self.verdict, Verdict::StepUp),
                Consequence::RequireApproval => {
                    to_approve.push((it.rule.id.clone(), self.findings.len()));
                }
                Consequence::Deny
                | Consequence::SuspendSession
                | Consequence::RevokeSession
                | Consequence::RevokeCredential
                | Consequence::QuarantineAgent
                | Consequence::BlockServer => self.verdict = Verdict::Deny,
            }
            if let Some(action) = it.consequence.containment()
                && let Some(contain) = self.contained_by(&it.rule, action)
            {
                finding.containment_id = containment::by_rule(ledger, writes, &contain, self.index)?;
            }
            self.findings.push(finding);
        }
        if spoke {
            let facts = observed.encoded();
            // Not digested: the digest of the facts stands in the entry.
            if facts.len() <= FACTS_KEPT_BYTES_MAX {
                writes.keep(Table::DecisionFacts, key::entry(self.index), facts);
            }
        }
        self.approve(ledger, writes, to_approve)
    }

    /// Asks for an approval, or uses one up where nothing else stands against the event.
    fn approve<S: Store>(
        &mut self,
        ledger: &Ledger,
        writes: &mut Writes<'_, S>,
        rules: Vec<(String, usize)>,
    ) -> Result<Option<Hash>, StoreFault> {
        if rules.is_empty() {
            return Ok(None);
        }
        let asked = Asked::of(writes, self.event, self.agent)?;
        let now = ledger.log.now();
        let ids: Vec<&str> = rules.iter().map(|(rule, _)| rule.as_str()).collect();
        match asked.as_ref().map(|asked| asked.standing(now, &ids)) {
            Some(Standing::Approved) if self.verdict == Verdict::Allow => {
                for (_, at) in rules {
                    if let Some(finding) = self.findings.get_mut(at) {
                        finding.kind = FindingKind::Approved.into();
                    }
                }
                if let Some(asked) = asked {
                    asked.use_up(writes, self.index);
                }
                return Ok(None);
            }
            Some(Standing::Denied) => self.verdict = Verdict::Deny,
            // The yes stays good for when nothing else is in the way.
            Some(Standing::Approved) => return Ok(None),
            Some(Standing::Open) | None => self.verdict = stronger(self.verdict, Verdict::RequireApproval),
        }
        let digest = asked.as_ref().map(|asked| asked.digest);
        if let Some(asked) = asked.filter(|_| self.verdict == Verdict::RequireApproval) {
            asked.ask(writes, rules.into_iter().map(|(rule, _)| rule).collect(), self.index, now);
        }
        Ok(digest.filter(|_| self.verdict == Verdict::RequireApproval))
    }

    /// Returns what a rule contains. What an agent says of itself is no ground to stop others: then its session is stopped.
    fn contained_by(&self, rule: &Rule, action: ContainmentAction) -> Option<v1::Contain> {
        let tenant = &self.event.tenant_id;
        let attribution = self.event.attribution.as_ref();
        let is_own_word = self.event.vantage() == v1::Vantage::SelfReported;
        let (kind, id) = match action {
            ContainmentAction::RevokeCredential if !is_own_word => {
                (TargetKind::Credential, attribution.and_then(|it| it.credential.as_ref()).map_or("", |it| &it.credential_id))
            }
            ContainmentAction::BlockServer if !is_own_word => (TargetKind::Server, containment::server(self.event).unwrap_or_default()),
            ContainmentAction::QuarantineAgent => (TargetKind::Agent, self.agent),
            ContainmentAction::SuspendSession
            | ContainmentAction::RevokeSession
            | ContainmentAction::RevokeCredential
            | ContainmentAction::BlockServer
            | ContainmentAction::HaltAgents
            | ContainmentAction::Unspecified => (TargetKind::Session, ""),
        };
        let session = self.event.session.as_ref().map_or("", |it| it.session_id.as_str());
        let (kind, id, action) = match (kind, id, action) {
            (TargetKind::Session, _, ContainmentAction::SuspendSession) => (TargetKind::Session, session, action),
            // What the event does not name cannot be stopped by name; its session can.
            (TargetKind::Session, ..) | (_, "", _) => (TargetKind::Session, session, ContainmentAction::RevokeSession),
            named => named,
        };
        let target = v1::Target { kind: kind.into(), tenant_id: tenant.clone(), id: id.to_owned() };
        (!id.is_empty()).then(|| v1::Contain {
            target: Some(target),
            action: action.into(),
            reason: format!("rule {}", rule.id),
            incident_id: String::new(),
        })
    }
}

impl Consequent {
    fn of(fired: &Fired<'_>) -> Self {
        Self { rule: fired.rule.clone(), because: fired.because, consequence: fired.consequence() }
    }

    fn kind(&self) -> FindingKind {
        match self.because {
            Because::Matched => FindingKind::Match,
            Because::Erred => FindingKind::RuleError,
        }
    }

    fn finding(&self, kind: FindingKind) -> v1::Finding {
        v1::Finding { rule_id: self.rule.id.clone(), severity: self.rule.severity.into(), kind: kind.into(), containment_id: 0 }
    }
}

/// Returns the verdict that lets less through.
fn stronger(one: Verdict, other: Verdict) -> Verdict {
    let strength = |verdict| match verdict {
        Verdict::Unspecified | Verdict::Allow => 0,
        Verdict::StepUp => 1,
        Verdict::RequireApproval => 2,
        Verdict::Deny => 3,
    };
    if strength(other) > strength(one) { other } else { one }
}

fn built_in(rule: &str, severity: v1::Severity) -> v1::Finding {
    v1::Finding { rule_id: rule.to_owned(), severity: severity.into(), kind: FindingKind::BuiltIn.into(), containment_id: 0 }
}

/// Records an agent that is seen for the first time as UNREGISTERED; `key` is its row's.
pub(crate) fn note_agent<S: Store>(ledger: &Ledger, writes: &mut Writes<'_, S>, key: &[u8], agent: &str) -> Result<(), StoreFault> {
    if agent.is_empty() || writes.has(Table::Agents, key)? {
        return Ok(());
    }
    let row = AgentRow {
        state: v1::AgentState::Unregistered.into(),
        first_seen_index: ledger.log.next().0,
        first_seen_unix_ns: ledger.log.now().0,
        registration: None,
    };
    writes.put(Table::Agents, key, &row);
    Ok(())
}
