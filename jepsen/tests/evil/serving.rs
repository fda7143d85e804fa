//! Lies in what is served: the node follows the log as it should, and answers something else.

use crate::world::{EVIL, HONEST, Said, World};

/// A session with four entries, published, with a containment behind it.
async fn story(behaviour: &str) -> World {
    let world = World::committing_every(200, behaviour).await;
    world.append(HONEST, "run-1", &["look", "read", "pay"]).expect(0, "");
    world.suspend(HONEST, "run-1").expect(0, "proven in the tree");
    world.settled().await;
    world
}

/// Starts the first node again, with another lie, and waits until it has all that the others have.
async fn become_evil(world: &mut World, behaviour: &str) {
    world.become_evil(behaviour).await;
    world.settled().await;
}

/// Everything that a reader asks, of one node: each ends well with an honest one.
fn questions(world: &World) -> Vec<(&'static str, Vec<String>)> {
    let file = |name: &str| world.path(name).display().to_string();
    let of = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    vec![
        ("checkpoint", of(&["checkpoint"])),
        ("entry", of(&["entry", "5"])),
        ("prove", of(&["prove", "--index", "5", "--force", "--out", &file("5.tlog-proof")])),
        ("session", of(&["prove", "--session", "run-1", "--force", "--out", &file("run-1.session-evidence")])),
        ("export", of(&["evidence", "export", "--session", "run-1", "--force", "--out", &file("run-1.evidence.zip")])),
        ("replay", of(&["replay"])),
        ("archive", of(&["archive", &file("archive")])),
    ]
}

fn ask(world: &World, place: usize, name: &str) -> Said {
    let (_, arguments) = questions(world).into_iter().find(|(known, _)| *known == name).unwrap();
    let _ = std::fs::remove_dir_all(world.path("archive"));
    world.ask(place, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lies_to_readers_is_found_out_by_the_first_who_asks() {
    let mut world = story("none").await;
    for (name, _) in questions(&world) {
        println!("control: {name}");
        ask(&world, EVIL, name).expect(0, "");
    }

    become_evil(&mut world, "evil-forked-note").await;
    ask(&world, EVIL, "checkpoint").expect(3, "quorum \"nodes\" is not met by the cosignatures of [\"proofline.local/node-1\"]");
    ask(&world, EVIL, "entry").expect(3, "is not met by the cosignatures of");

    become_evil(&mut world, "evil-forged-entry").await;
    ask(&world, EVIL, "entry").expect(3, "NOT IN THE LOG: entry 5 as http://");
    ask(&world, EVIL, "prove").expect(3, "");
    ask(&world, EVIL, "replay").expect(3, "PROVEN WRONG");
    ask(&world, EVIL, "archive").expect(3, "");

    become_evil(&mut world, "evil-swapped-entries").await;
    ask(&world, EVIL, "replay").expect(3, "PROVEN WRONG");
    ask(&world, EVIL, "archive").expect(3, "");

    become_evil(&mut world, "evil-short-answer").await;
    ask(&world, EVIL, "export").expect(3, "is refused by the check");

    become_evil(&mut world, "evil-short-session").await;
    // Whether a session that is not sealed goes on cannot be seen from its own entries, and the report says so.
    ask(&world, EVIL, "session").expect(0, "that the session ended here: it is not sealed, and entries may follow the last one shown");
    // The question for everything around it is answered from the lists that are committed to.
    ask(&world, EVIL, "export").expect(0, "");
    world.accuses_nobody();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_goes_back_is_found_out_by_whoever_remembers() {
    let mut world = story("evil-rewound-log").await;
    // What it shows from now on.
    ask(&world, EVIL, "checkpoint").expect(0, "");
    world.append(HONEST, "run-2", &["look"]).expect(0, "");
    world.suspend(HONEST, "run-2").expect(0, "proven in the tree");
    world.append(HONEST, "run-2", &["read"]).expect(0, "");
    ask(&world, HONEST, "checkpoint").expect(0, "");
    ask(&world, EVIL, "checkpoint").expect(4, "the ledger shows");
    ask(&world, EVIL, "replay").expect(4, "the nodes that answer lag, or entries are kept back");
    // Who asks more than one node is told the truth.
    world.ask_all(&["checkpoint"]).expect(0, "");

    become_evil(&mut world, "evil-false-path").await;
    ask(&world, HONEST, "checkpoint").expect(0, "");
    // What is held is older than what is published from here on.
    world.append(HONEST, "run-3", &["look"]).expect(0, "");
    world.settled().await;
    // A path that proves nothing accuses the node that gave it, and not the log.
    world.ask_all(&["checkpoint"]).expect(0, "continues the one that was held");
    world.accuses_nobody();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_the_word_of_the_node_that_gives_it() {
    let mut world = story("none").await;
    world.ask(EVIL, &["containment", "list"]).expect(0, "run-1");
    become_evil(&mut world, "evil-hidden-revoke").await;
    // Nothing proves that a list is whole: another node has to be asked, or the question put to the lists that are committed to.
    let hidden = world.ask(EVIL, &["containment", "list"]);
    assert!(hidden.code == 0 && !hidden.out.contains("run-1"), "{hidden:?}");
    world.ask(HONEST, &["containment", "list"]).expect(0, "run-1");
}
