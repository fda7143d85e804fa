//! What became of many events, counted.

use std::collections::BTreeMap;

use proofline_client::Appended;
use proofline_proto::v1;
use serde_json::{Value, json};

use crate::describe;

/// Counts over receipts.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// Events that were taken; those that were rejected are not among them.
    pub(super) appended: u64,
    pub(super) known: u64,
    pub(super) batches: u64,
    /// Those of the batches that had waited for an answer since an earlier call, or an earlier run.
    pub(super) earlier: u64,
    verdicts: BTreeMap<&'static str, u64>,
    findings: BTreeMap<String, u64>,
    rejections: BTreeMap<String, u64>,
    first: Option<u64>,
    last: Option<u64>,
}

impl Summary {
    pub(super) fn add(&mut self, appended: &Appended) {
        self.known += appended.known as u64;
        self.earlier += appended.earlier.len() as u64;
        for receipt in appended.earlier.iter().chain(&appended.receipts) {
            self.add_receipt(receipt);
        }
    }

    fn add_receipt(&mut self, receipt: &v1::AppendResponse) {
        let events = receipt.events.len() as u64;
        self.batches += 1;
        self.appended += receipt.events.iter().filter(|event| event.rejection == 0).count() as u64;
        let last = receipt.first_index + events.saturating_sub(1);
        self.first = Some(self.first.map_or(receipt.first_index, |first| first.min(receipt.first_index)));
        self.last = Some(self.last.map_or(last, |before| before.max(last)));
        for event in &receipt.events {
            if event.rejection == 0 {
                *self.verdicts.entry(describe::verdict(event.verdict())).or_default() += 1;
            } else {
                let reason = event.rejection().as_str_name().trim_start_matches("REJECTION_REASON_").to_ascii_lowercase();
                *self.rejections.entry(reason).or_default() += 1;
            }
            for finding in &event.findings {
                *self.findings.entry(finding.rule_id.clone()).or_default() += 1;
            }
        }
    }

    /// Tells whether nothing became of anything.
    pub(super) fn is_empty(&self) -> bool {
        self.batches == 0 && self.known == 0
    }

    /// Rows of name and count, for people.
    pub(super) fn rows(&self) -> Vec<[String; 2]> {
        let mut rows = vec![row("events appended", self.appended), row("events known before", self.known)];
        if self.rejected() > 0 {
            rows.push(row("events rejected", self.rejected()));
        }
        rows.push(row("batches", self.batches));
        if let (Some(first), Some(last)) = (self.first, self.last) {
            rows.push(["entries".to_owned(), format!("{first} to {last}")]);
        }
        if self.earlier > 0 {
            rows.push(row("batches that had waited in the journal", self.earlier));
        }
        rows.extend(self.verdicts.iter().map(|(name, count)| row(&format!("verdict {name}"), *count)));
        rows.extend(self.findings.iter().map(|(name, count)| row(&format!("finding {name}"), *count)));
        rows.extend(self.rejections.iter().map(|(name, count)| row(&format!("rejected: {name}"), *count)));
        rows
    }

    pub(super) fn json(&self) -> Value {
        let counts =
            |of: Vec<(&str, u64)>| -> Value { of.into_iter().map(|(name, count)| (name.to_owned(), json!(count.to_string()))).collect() };
        json!({
            "appended": self.appended.to_string(),
            "known": self.known.to_string(),
            "rejected": self.rejected().to_string(),
            "batches": self.batches.to_string(),
            "earlier_batches": self.earlier.to_string(),
            "first_index": self.first.map(|it| it.to_string()),
            "last_index": self.last.map(|it| it.to_string()),
            "verdicts": counts(self.verdicts.iter().map(|(name, count)| (*name, *count)).collect()),
            "findings": counts(self.findings.iter().map(|(name, count)| (name.as_str(), *count)).collect()),
            "rejections": counts(self.rejections.iter().map(|(name, count)| (name.as_str(), *count)).collect()),
        })
    }

    /// Counts the events that the ledger rejected: each is recorded as a rejection, and none stands in a session.
    pub(super) fn rejected(&self) -> u64 {
        self.rejections.values().sum()
    }
}

pub(super) fn row(name: &str, count: u64) -> [String; 2] {
    [name.to_owned(), count.to_string()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_rejected_is_not_appended() {
        let taken = v1::EventReceipt { verdict: v1::Verdict::Deny.into(), ..Default::default() };
        let rejected = v1::EventReceipt { rejection: v1::RejectionReason::TenantOutOfScope.into(), ..Default::default() };
        let receipt = v1::AppendResponse { first_index: 7, events: vec![taken, rejected.clone(), rejected], ..Default::default() };
        let mut summary = Summary::default();
        summary.add(&Appended { receipts: vec![receipt], earlier: Vec::new(), known: 4 });
        let rows = summary.rows();
        let count = |name: &str| rows.iter().find(|[of, _]| of == name).map(|[_, count]| count.as_str());
        assert_eq!((count("events appended"), count("events rejected"), count("events known before")), (Some("1"), Some("2"), Some("4")));
        assert_eq!(count("rejected: tenant_out_of_scope"), Some("2"));
        assert_eq!(count("entries"), Some("7 to 9"), "each has an entry");
        let json = summary.json();
        assert_eq!((&json["appended"], &json["rejected"]), (&json!("1"), &json!("2")));
    }

    #[test]
    fn what_had_waited_counts_as_what_goes_through_at_once() {
        let rejected = v1::EventReceipt { rejection: v1::RejectionReason::Unattributed.into(), ..Default::default() };
        let of = |first_index, events| v1::AppendResponse { first_index, events, ..Default::default() };
        let (waited, now) = (of(4, vec![v1::EventReceipt::default(), rejected]), of(6, vec![v1::EventReceipt::default()]));
        let mut summary = Summary::default();
        summary.add(&Appended { receipts: vec![now], earlier: vec![waited], known: 0 });
        assert_eq!((summary.appended, summary.rejected(), summary.batches, summary.earlier), (2, 1, 2, 1));
        let entries = summary.rows().into_iter().find(|[name, _]| name == "entries").map(|[_, which]| which);
        assert_eq!(entries.as_deref(), Some("4 to 6"));
    }
}
