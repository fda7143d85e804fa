mod double;

use std::{sync::Arc, time::Duration};

use ed25519_dalek::SigningKey;
use tempfile::TempDir;

use super::*;
use crate::{Endpoint, LaneName, Profile, RetryPolicy, SourceKey};
use double::{Double, Mishap, ORIGIN};

/// A ledger that fails as planned, and a directory for journals.
struct World {
    ledger: Double,
    client: Client,
    directory: TempDir,
}

impl World {
    async fn new() -> Self {
        let ledger = Double::default();
        let address = ledger.serve().await;
        let profile = Profile {
            path: "unused".into(),
            origin: ORIGIN.to_owned(),
            endpoints: vec![Endpoint::parse(&format!("http://{address}")).unwrap()],
            policy: "unused".into(),
            tls: None,
        };
        let retry = RetryPolicy { within: Duration::from_secs(20), attempt: Duration::from_secs(10) };
        let client = Client::connect(&profile, retry).unwrap();
        Self { ledger, client, directory: tempfile::tempdir().unwrap() }
    }

    fn collector(&self) -> Collector {
        self.collector_with(&self.client, [5; 32])
    }

    /// A collector that gives up at the first fault.
    fn hasty_collector(&self) -> Collector {
        let at_once = RetryPolicy { within: Duration::ZERO, attempt: Duration::from_secs(10) };
        self.collector_with(&self.client.with_retry(at_once), [5; 32])
    }

    fn collector_with(&self, client: &Client, key: [u8; 32]) -> Collector {
        let name = LaneName { origin: ORIGIN.to_owned(), collector_id: "gateway".to_owned(), lane: 0 };
        let signer = LaneSigner::new(name, Arc::new(SigningKey::from_bytes(&key)));
        Collector::open(client.clone(), signer, &self.directory.path().join("journal")).unwrap()
    }
}

fn events(names: &[&str]) -> Vec<SourceEvent> {
    let event = |name: &&str| SourceEvent {
        event: Bytes::copy_from_slice(name.as_bytes()),
        source: Some(SourceKey::of("test", &[name.as_bytes()])),
    };
    names.iter().map(event).collect()
}

#[tokio::test]
async fn events_go_in_and_receipts_come_out() {
    let world = World::new().await;
    let mut collector = world.collector();
    let appended = collector.append(events(&["a", "b"])).await.unwrap();
    assert_eq!((appended.events(), appended.known, collector.waiting()), (2, 0, 0));
    collector.close().await.unwrap();
    assert_eq!(world.ledger.events(), ["a", "b"]);
    assert!(world.ledger.is_closed());
}

#[tokio::test]
async fn a_source_that_is_read_again_appends_and_opens_nothing() {
    let world = World::new().await;
    let mut collector = world.collector();
    collector.append(events(&["a", "b", "a"])).await.unwrap();
    collector.close().await.unwrap();
    let calls = world.ledger.calls();
    let mut collector = world.collector();
    let appended = collector.append(events(&["a", "b"])).await.unwrap();
    collector.close().await.unwrap();
    assert_eq!((appended.events(), appended.known), (0, 2));
    assert_eq!((world.ledger.events().len(), world.ledger.calls()), (2, calls));
}

#[tokio::test]
async fn lost_answers_and_elections_double_nothing() {
    let world = World::new().await;
    let mishaps = [Mishap::AnswerLost, Mishap::NoLeader, Mishap::AnswerLost, Mishap::AnswerLost];
    world.ledger.plan(mishaps.map(Some));
    let mut collector = world.collector();
    collector.append(events(&["a"])).await.unwrap();
    collector.append(events(&["b"])).await.unwrap();
    assert_eq!(world.ledger.events(), ["a", "b"]);
    assert_eq!(world.ledger.epoch(), 1);
}

