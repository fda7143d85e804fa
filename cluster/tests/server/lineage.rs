//! State commitments of a real cluster, and what any of its nodes answers about lineage.

use std::time::{Duration, Instant};

use proofline_cluster::{TENANT, Tls, spiffe};
use proofline_proto::v1::{self, AccessKind, Dimension, LineageDirection, entry_core::Body};
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::world::{Collector, World, append_through, event};

fn session(value: &str) -> v1::Key {
    v1::Key { dimension: Dimension::Session.into(), tenant_id: TENANT.to_owned(), value: value.to_owned() }
}

fn about(starts: Vec<v1::Key>) -> v1::TraceLineageRequest {
    let question = v1::LineageQuestion { starts, direction: LineageDirection::Both.into(), depth: 4, ..Default::default() };
    v1::TraceLineageRequest { question: Some(question), kind: AccessKind::Lineage.into(), purpose: "case 7".to_owned(), page_entries: 40 }
}

async fn ask(world: &World, place: usize, identity: &str, request: v1::TraceLineageRequest) -> Result<Vec<v1::LineagePage>, Status> {
    let mut stream = world.audit(place, identity).trace_lineage(request).await?.into_inner();
    let mut pages = Vec::new();
    while let Some(page) = stream.message().await? {
        pages.push(page);
    }
    Ok(pages)
}

