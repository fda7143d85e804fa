//! What an agent was allowed to do, set against what it did: a review of access from use, not from settings.

use std::collections::{BTreeMap, BTreeSet};

use proofline_proto::v1;
use proofline_verifier::{EntryIndex, LogEntry};
use v1::event::Body;

/// How something was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// How often.
    pub times: u64,
    /// The greatest risk that its tool was said to have.
    pub tier: v1::RiskTier,
    /// The last entry of it, and when that was committed, in nanoseconds since 1970.
    pub last: (EntryIndex, u64),
}

/// Granted against used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessReview {
    /// Purposes that the agent acted under; those that nobody declared grant nothing.
    pub purposes: BTreeMap<String, Declared>,
    /// A purpose that bounds no tools, or no resources, grants any.
    pub any_tool: bool,
    /// The same of resources.
    pub any_resource: bool,
    /// Tools that were called and allowed.
    pub tools: BTreeMap<String, Use>,
    /// Resources that such calls named.
    pub resources: BTreeMap<String, Use>,
    /// Tools that purposes allow and the agent never called.
    pub tools_not_used: BTreeSet<String>,
    /// Resources, or their beginnings, that purposes allow and the agent never named.
    pub resources_not_used: BTreeSet<String>,
    /// Tools that it called and no purpose allows, the riskiest first, then the latest.
    pub tools_not_granted: Vec<String>,
    /// Resources that it named and no purpose allows, in the same order.
    pub resources_not_granted: Vec<String>,
    /// Credentials that were issued to its sessions and never shown by it.
    pub credentials_not_used: BTreeSet<String>,
}

/// Whether a purpose stands in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// It does.
    Yes,
    /// Nobody declared it.
    No,
}

/// Reviews an agent from all entries that carry it, and the purposes that are declared.
pub fn review_access<'a>(entries: impl IntoIterator<Item = &'a LogEntry>, declared: &[v1::DeclarePurpose]) -> AccessReview {
    let mut review = AccessReview::default();
    let (mut issued, mut shown) = (BTreeSet::new(), BTreeSet::new());
    for entry in entries {
        let Some(event) = &entry.event else { continue };
        if let Some(of) = &event.attribution {
            shown.extend(of.credential.iter().map(|it| it.credential_id.clone()));
            if !of.purpose_id.is_empty() {
                let is_declared = declared.iter().any(|it| it.purpose_id == of.purpose_id);
                review.purposes.insert(of.purpose_id.clone(), if is_declared { Declared::Yes } else { Declared::No });
            }
        }
        match &event.body {
            Some(Body::CredentialIssued(it)) => issued.extend(it.credential.iter().map(|it| it.credential_id.clone())),
            Some(Body::ActionIntent(it)) if is_allowed(entry) => review.note(entry, it),
            Some(_) | None => (),
        }
    }
    review.credentials_not_used = issued.difference(&shown).filter(|id| !id.is_empty()).cloned().collect();
    review.compare(declared);
    review
}

fn is_allowed(entry: &LogEntry) -> bool {
    entry.decision.as_ref().is_some_and(|it| it.verdict() == v1::Verdict::Allow)
}

impl AccessReview {
    fn note(&mut self, entry: &LogEntry, intent: &v1::ActionIntent) {
        let tier = intent.tool.as_ref().map(v1::Tool::tier).unwrap_or_default();
        let last = (entry.index, entry.committed_unix_ns);
        let add = |uses: &mut BTreeMap<String, Use>, name: &str| {
            if !name.is_empty() {
                let known = uses.entry(name.to_owned()).or_insert(Use { times: 0, tier, last });
                *known = Use { times: known.times + 1, tier: known.tier.max(tier), last };
            }
        };
        add(&mut self.tools, intent.tool.as_ref().map_or("", |it| &it.name));
        intent.resources.iter().for_each(|it| add(&mut self.resources, &it.uri));
    }

    fn compare(&mut self, declared: &[v1::DeclarePurpose]) {
        let granting: Vec<_> = declared.iter().filter(|it| self.purposes.contains_key(&it.purpose_id)).collect();
        self.any_tool = granting.iter().any(|it| it.allowed_tools.is_empty());
        self.any_resource = granting.iter().any(|it| it.allowed_resources.is_empty());
        let tools: BTreeSet<&String> = granting.iter().flat_map(|it| &it.allowed_tools).collect();
        let uris: BTreeSet<&String> = granting.iter().flat_map(|it| &it.allowed_resources).collect();
        self.tools_not_used = tools.iter().filter(|it| !self.tools.contains_key(**it)).map(|it| (*it).clone()).collect();
        let is_used = |allowed: &str| self.resources.keys().any(|uri| covers(allowed, uri));
        self.resources_not_used = uris.iter().filter(|it| !is_used(it)).map(|it| (*it).clone()).collect();
        if !self.any_tool {
            self.tools_not_granted = riskiest_first(&self.tools, |name| tools.contains(name));
        }
        if !self.any_resource {
            self.resources_not_granted = riskiest_first(&self.resources, |uri| uris.iter().any(|allowed| covers(allowed, uri)));
        }
    }
}

fn riskiest_first(uses: &BTreeMap<String, Use>, is_granted: impl Fn(&String) -> bool) -> Vec<String> {
    let mut found: Vec<_> = uses.iter().filter(|(name, _)| !is_granted(name)).collect();
    found.sort_by_key(|(_, of)| (std::cmp::Reverse(of.tier), std::cmp::Reverse(of.last)));
    found.into_iter().map(|(name, _)| name.clone()).collect()
}

/// Whether what a purpose allows, a URI or the beginning of URIs before a star, covers one.
fn covers(allowed: &str, uri: &str) -> bool {
    allowed.strip_suffix('*').map_or(allowed == uri, |beginning| uri.starts_with(beginning))
}