#[tokio::test]
async fn a_pipeline_survives_a_stream_that_breaks_anywhere() {
    let world = World::new().await;
    let names: Vec<String> = (0..60).map(|number| format!("event-{number:02}")).collect();
    let plan = (0..200).map(|call| match call % 7 {
        3 => Some(Mishap::AnswerLost),
        5 => Some(Mishap::NoLeader),
        _ => None,
    });
    world.ledger.plan(plan);
    let mut collector = world.collector();
    let mut appended = Appended::default();
    for name in &names {
        appended.extend(collector.enqueue(events(&[name])).await.unwrap());
    }
    appended.extend(collector.flush().await.unwrap());
    assert_eq!(world.ledger.events(), names);
    let indexes: Vec<u64> = appended.receipts.iter().map(|receipt| receipt.first_index).collect();
    assert_eq!(indexes, (0..60).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_a_crash_left_unanswered_is_sent_by_the_next_process() {
    let world = World::new().await;
    let mut collector = world.hasty_collector();
    collector.append(events(&["a"])).await.unwrap();
    world.ledger.plan([Some(Mishap::NoLeader)]);
    let refused = collector.append(events(&["b"])).await.unwrap_err();
    assert!(refused.is_retryable());
    drop(collector);
    let mut collector = world.collector();
    let appended = collector.append(events(&["b", "c"])).await.unwrap();
    assert_eq!((appended.known, appended.earlier.len(), appended.events()), (1, 1, 1));
    assert_eq!(world.ledger.events(), ["a", "b", "c"]);
    assert_eq!(world.ledger.epoch(), 2, "each process goes on under an epoch of its own");
}

#[tokio::test]
async fn reading_a_source_again_sends_what_waits_though_nothing_is_new() {
    let world = World::new().await;
    let mut collector = world.hasty_collector();
    world.ledger.plan([None, Some(Mishap::NoLeader)]);
    collector.append(events(&["a"])).await.unwrap_err();
    drop(collector);
    let appended = world.collector().append(events(&["a"])).await.unwrap();
    assert_eq!((appended.known, appended.earlier.len()), (1, 1));
    assert_eq!(world.ledger.events(), ["a"]);
}

#[tokio::test]
async fn an_accepted_batch_whose_answer_was_lost_is_not_signed_again() {
    let world = World::new().await;
    let mut collector = world.hasty_collector();
    world.ledger.plan([None, Some(Mishap::AnswerLost)]);
    collector.append(events(&["a"])).await.unwrap_err();
    drop(collector);
    world.ledger.take_over();
    let mut collector = world.collector();
    collector.recover().await.unwrap();
    assert_eq!(world.ledger.events(), ["a"]);
    assert_eq!(collector.waiting(), 0);
}

#[tokio::test]
async fn a_fenced_batch_that_was_never_taken_is_signed_again() {
    let world = World::new().await;
    let mut collector = world.hasty_collector();
    world.ledger.plan([None, Some(Mishap::NoLeader)]);
    collector.append(events(&["a"])).await.unwrap_err();
    drop(collector);
    world.ledger.take_over();
    let mut collector = world.collector();
    let appended = collector.append(events(&["b"])).await.unwrap();
    assert_eq!(appended.earlier.len(), 1);
    assert_eq!(world.ledger.events(), ["a", "b"]);
}

#[tokio::test]
async fn receipts_that_came_before_a_call_failed_are_told_once() {
    let world = World::new().await;
    let mut collector = world.hasty_collector();
    world.ledger.plan([None, Some(Mishap::NoLeader)]);
    collector.append(events(&["a"])).await.unwrap_err();
    assert_eq!((collector.take_untold(), collector.waiting_events()), (Appended::default(), 1));
    drop(collector);
    // What waited goes through, and then the call fails.
    let mut collector = world.hasty_collector();
    world.ledger.plan([None, None, Some(Mishap::NoLeader)]);
    collector.append(events(&["b", "c"])).await.unwrap_err();
    let untold = collector.take_untold();
    assert_eq!((untold.earlier.len(), untold.receipts.len()), (1, 0), "it is of a process before");
    assert_eq!((collector.take_untold(), collector.waiting_events()), (Appended::default(), 2));
    let appended = collector.flush().await.unwrap();
    assert_eq!((appended.earlier.len(), collector.take_untold()), (1, Appended::default()), "what a call hands out is told");
    assert_eq!(world.ledger.events(), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_journal_that_its_lane_has_gone_beyond_is_noticed() {
    let world = World::new().await;
    let (journal, copy) = (world.directory.path().join("journal"), world.directory.path().join("copy"));
    let mut collector = world.hasty_collector();
    assert!(!collector.is_behind_its_lane().await.unwrap(), "nobody has used the lane");
    collector.append(events(&["a"])).await.unwrap();
    assert!(!collector.is_behind_its_lane().await.unwrap(), "everything came from here");
    assert!(std::process::Command::new("cp").arg("-r").args([&journal, &copy]).status().unwrap().success());
    world.ledger.plan([Some(Mishap::AnswerLost)]);
    collector.append(events(&["b"])).await.unwrap_err();
    assert!(!collector.is_behind_its_lane().await.unwrap(), "what has no answer was written down before it was sent");
    drop(collector);
    for (of, what) in [(Some(copy), "a copy, of the same epoch"), (None, "a new journal")] {
        std::fs::remove_dir_all(&journal).unwrap();
        if let Some(copy) = of {
            std::fs::rename(copy, &journal).unwrap();
        }
        assert!(world.collector().is_behind_its_lane().await.unwrap(), "{what}");
    }
}

#[tokio::test]
async fn a_call_that_failed_is_caught_up_before_the_next_batch() {
    let world = World::new().await;
    let mut collector = world.hasty_collector();
    collector.append(events(&["a"])).await.unwrap();
    world.ledger.plan([Some(Mishap::AnswerLost)]);
    collector.append(events(&["b"])).await.unwrap_err();
    collector.append(events(&["c"])).await.unwrap();
    assert_eq!(world.ledger.events(), ["a", "b", "c"]);
    assert_eq!(world.ledger.epoch(), 1, "the chain goes on: nothing was fenced");
}

#[tokio::test]
async fn a_lane_that_somebody_else_opened_is_not_taken_back_unasked() {
    let world = World::new().await;
    let mut collector = world.collector();
    collector.append(events(&["a"])).await.unwrap();
    world.ledger.take_over();
    for _ in 0..2 {
        let refused = collector.append(events(&["b"])).await.unwrap_err();
        assert!(matches!(refused, AppendError::TakenOver { .. }) && !refused.is_retryable(), "{refused}");
    }
    assert_eq!(world.ledger.epoch(), 2);
    collector.recover().await.unwrap();
    assert_eq!(world.ledger.events(), ["a", "b"]);
}

#[tokio::test]
async fn a_pipeline_that_broke_is_driven_on_without_another_event() {
    let world = World::new().await;
    world.ledger.plan([None, None, Some(Mishap::NoLeader), Some(Mishap::AnswerLost), Some(Mishap::NoLeader)]);
    let mut collector = world.collector();
    let mut appended = Appended::default();
    for name in ["a", "b", "c"] {
        appended.extend(collector.enqueue(events(&[name])).await.unwrap());
    }
    while appended.receipts.len() < 3 {
        appended.extend(collector.drive().await.unwrap());
    }
    assert_eq!(world.ledger.events(), ["a", "b", "c"]);
    assert_eq!(collector.waiting(), 0);
}

#[tokio::test]
async fn driving_may_be_dropped_at_any_time_and_loses_no_receipt() {
    let world = World::new().await;
    world.ledger.plan((0..40).map(|call| (call % 3 == 1).then_some(Mishap::AnswerLost)));
    let mut collector = world.collector();
    let mut appended = Appended::default();
    for number in 0..10 {
        appended.extend(collector.enqueue(events(&[&format!("event-{number}")])).await.unwrap());
    }
    let mut polls = 0;
    while collector.waiting() > 0 {
        // Each future is polled a few times, one more than the last, and dropped wherever it stands then.
        polls = (polls + 1) % 50;
        let mut left = polls;
        let few_polls = std::future::poll_fn(|context| {
            left -= i32::from(left > 0);
            if left == 0 {
                std::task::Poll::Ready(())
            } else {
                context.waker().wake_by_ref();
                std::task::Poll::Pending
            }
        });
        tokio::select! {
            biased;
            driven = collector.drive() => appended.extend(driven.unwrap()),
            () = few_polls => tokio::task::yield_now().await,
        }
    }
    let indexes: Vec<u64> = appended.receipts.iter().map(|receipt| receipt.first_index).collect();
    assert_eq!(indexes, (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn nothing_under_way_is_nothing_to_drive() {
    let world = World::new().await;
    let mut collector = world.collector();
    collector.append(events(&["a"])).await.unwrap();
    tokio::select! {
        biased;
        driven = collector.drive() => panic!("{driven:?}"),
        () = std::future::ready(()) => {}
    }
}

#[tokio::test]
async fn a_pipeline_notices_a_takeover() {
    let world = World::new().await;
    let mut collector = world.collector();
    collector.enqueue(events(&["a"])).await.unwrap();
    collector.flush().await.unwrap();
    world.ledger.take_over();
    collector.enqueue(events(&["b"])).await.unwrap();
    assert!(matches!(collector.flush().await, Err(AppendError::TakenOver { .. })));
}

#[tokio::test]
async fn a_ledger_that_lost_its_epochs_is_noticed() {
    let world = World::new().await;
    let mut collector = world.collector();
    collector.append(events(&["a"])).await.unwrap();
    collector.close().await.unwrap();
    world.ledger.forget();
    let refused = world.collector().append(events(&["b"])).await.unwrap_err();
    assert!(matches!(refused, AppendError::EpochNotNew { .. }), "{refused}");
}

#[tokio::test]
async fn a_ledger_that_acknowledged_what_it_does_not_have_is_noticed_once() {
    let world = World::new().await;
    let mut collector = world.collector();
    collector.append(events(&["a"])).await.unwrap();
    collector.append(events(&["b"])).await.unwrap();
    world.ledger.forget_newest();
    drop(collector);
    let mut collector = world.collector();
    let lost = collector.append(events(&["c"])).await.unwrap_err();
    let AppendError::AcknowledgedAndLost { acknowledged_sequence, sequence, .. } = lost else { panic!("{lost}") };
    assert_eq!((acknowledged_sequence.0, sequence.0), (2, 1));
    // It was said; work goes on, also after another start.
    collector.append(events(&["c"])).await.unwrap();
    drop(collector);
    world.collector().append(events(&["d"])).await.unwrap();
    assert_eq!(world.ledger.events(), ["a", "c", "d"]);
}

#[tokio::test]
async fn an_event_that_is_too_long_stops_the_call_before_anything_is_signed() {
    let world = World::new().await;
    let mut collector = world.collector();
    let long = SourceEvent { event: vec![0; EVENT_BYTES_MAX + 1].into(), source: None };
    let refused = collector.append([events(&["a"]), vec![long]].concat()).await.unwrap_err();
    assert!(matches!(refused, AppendError::EventTooLarge { place: 1, .. }));
    assert_eq!((collector.waiting(), world.ledger.calls()), (0, 0));
}

#[tokio::test]
async fn many_events_become_batches_of_the_allowed_size() {
    let world = World::new().await;
    let mut collector = world.collector();
    let many = (0..BATCH_EVENTS_MAX + 1).map(|_| SourceEvent { event: Bytes::from_static(b"x"), source: None }).collect();
    let appended = collector.append(many).await.unwrap();
    assert_eq!(appended.receipts.iter().map(|receipt| receipt.events.len()).collect::<Vec<_>>(), [BATCH_EVENTS_MAX, 1]);
}

#[tokio::test]
async fn a_replaced_key_signs_again_what_the_old_one_could_not_deliver() {
    let world = World::new().await;
    let mut collector = world.hasty_collector();
    world.ledger.plan([None, Some(Mishap::AnswerLost), None, Some(Mishap::NoLeader)]);
    collector.append(events(&["a"])).await.unwrap_err();
    collector.append(events(&["b"])).await.unwrap_err();
    drop(collector);
    world.ledger.register(SigningKey::from_bytes(&[6; 32]).verifying_key().to_bytes().to_vec());
    let mut collector = world.collector_with(&world.client, [6; 32]);
    collector.append(events(&["c"])).await.unwrap();
    assert_eq!(world.ledger.events(), ["a", "b", "c"]);
    assert_eq!(collector.waiting(), 0);
}