/// Waits until every node found commitments over `size` entries to be true, and published what covers them.
async fn committed(world: &World, size: u64) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let status = world.control(0, "admin").cluster_status(v1::ClusterStatusRequest {}).await;
        let nodes = status.map(|status| status.into_inner().nodes).unwrap_or_default();
        let is_there = |node: &v1::NodeStatus| node.answered_size >= size;
        if nodes.len() == world.plan().nodes.len() && nodes.iter().all(is_there) {
            return;
        }
        assert!(Instant::now() < until, "{nodes:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Asks until the node has written the map of a commitment over `size` entries.
pub(crate) async fn answered(world: &World, place: usize, size: u64) -> Vec<v1::LineagePage> {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        match ask(world, place, "auditor", about(vec![session("s-1")])).await {
            Ok(pages) if pages[0].question.as_ref().unwrap().to_index >= size => return pages,
            Ok(_) => (),
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
        assert!(Instant::now() < until, "no answer over {size} entries");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The answer without what moves on between two questions: the checkpoint and the paths to it.
fn lasting(pages: &[v1::LineagePage]) -> Vec<Vec<u8>> {
    let strip = |page: &v1::LineagePage| v1::LineagePage { checkpoint: Vec::new(), log_path: Vec::new(), ..page.clone() };
    pages.iter().map(|page| strip(page).encode_to_vec()).collect()
}

async fn fill(world: &World, gateway: &mut Collector) -> u64 {
    let events: Vec<_> = (0..300).map(|n| event(&format!("s-{}", n % 3))).collect();
    let request = gateway.sign(events);
    world.ingest(0, &gateway.id).append(request).await.unwrap().into_inner().first_index + 300
}

#[tokio::test]
async fn every_node_gives_the_same_answer_and_the_log_says_who_asked() {
    let world = World::committing_every(200, 3, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    let size = fill(&world, &mut gateway).await;
    committed(&world, size).await;
    let mut answers = Vec::new();
    for place in 0..3 {
        answers.push(lasting(&answered(&world, place, size).await));
    }
    assert!(answers.len() == 3 && answers.iter().all(|answer| *answer == answers[0]), "the same pages from every node");
    let pages = ask(&world, 1, "auditor", about(vec![session("s-1")])).await.unwrap();
    assert!(pages.len() >= 3 && pages.iter().all(|page| page.entries.len() <= 41), "{} pages", pages.len());
    let given: usize = pages.iter().map(|page| page.entries.len() - 1).sum();
    assert_eq!(given, 100, "the entries of the session, and on each page that of the commitment");

    let status = world.control(0, "admin").cluster_status(v1::ClusterStatusRequest {}).await.unwrap().into_inner();
    let end = status.nodes.iter().map(|node| node.tree_size).max().unwrap();
    world.published(0, end).await;
    let last = world.audit(0, "auditor").get_entry(v1::GetEntryRequest { index: end - 1 }).await.unwrap().into_inner().entry;
    let core = v1::EntryCore::decode(v1::Entry::decode(&last[..]).unwrap().core).unwrap();
    let Some(Body::AccessRecorded(access)) = core.body else { panic!("who asked last") };
    assert_eq!((access.reader, access.purpose.as_str(), access.node_id), (spiffe("auditor"), "case 7", 2));
    let asked = v1::LineageQuestion::decode(&access.question[..]).unwrap();
    assert_eq!(Some(asked), pages[0].question, "as it stands on the pages");
}

#[tokio::test]
async fn a_question_without_an_end_is_about_everything_before_it() {
    // As shipped: a commitment comes up to a second behind what it covers.
    let world = World::committing_every(1_000, 3, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    committed(&world, 1).await;
    for round in 1..=6 {
        // At the node that took the events, and at the others, which may have applied less.
        let size = fill(&world, &mut gateway).await;
        let pages = ask(&world, round % 3, "auditor", about(vec![session("s-1")])).await.unwrap();
        let reach = pages[0].question.as_ref().unwrap().to_index;
        assert!(reach >= size, "asked right behind entry {}, answered up to {reach}", size - 1);
        let given: usize = pages.iter().map(|page| page.entries.len() - 1).sum();
        assert_eq!(given, 100 * round, "each entry of the session, and on each page that of the commitment");
        // Nothing with a key came since: there is nothing to wait for.
        let again = ask(&world, round % 3, "auditor", about(vec![session("s-1")])).await.unwrap();
        assert_eq!(again[0].question, pages[0].question);
        let everything = ask(&world, round % 3, "auditor", about(Vec::new())).await.unwrap();
        assert!(everything[0].question.as_ref().unwrap().to_index > reach, "the records of who asked, too");
    }
}

#[tokio::test]
async fn a_question_that_no_commitment_covers_in_time_says_how_far_answers_reach() {
    // The pause between two commitments is longer than a question waits, so of two questions one right behind the other each
    // meets at most one.
    let world = World::committing_every(13_000, 1, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    committed(&world, 1).await;
    let mut asked_behind_an_append = async || {
        let status = world.control(0, "admin").cluster_status(v1::ClusterStatusRequest {}).await.unwrap().into_inner();
        fill(&world, &mut gateway).await;
        (status.nodes[0].answered_size, ask(&world, 0, "auditor", about(vec![session("s-1")])).await)
    };
    let (covered, refused) = match asked_behind_an_append().await {
        (_, Ok(_)) => asked_behind_an_append().await,
        refused => refused,
    };
    let refused = refused.unwrap_err();
    let reason = refused.get_details_error_info().unwrap().reason;
    assert_eq!((refused.code(), reason.as_str()), (Code::Unavailable, "COMMITMENT_BEHIND"), "{refused:?}");
    assert!(refused.get_details_retry_info().is_some(), "another node may do better: {refused:?}");
    assert!(refused.message().contains(&format!("answers reach over {covered}: ")), "{refused:?}");
    let mut until_then = about(vec![session("s-1")]);
    until_then.question.as_mut().unwrap().to_index = covered;
    let pages = ask(&world, 0, "auditor", until_then).await.unwrap();
    assert_eq!(pages[0].question.as_ref().unwrap().to_index, covered, "with that end it is answered");
}

#[tokio::test]
async fn a_question_that_is_none_or_not_for_the_caller_is_refused_with_a_reason() {
    let world = World::committing_every(200, 1, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    let size = fill(&world, &mut gateway).await;
    committed(&world, size).await;
    answered(&world, 0, size).await;
    world.plan().add_client("acme-auditor").unwrap();
    world.grant("acme-auditor", v1::Role::Auditor, TENANT).await;

    let reason = |status: Status| (status.code(), status.get_details_error_info().map(|info| info.reason).unwrap_or_default());
    let of = |alter: fn(&mut v1::TraceLineageRequest)| {
        let mut request = about(vec![session("s-1")]);
        alter(&mut request);
        request
    };
    let cases = [
        (of(|it| it.question = None), Code::InvalidArgument, "MALFORMED_QUESTION"),
        (of(|it| it.kind = 0), Code::InvalidArgument, "MALFORMED_QUESTION"),
        (of(|it| it.purpose = "x".repeat(257)), Code::InvalidArgument, "MALFORMED_QUESTION"),
        (of(|it| it.question.as_mut().unwrap().depth = 33), Code::InvalidArgument, "MALFORMED_QUESTION"),
        (of(|it| it.question.as_mut().unwrap().to_index = 1 << 40), Code::OutOfRange, "BEYOND_COMMITMENT"),
        (of(|it| it.question.as_mut().unwrap().starts[0].tenant_id = "other".to_owned()), Code::PermissionDenied, "LACKS_ROLE"),
        (of(|it| it.question.as_mut().unwrap().starts.clear()), Code::PermissionDenied, "LACKS_ROLE"),
        // The entries at the ends of a stretch of time are whoever's stand there.
        (of(|it| it.question.as_mut().unwrap().from_unix_ns = 1), Code::PermissionDenied, "LACKS_ROLE"),
        (of(|it| it.question.as_mut().unwrap().to_unix_ns = u64::MAX), Code::PermissionDenied, "LACKS_ROLE"),
    ];
    for (request, code, name) in cases {
        let refused = ask(&world, 0, "acme-auditor", request.clone()).await.unwrap_err();
        assert_eq!(reason(refused), (code, name.to_owned()), "{request:?}");
    }
    ask(&world, 0, "acme-auditor", about(vec![session("s-1")])).await.unwrap();
    let vouching = |tenant: &str| v1::GetRegistrationsRequest { collector_id: String::new(), tenant_id: tenant.to_owned() };
    let of_operators = world.audit(0, "acme-auditor").get_registrations(vouching(TENANT)).await.unwrap().into_inner();
    assert_eq!(of_operators.registrations.first().map(|it| it.index), Some(0), "genesis, without a collector");
    for tenant in ["other", "*"] {
        let refused = world.audit(0, "acme-auditor").get_registrations(vouching(tenant)).await.unwrap_err();
        assert_eq!(reason(refused), (Code::PermissionDenied, "LACKS_ROLE".to_owned()), "{tenant}");
    }
    let everything = v1::TraceLineageRequest { page_entries: 1_000, ..about(Vec::new()) };
    let pages = ask(&world, 0, "auditor", everything).await.unwrap();
    let given: Vec<u64> = pages.iter().flat_map(|page| &page.entries).map(|entry| entry.index).collect();
    assert!(given.len() as u64 > size && given.iter().copied().eq(0..given.len() as u64), "without a key, every entry in order");
}

#[tokio::test]
async fn commitments_go_on_after_every_node_was_killed() {
    let mut world = World::committing_every(200, 3, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    let mut size = fill(&world, &mut gateway).await;
    committed(&world, size).await;
    for place in 0..3 {
        world.cluster.kill(place).unwrap();
        let others: Vec<usize> = (0..3).filter(|other| *other != place).collect();
        append_through(&world, &mut gateway, &others).await;
        world.cluster.start(place).unwrap();
        world.cluster.start_all().await.unwrap();
        size = append_through(&world, &mut gateway, &others).await + 1;
        committed(&world, size).await;
        answered(&world, place, size).await;
    }
}

async fn too_many(world: &World, reader: &str, asked: &v1::TraceLineageRequest) {
    let refused = ask(world, 0, reader, asked.clone()).await.unwrap_err();
    let reason = refused.get_details_error_info().unwrap().reason;
    assert_eq!((refused.code(), reason.as_str()), (Code::ResourceExhausted, "TOO_MANY_QUESTIONS"), "{reader}");
}

#[tokio::test]
async fn a_node_gives_so_many_answers_at_once_and_forgets_readers_that_went_away() {
    let world = World::committing_every(200, 1, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    for _ in 0..4 {
        fill(&world, &mut gateway).await;
    }
    let size = fill(&world, &mut gateway).await;
    world.published(0, size).await;
    // More pages than connections hold, and nobody takes them.
    let everything = v1::TraceLineageRequest { page_entries: 1, ..about(Vec::new()) };
    let others = ["second", "third"];
    for other in others {
        world.plan().add_client(other).unwrap();
        world.grant(other, v1::Role::Auditor, "*").await;
    }
    let mut open = Vec::new();
    for reader in ["auditor", "auditor", "auditor", "second", "second", "second", "third", "third"] {
        if open.len() == 3 {
            // One reader does not take the places of the others.
            too_many(&world, "auditor", &everything).await;
        }
        open.push(world.audit(0, reader).trace_lineage(everything.clone()).await.unwrap());
    }
    too_many(&world, "third", &everything).await;

    // What is under way ends with the role.
    let grant = v1::RoleGrant { spiffe_id: spiffe("third"), role: v1::Role::Auditor.into(), tenant_id: "*".to_owned() };
    world.command(&["alice"], v1::command::Action::RevokeRole(v1::RevokeRole { grant: Some(grant) })).await.unwrap();
    let mut taken = open.pop().unwrap().into_inner();
    let ended = async {
        loop {
            match taken.message().await {
                Ok(Some(_)) => (),
                other => return other,
            }
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), ended).await.expect("in time").unwrap_err();
    assert_eq!(ended.code(), Code::PermissionDenied, "{ended:?}");
    drop(open);
    let until = Instant::now() + Duration::from_secs(20);
    while ask(&world, 0, "auditor", about(Vec::new())).await.is_err() {
        assert!(Instant::now() < until, "the answers ended with their readers");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
