//! What operators do with the command line: two persons with two keys, nodes that come and go, a genesis from public keys.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use proofline_cluster::{Binaries, Plan, TENANT, Tls};
use proofline_proto::v1;
use prost::Message as _;

use crate::world::{World, event};

/// Exit code of `proofline` for what is not allowed.
const DENIED: i32 = 6;

fn proofline(arguments: &[&str]) -> Output {
    Command::new(Binaries::beside_current().unwrap().path("proofline")).args(arguments).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn done(arguments: &[&str]) -> String {
    let output = proofline(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", told(&output));
    told(&output)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// One operator's half of the work, each in a process that sees one key only.
struct TwoPersons<'a> {
    world: &'a World,
    file: PathBuf,
}

impl<'a> TwoPersons<'a> {
    fn new(world: &'a World, name: &str) -> Self {
        Self { world, file: world.plan().root.join(name) }
    }

    fn profile(&self) -> PathBuf {
        self.world.plan().profile("admin")
    }

    fn signer(&self, operator: &str) -> String {
        format!("{operator}={}", self.world.plan().operator_key(operator).display())
    }

    fn begin(&self, command: &[&str]) {
        let (profile, signer) = (self.profile(), self.signer("alice"));
        done(&[&["--profile", text(&profile)], command, &["--signer", &signer, "--sign-to", text(&self.file)]].concat());
    }

    fn submit(&self) -> Output {
        proofline(&["--profile", text(&self.profile()), "command", "submit", text(&self.file)])
    }

    /// Needs no profile and no connection.
    fn sign_second(&self) {
        done(&["command", "sign", text(&self.file), "--signer", &self.signer("bob"), "--yes"]);
    }
}

#[tokio::test]
async fn two_persons_add_and_retire_nodes_without_handing_over_a_key() {
    let mut world = World::found(3, Tls::Mutual).await;
    let (node, key) = world.cluster.add_node().unwrap();
    world.cluster.start(3).unwrap();
    let register = TwoPersons::new(&world, "register.command");
    let id = node.node_id.to_string();
    register.begin(&["node", "register", &key.name, "--node-id", &id, "--public-key", &hex::encode(&key.public_key)]);

    let shown = done(&["command", "show", text(&register.file)]);
    assert!(shown.contains(&key.name) && shown.contains("alice"), "{shown}");
    let alone = register.submit();
    assert_eq!(alone.status.code(), Some(DENIED), "{}", told(&alone));
    register.sign_second();
    let committed = register.submit();
    assert!(committed.status.success(), "{}", told(&committed));

    let profile = register.profile();
    let (peer, client) = (node.peer.to_string(), node.client.to_string());
    let add = ["--profile", text(&profile), "membership", "add", &id, "--peer-address", &peer, "--client-address", &client];
    assert!(done(&add).contains("1, 2, 3, 4"));
    let removed = done(&["--profile", text(&profile), "membership", "remove", "4"]);
    assert!(removed.contains("1, 2, 3") && !removed.contains('4'), "{removed}");

    let retire = TwoPersons::new(&world, "retire.command");
    retire.begin(&["node", "retire", "4", "--reason", "tried out"]);
    retire.sign_second();
    assert!(retire.submit().status.success());
}

#[tokio::test]
async fn nobody_signs_unasked_or_what_another_ledger_is_meant_by() {
    let world = World::found(1, Tls::Mutual).await;
    let retire = TwoPersons::new(&world, "retire.command");
    retire.begin(&["node", "retire", "1", "--reason", "tried out"]);
    let before = fs::read(&retire.file).unwrap();
    // No terminal, and no --yes.
    let unasked = proofline(&["command", "sign", text(&retire.file), "--signer", &retire.signer("bob")]);
    assert!(!unasked.status.success() && fs::read(&retire.file).unwrap() == before, "{}", told(&unasked));

    let profile = retire.profile();
    let elsewhere = profile.with_file_name("elsewhere.toml");
    fs::write(&elsewhere, fs::read_to_string(&profile).unwrap().replace("proofline.local/agents", "elsewhere.example/agents")).unwrap();
    let refused = proofline(&["--profile", text(&elsewhere), "command", "submit", text(&retire.file)]);
    assert!(!refused.status.success() && told(&refused).contains("elsewhere.example"), "{}", told(&refused));
}

#[tokio::test]
async fn evidence_that_is_asked_for_right_behind_the_seal_is_complete() {
    let world = World::found(3, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    world.ingest(0, "gateway").append(gateway.sign(vec![event("s")])).await.unwrap();
    let (profile, out) = (world.plan().profile("admin"), world.plan().root.join("s.session-evidence"));
    let seal = TwoPersons::new(&world, "unused").signer("rita");
    let admin = ["--profile", text(&profile)];
    done(&[&admin[..], &["session", "seal", "s", "--tenant", TENANT, "--reason", "closed", "--signer", &seal]].concat());
    let proven = done(&[&admin[..], &["prove", "--session", "s", "--tenant", TENANT, "--out", text(&out)]].concat());
    assert!(proven.contains("completeness: complete"), "{proven}");
}

#[test]
fn a_genesis_made_from_public_keys_is_the_one_that_a_cluster_was_founded_with() {
    let root = tempfile::tempdir().unwrap();
    let plan = Plan::create(&root.path().join("cluster"), 3, Tls::Mutual).unwrap();
    let founded = fs::read(plan.root.join("genesis.bin")).unwrap();
    let [file, out, policy] = ["genesis.toml", "made.bin", "made.policy"].map(|name| root.path().join(name));
    fs::write(&file, written(&v1::Genesis::decode(founded.as_slice()).unwrap())).unwrap();
    done(&["genesis", "create", text(&file), "--out", text(&out), "--policy", text(&policy)]);
    assert_eq!(fs::read(&out).unwrap(), founded);
    assert_eq!(fs::read(&policy).unwrap(), fs::read(plan.policy()).unwrap());
    assert!(done(&["genesis", "show", text(&out)]).contains("proofline.local/node-3"));
}

/// The plan that a person would have written for this genesis.
fn written(genesis: &v1::Genesis) -> String {
    let mut plan = format!("origin = {:?}\nlog_public_key = \"{}\"\n", genesis.origin, hex::encode(&genesis.log_public_key));
    for operator in &genesis.operators {
        let roles: Vec<String> = operator.roles().map(|role| short(role.as_str_name(), "OPERATOR_ROLE_")).collect();
        let key = hex::encode(&operator.public_key);
        plan += &format!("[[operators]]\nid = {:?}\npublic_key = \"{key}\"\nroles = {roles:?}\n", operator.operator_id);
    }
    for node in &genesis.nodes {
        plan += &format!("[[nodes]]\nid = {}\nname = {:?}\npublic_key = \"{}\"\n", node.node_id, node.name, hex::encode(&node.public_key));
    }
    for grant in &genesis.grants {
        let role = short(grant.role().as_str_name(), "ROLE_");
        plan += &format!("[[grants]]\nspiffe_id = {:?}\nrole = {role:?}\ntenant = {:?}\n", grant.spiffe_id, grant.tenant_id);
    }
    plan
}

fn short(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_ascii_lowercase()
}
