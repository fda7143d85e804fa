//! What whoever looks after a cluster does with `proofline`: commands that go twice, one node of many, the policy after a change of nodes.

use std::{
    fs,
    process::{Command, Output},
};

use proofline_client::{Signatory, read_key};
use proofline_cluster::{Binaries, TENANT, Tls};
use proofline_proto::v1::{self, command::Action};
use proofline_verifier::Policy;
use prost::Message as _;
use tonic::Code;

use crate::{
    archive::{expect, told},
    world::{World, append_through},
};

const DONE: i32 = 0;
const FAILED: i32 = 1;
const WRONG_ARGUMENTS: i32 = 2;
const PROVEN_WRONG: i32 = 3;
const DENIED: i32 = 6;

fn run(world: &World, identity: &str, arguments: &[&str]) -> Output {
    let profile = world.plan().profile(identity);
    let mut command = Command::new(Binaries::beside_current().unwrap().path("proofline"));
    command.current_dir(&world.plan().root).arg("--profile").arg(profile).args(arguments).output().unwrap()
}

/// Somebody who may submit commands, and read nothing.
async fn clerk(world: &World) {
    world.plan().add_client("clerk").unwrap();
    world.grant("clerk", v1::Role::Operator, "*").await;
}

#[tokio::test]
async fn a_command_that_goes_twice_is_proven_twice_to_whoever_may_read_nothing() {
    let world = World::found(3, Tls::Mutual).await;
    clerk(&world).await;
    let signer = format!("alice={}", world.plan().operator_key("alice").display());
    let grant = ["role", "grant", "spiffe://a.example/b", "auditor", "--tenant", "acme", "--signer", &signer, "--sign-to", "grant.command"];
    expect(&run(&world, "clerk", &grant), DONE, "next: proofline command submit");
    let first = run(&world, "clerk", &["command", "submit", "grant.command"]);
    expect(&first, DONE, "proven in the tree");
    let text = told(&first);
    let committed = text.split(", proven").next().unwrap();
    for place in 0..3 {
        let node = world.node(place).client.to_string();
        let again = run(&world, "clerk", &["--node", &node, "command", "submit", "grant.command"]);
        expect(&again, DONE, committed);
    }
    let index = committed.rsplit(' ').next().unwrap();
    expect(&run(&world, "clerk", &["entry", index]), DENIED, "LACKS_ROLE");
}

