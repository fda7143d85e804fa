//! What the client makes of honest answers, and of others.

use std::{fs, path::Path};

use proofline_client::{Client, EvidenceExportError, EvidenceOrder, Existing, LineageError, PayloadsWanted};
use proofline_proto::v1;
use proofline_verifier::{AnswerSummary, Completeness, Extent, HeldCheckpoint, Integrity, Policy, TreeSize, verify};
use v1::Dimension as D;
use v1::LineageDirection as Way;

use crate::{
    evidence_file::lineage,
    lineage::{Lineage, message, question},
    node::{Lie, Node},
    world::{event, gateway, policy},
};

fn trusted() -> Policy {
    Policy::parse(policy().as_bytes()).unwrap()
}

fn node(lie: Lie) -> Node {
    let answers = lineage();
    let mut grown = answers.world.clone();
    (0..5).for_each(|number| drop(grown.batch(&gateway(), &[event("s-later", 40 + number)])));
    Node { answers, grown, lie }
}

fn request() -> v1::TraceLineageRequest {
    let question = Some(question(&[(D::Session, "s-main")], Way::Both, 8));
    v1::TraceLineageRequest { question, page_entries: 4, ..Default::default() }
}

async fn trace(client: &Client) -> Result<(AnswerSummary, usize, usize), LineageError> {
    let mut answer = client.trace(trusted(), request()).await?;
    let (mut nodes, mut edges) = (0, 0);
    while let Some(traced) = answer.next().await? {
        nodes += traced.verified.nodes.len();
        edges += traced.verified.edges.len();
    }
    Ok((answer.finish().unwrap(), nodes, edges))
}

#[tokio::test]
async fn an_honest_answer_comes_with_nodes_edges_and_entries() {
    let directory = tempfile::tempdir().unwrap();
    let client = node(|_, _| ()).serve(directory.path()).await;
    let (summary, nodes, edges) = trace(&client).await.unwrap();
    assert_eq!(summary.extent, Extent::Complete);
    assert!(summary.entries > 10 && nodes > 15 && edges > 15, "{summary:?}, {nodes}, {edges}");
}

#[tokio::test]
async fn an_answer_that_ends_early_is_incomplete() {
    let directory = tempfile::tempdir().unwrap();
    let client = node(|_, pages| pages.truncate(2)).serve(directory.path()).await;
    let (summary, ..) = trace(&client).await.unwrap();
    assert!(matches!(summary.extent, Extent::CutShort { .. }));
}

fn lies() -> Vec<(&'static str, Lie)> {
    vec![
        ("page-entries", |honest, pages| {
            pages[0].entries.remove(0);
            honest.prove(&mut pages[0]);
        }),
        ("page-entries", |honest, pages| {
            let added = v1::IndexedEntry { index: 0, entry: honest.world.entries[0].clone().into() };
            pages[0].entries.insert(0, added);
            honest.prove(&mut pages[0]);
        }),
        ("walk", |honest, pages| {
            let hidden = message(&crate::lineage::key(D::Session, "s-child"));
            for page in pages {
                page.ranges.retain(|range| range.key.as_ref() != Some(&hidden));
                let listed: Vec<_> = page.ranges.iter().flat_map(|range| range.indexes.clone()).collect();
                page.entries.retain(|one| listed.contains(&one.index) || one.index == honest.commitment as u64);
                honest.prove(page);
            }
        }),
        ("key-ranges", |honest, pages| {
            let key = crate::lineage::key(D::Session, "s-main");
            pages[0].ranges = vec![honest.range(&key, 0, 2)];
            let listed = pages[0].ranges[0].indexes.clone();
            pages[0].entries.retain(|one| listed.contains(&one.index) || one.index == honest.commitment as u64);
            honest.prove(&mut pages[0]);
        }),
        ("page-order", |_, pages| drop(pages.remove(1))),
        ("question", |honest, pages| *pages = honest.answer(&question(&[(D::Session, "s-main")], Way::Up, 1), 4)),
        ("entries-inclusion", |_, pages| pages[0].log_path[0][0] ^= 1),
        ("batch-signatures", |_, pages| pages[0].statements[0].statement.as_mut().unwrap().signature[0] ^= 1),
    ]
}

#[tokio::test]
async fn a_lying_node_is_refused_by_the_check_that_meets_it() {
    for (check, lie) in lies() {
        let directory = tempfile::tempdir().unwrap();
        let client = node(lie).serve(directory.path()).await;
        match trace(&client).await {
            Err(LineageError::Refused(error)) => assert_eq!(error.check().as_str(), check, "{error}"),
            other => panic!("{check}: {other:?}"),
        }
        let refused = client.export_evidence(trusted(), &order(&directory.path().join("x.evidence.zip")), |_| ()).await;
        assert!(matches!(refused, Err(EvidenceExportError::Lineage(LineageError::Refused(_)))));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "profile and policy, and no file of evidence");
    }
}

fn order(out: &Path) -> EvidenceOrder {
    EvidenceOrder {
        request: request(),
        asked: "everything around run s-main".to_owned(),
        exported_unix_ns: 1_700_000_300_000_000_000,
        consistent_with: None,
        out: out.to_owned(),
        existing: Existing::Kept,
        payloads: PayloadsWanted::No,
    }
}

#[tokio::test]
async fn an_exported_file_verifies_and_replaces_another_only_when_told() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run.evidence.zip");
    let client = node(|_, _| ()).serve(directory.path()).await;
    let mut entries = 0;
    let summary = client.export_evidence(trusted(), &order(&out), |more| entries += more).await.unwrap().summary;
    assert_eq!(entries, summary.entries);
    let first = fs::read(&out).unwrap();
    let report = verify(&first, &trusted(), None);
    assert_eq!((report.integrity(), report.completeness), (Integrity::Verified, Completeness::Complete), "{report}");

    let again = client.export_evidence(trusted(), &order(&out), |_| ()).await;
    assert!(matches!(again, Err(EvidenceExportError::Exists(_))));
    let replacing = EvidenceOrder { asked: "again".to_owned(), existing: Existing::Replaced, ..order(&out) };
    client.export_evidence(trusted(), &replacing, |_| ()).await.unwrap();
    assert_ne!(fs::read(&out).unwrap(), first);
}

#[tokio::test]
async fn an_exported_file_proves_that_it_continues_an_older_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run.evidence.zip");
    let older = lineage().world.cut(6);
    let client = node(|_, _| ()).serve(directory.path()).await;
    let order = EvidenceOrder { consistent_with: Some(TreeSize(6)), ..order(&out) };
    client.export_evidence(trusted(), &order, |_| ()).await.unwrap();
    let held = HeldCheckpoint { checkpoint: older.checkpoint().into_bytes(), proof: None };
    let report = verify(&fs::read(&out).unwrap(), &trusted(), Some(&held));
    assert_eq!(report.integrity(), Integrity::Verified, "{report}");
}

#[test]
fn the_answers_of_these_tests_are_not_empty() {
    let honest: Lineage = lineage();
    assert!(honest.answer(&request().question.unwrap(), 4).len() > 3);
}
