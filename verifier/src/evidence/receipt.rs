//! One entry in the log, on the word of the log key: `.cose-receipt`.

use crate::consistency::HeldCheckpoint;
use crate::cose_receipt::{CoseReceipt, CoseReceiptError};
use crate::entry::LogEntry;
use crate::evidence::facts;
use crate::policy::{Policy, Quorum};
use crate::report::{CheckName, EvidenceKind, Fact, NotProven, Report};
use crate::tree::TreeHead;

/// Verifies a `.cose-receipt` file about the exact bytes of an entry.
///
/// With `held`, a checkpoint that is not older than the receipt's tree vouches for its size and brings its cosignatures.
#[must_use]
pub fn verify_cose_receipt(file: &[u8], entry: Option<&[u8]>, policy: &Policy, held: Option<&HeldCheckpoint>) -> Report {
    let mut names = vec![CheckName::Format, CheckName::LogInclusion, CheckName::LogSignature];
    names.extend(held.map(|_| CheckName::Consistency));
    names.push(CheckName::Entries);
    let mut report = Report::new(Some(EvidenceKind::CoseReceipt), &names);
    // Only `report` matters: a check that does not pass ends the walk early.
    let bound = walk(&mut report, file, entry, policy, held);
    let quorum_asked = policy.quorum() != &Quorum::NotAsked;
    report.not_proven.extend(match (bound, quorum_asked) {
        (Some(Bound::ByCheckpoint), true) => None,
        (Some(Bound::ByCheckpoint), false) => Some(NotProven::NoQuorumAsked),
        (Some(Bound::ByLogKey) | None, _) => Some(NotProven::TreeSizeAndQuorum),
    });
    report.not_proven.extend(held.is_none().then_some(NotProven::SingleView));
    report.conclude()
}

/// What vouches for the size of the tree.
enum Bound {
    /// A trusted checkpoint that covers it.
    ByCheckpoint,
    /// Nothing but the log key's signature over a root.
    ByLogKey,
}

fn walk(report: &mut Report, file: &[u8], entry: Option<&[u8]>, policy: &Policy, held: Option<&HeldCheckpoint>) -> Option<Bound> {
    let parsed = CoseReceipt::parse(file).and_then(|receipt| Ok((entry.ok_or(CoseReceiptError::NoEntry)?, receipt)));
    let describe = |(_, it): &(&[u8], CoseReceipt)| format!("COSE receipt of entry {}, {} bytes", it.subject, file.len());
    let (entry, receipt) = report.settle(CheckName::Format, describe, parsed)?;
    let (index, size) = (receipt.index, receipt.size);
    let root = report.settle(CheckName::LogInclusion, |root| format!("entry {index} of {size}, root {root}"), receipt.root_over(entry))?;
    let key = receipt.verify_signature(&root, policy);
    report.settle(CheckName::LogSignature, |key| format!("{} signed the root with key {}", key.name(), key.id()), key)?;
    let mut bound = Bound::ByLogKey;
    if let Some(held) = held {
        let consistent = held.verify_with_head(&receipt.origin, TreeHead { size, root }, policy);
        let describe = |size: &_| format!("one log with the checkpoint of size {size}");
        if report.settle(CheckName::Consistency, describe, consistent)? >= size {
            bound = Bound::ByCheckpoint;
        }
    }
    let parsed =
        report.settle(CheckName::Entries, |it| format!("canonical, and names index {}", it.index), LogEntry::parse_at(entry, index))?;
    report.facts.push(Fact { name: "origin", value: receipt.origin.to_string() });
    report.facts.push(Fact { name: "root", value: root.to_string() });
    report.facts.extend(facts::of_entry(&parsed));
    report.not_proven.extend(facts::not_shown_by(&parsed));
    Some(bound)
}