/// Entries that the checkpoint of an answer covers, by its own words; state commitments follow what was appended.
fn covered(answer: &Output) -> u64 {
    let told = told(answer);
    let number = told.split("the newest checkpoint, which covers ").nth(1).and_then(|rest| rest.split(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{told}"))
}

#[tokio::test]
async fn what_is_listed_says_how_far_it_goes_and_a_session_that_nobody_knows_is_asked_about() {
    let world = World::found(3, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    let size = 1 + append_through(&world, &mut gateway, &[0]).await;
    world.published(1, size).await;
    let node = world.node(1).client.to_string();
    let ask = |arguments: &[&str]| run(&world, "admin", &[&["--node", &node], arguments].concat());

    let tenant = ["--tenant", TENANT];
    let listed = ask(&[&["session", "list"][..], &tenant].concat());
    assert!(covered(&listed) >= size, "{}", told(&listed));
    let table = String::from_utf8(listed.stdout).unwrap();
    let session = table.lines().nth(1).unwrap().split(' ').next().unwrap();
    assert_eq!(table.lines().count(), 2, "rows, and nothing that is none: {table}");
    let shown = ask(&[&["session", "show", session][..], &tenant].concat());
    assert!(covered(&shown) >= size, "{}", told(&shown));

    let signer = format!("rita={}", world.plan().operator_key("rita").display());
    let contain = |id: &str| ask(&[&["contain", "suspend", id, "--reason", "a test", "--signer", &signer][..], &tenant].concat());
    expect(&contain("s-unheard-of"), DONE, "no session of this id is in the log so far");
    let known = contain(session);
    expect(&known, DONE, "in force");
    assert!(!told(&known).contains("spelled"), "{}", told(&known));

    expect(&ask(&["lineage"]), WRONG_ARGUMENTS, "nothing to begin with");
}

#[tokio::test]
async fn a_containment_is_lifted_by_its_tenant_and_number_and_an_incident_that_nobody_opened_is_asked_about() {
    let world = World::found(3, Tls::Off).await;
    let ask = |arguments: &[&str]| run(&world, "admin", arguments);
    let [rita, sam] = ["rita", "sam"].map(|name| format!("{name}={}", world.plan().operator_key(name).display()));
    let contain = |id: &str, incident: &str| {
        ask(&["contain", "credential", id, "--tenant", TENANT, "--reason", "a test", "--incident", incident, "--signer", &rita])
    };
    expect(&contain("tok-1", "inc-1"), DONE, "no incident inc-1 is opened so far");
    let open = ["incident", "open", "inc-1", "--tenant", TENANT, "--title", "a test", "--severity", "high", "--signer", &rita];
    expect(&ask(&open), DONE, "committed as entry");
    let again = contain("tok-2", "inc-1");
    expect(&again, DONE, "containment 2 in force");
    assert!(!told(&again).contains("no incident"), "{}", told(&again));

    let release = |id: &str, tenant: &str| {
        ask(&["containment", "release", id, "--tenant", tenant, "--reason", "over", "--signer", &rita, "--signer", &sam])
    };
    expect(&release("1", "another"), FAILED, "no node that answers knows a containment 1 of tenant another");
    expect(&ask(&["containment", "list", "--tenant", TENANT]), DONE, "tok-1");
    let lifted = release("1", TENANT);
    expect(&lifted, DONE, "containment 1 lifted (REVOKE_CREDENTIAL, a test); no longer over");
    assert!(told(&lifted).contains(&format!("credential {TENANT}/tok-1")), "{}", told(&lifted));
    let left = told(&ask(&["containment", "list", "--tenant", TENANT]));
    assert!(!left.contains("tok-1") && left.contains("tok-2"), "{left}");

    // One over all tenants is in the list of each, and no single one lifts it.
    let halt = ["contain", "halt", "--tenant", "*", "--reason", "a \u{1b}[31mtest", "--signer", &rita];
    expect(&ask(&halt), DONE, "containment 3 in force");
    expect(&release("3", TENANT), FAILED, "containment 3 is over all tenants, so nothing was lifted");
    let lifted = release("3", "*");
    expect(&lifted, DONE, "no longer over");
    assert!(!told(&lifted).contains('\u{1b}'), "{:?}", told(&lifted));
}

#[tokio::test]
async fn whoever_remembers_a_checkpoint_is_told_of_another_history() {
    let mut world = World::committing_every(200, 1, Tls::Off).await;
    let mut gateway = world.collector("gateway").await;
    let size = 1 + append_through(&world, &mut gateway, &[0]).await;
    world.published(0, size).await;
    let (data, before) = (world.plan().root.join("node-1"), world.plan().root.join("before"));

    world.cluster.stop_all().await.unwrap();
    assert!(Command::new("cp").arg("-a").arg(&data).arg(&before).status().unwrap().success());
    world.cluster.start_all().await.unwrap();
    let size = 1 + append_through(&world, &mut gateway, &[0]).await;
    world.published(0, size).await;
    let ask = |world: &World, arguments: &[&str]| run(world, "admin", &[&["--held", "held.json"], arguments].concat());
    expect(&ask(&world, &["checkpoint"]), DONE, "cosigned by");
    let shown = ask(&world, &["tail", "--from", "0", "--once"]);
    assert!(String::from_utf8(shown.stdout).unwrap().lines().count() as u64 >= size, "each entry is a line");
    expect(&ask(&world, &["tail", "--once", "--session", "nope"]), DONE, "no entry of session nope");

    // The same keys sign another history: what was appended behind the copy was never there.
    world.cluster.stop_all().await.unwrap();
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&before, &data).unwrap();
    world.cluster.start_all().await.unwrap();
    for n in 0..12 {
        world.grant(&format!("auditor-{n}"), v1::Role::Auditor, TENANT).await;
    }
    world.published(0, size + 10).await;
    for asked in [
        &["checkpoint"][..],
        &["prove", "--index", "1", "--out", "1.tlog-proof"],
        &["prove", "--receipt", "1", "--out", "1.cose-receipt"],
        &["prove", "--session", "s", "--tenant", TENANT, "--out", "s.session-evidence"],
        &["prove", "--session", "s", "--tenant", TENANT, "--position", "0", "--out", "0.session-proof"],
        &["evidence", "export", "--session", "s", "--tenant", TENANT, "--out", "s.evidence.zip"],
        &["tail", "--from", "0", "--once"],
    ] {
        expect(&ask(&world, asked), PROVEN_WRONG, "THE LOG WAS REWRITTEN");
    }
    assert!(world.plan().root.join("1.tlog-proof").is_file(), "it is evidence, and stays");
}

/// Another command of Alice's, which could be taken for this one.
fn under_the_nonce_of(world: &World, command: &v1::SignedCommand, action: Action) -> v1::SignedCommand {
    let action = v1::Command { action: Some(action) }.encode_to_vec();
    let mut other = v1::SignedCommand { command: action, signatures: Vec::new(), ..command.clone() };
    let key = read_key(&world.plan().operator_key("alice")).unwrap();
    Signatory { operator_id: "alice".to_owned(), key }.sign(&mut other).unwrap();
    other
}

#[tokio::test]
async fn the_same_command_is_answered_with_its_entry_and_another_one_under_its_nonce_is_not() {
    let world = World::found(3, Tls::Mutual).await;
    let register = |agent: &str| {
        Action::RegisterAgent(v1::RegisterAgent {
            tenant_id: "acme".to_owned(),
            agent_id: agent.to_owned(),
            business_owner: "finance".to_owned(),
            ..Default::default()
        })
    };
    let command = world.signed(&["alice"], register("billing-01"));
    let submit = |place: usize, command: &v1::SignedCommand| {
        let request = v1::SubmitCommandRequest { command: Some(command.clone()) };
        let mut control = world.control(place, "admin");
        async move { control.submit_command(request).await }
    };
    let first = submit(0, &command).await.unwrap().into_inner();
    assert!(!first.entry.is_empty());
    for place in 0..3 {
        assert_eq!(submit(place, &command).await.unwrap().into_inner(), first, "node {place}");
    }
    let other = under_the_nonce_of(&world, &command, register("billing-02"));
    let refused = submit(1, &other).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused:?}");
}

#[tokio::test]
async fn the_policy_follows_the_nodes_that_are_registered() {
    let mut world = World::found(3, Tls::Mutual).await;
    clerk(&world).await;
    let (_, key) = world.cluster.add_node().unwrap();
    let retire = v1::RetireNode { node_id: 3, reason: "disk lost".to_owned() };
    world.command(&["alice", "bob"], Action::RetireNode(retire)).await.unwrap();
    let index = world.command(&["alice", "bob"], Action::RegisterNode(v1::RegisterNode { node: Some(key) })).await.unwrap();
    world.published(0, index + 1).await;

    let order = ["node", "policy", "--out", "now.policy"];
    expect(&run(&world, "clerk", &order), DENIED, "LACKS_ROLE");
    expect(&run(&world, "auditor", &order), DONE, "proofline.local/node-1 proofline.local/node-2 proofline.local/node-4");
    let text = fs::read_to_string(world.plan().root.join("now.policy")).unwrap();
    assert!(text.contains("group nodes 2 ") && !text.contains("node-3"), "{text}");
    expect(&run(&world, "auditor", &order), FAILED, "now.policy");

    let node = world.node(1).client.to_string();
    expect(&run(&world, "auditor", &["checkpoint", "--node", &node, "--out", "now.checkpoint"]), DONE, "cosigned by");
    let note = fs::read(world.plan().root.join("now.checkpoint")).unwrap();
    Policy::parse(text.as_bytes()).unwrap().verify_checkpoint(&note).unwrap();
    expect(&run(&world, "auditor", &["checkpoint", "--node", "node-9"]), FAILED, "0 endpoints of");
}
