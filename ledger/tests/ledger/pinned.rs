//! What a story leaves behind is the same in every version that says it applies alike: an entry, a row or a digest that comes out
//! different here would split a cluster while it is upgraded, and a log from its own replay.

use proofline_proto::v1;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use v1::event::Body;

use crate::replays::{live, step};
use crate::world::{Collector, World, event, unattributed};

/// Steps of the story.
const STEPS: usize = 600;

/// Entries, root of the log and digest of the state.
fn left(world: &World) -> (u64, String, String) {
    let ledger = &world.ledger;
    (ledger.tree_size().0, hex(&ledger.log_root().0), hex(&ledger.state_digest().0))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads of a session whose tags, tools and purposes differ from event to event, and of none.
fn told(number: u8, session: Option<&str>) -> v1::Event {
    let resource = v1::Resource {
        uri: format!("db://{}/{number}", "prod".repeat(usize::from(number) * 9)),
        system: format!("system-{}", number % 3),
        tags: vec![format!("tag-{number}"), "untrusted".to_owned()],
        region: "eu".to_owned(),
        classification: i32::from(number % 5),
        ..Default::default()
    };
    let read = v1::DataAccess { resource: Some(resource), verb: v1::ActionVerb::ResourceRead.into(), records: 3, ..Default::default() };
    let mut event = if let Some(session) = session { event(session, "agent-1") } else { unattributed("") };
    if session.is_none() {
        event.session = None;
    }
    if let Some(attribution) = &mut event.attribution {
        attribution.purpose_id = format!("purpose-{number}");
        attribution.credential = session.map(|_| v1::Credential {
            credential_id: format!("credential-{}", number % 2),
            scopes: vec!["read".to_owned(), format!("scope-{number}")],
            audience: "api".to_owned(),
            ..Default::default()
        });
    }
    v1::Event { event_id: vec![number; 16], body: Some(Body::DataAccess(read)), ..event }
}

#[test]
fn a_story_leaves_what_it_always_left() {
    let steps = proptest::collection::vec(step(), STEPS).new_tree(&mut TestRunner::deterministic()).unwrap().current();
    let (mut world, _) = live(&steps);
    let mut collector = Collector::new("gateway-pinned", 77);
    world.command(&[crate::world::ALICE], collector.registration()).unwrap();
    collector.open(&mut world).unwrap();
    // A name that is longer than keys that are built in place.
    let long = "s".repeat(250);
    for round in 0..4 {
        let events = [Some("told-1"), None, Some(long.as_str()), Some("told-2"), None];
        let events = events.into_iter().enumerate().map(|(place, session)| told(round * 5 + place as u8, session));
        let receipt = collector.append(&mut world, events.collect()).unwrap();
        assert!(receipt.events.iter().all(|event| event.rejection == 0), "{receipt:?}");
    }
    // Taken from the version before facts, keys and traits were made in room that is used again. Whoever changes the steps of the
    // story takes them anew from the version before; whoever changes them otherwise needs another apply version.
    let root = "9aa33ab477557931ba2fea6c308efd32c3135d09ebb08762330daec17981f8c9";
    let digest = "c80015a56512b1dfea9eeeb3b6555cbddc8efa1effab4f9e7c0f77b02f537b23";
    assert_eq!(left(&world), (529, root.to_owned(), digest.to_owned()));
}
