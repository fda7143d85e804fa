use ed25519_dalek::SigningKey;

use super::*;

fn key(seed: u8) -> String {
    hex::encode(SigningKey::from_bytes(&[seed; 32]).verifying_key().as_bytes())
}

fn plan() -> String {
    let operator =
        |id: &str, seed: u8, role: &str| format!("[[operators]]\nid = \"{id}\"\npublic_key = \"{}\"\nroles = [\"{role}\"]\n", key(seed));
    let node = |id: u8| format!("[[nodes]]\nid = {id}\nname = \"ledger.example/node-{id}\"\npublic_key = \"{}\"\n", key(20 + id));
    let head = format!("origin = \"ledger.example/agents\"\nlog_public_key = \"{}\"\n", key(10));
    let grant = "[[grants]]\nspiffe_id = \"spiffe://ledger.example/admin\"\nrole = \"operator\"\ntenant = \"*\"\n".to_owned();
    [
        head,
        operator("alice", 1, "registrar"),
        operator("bob", 2, "registrar"),
        operator("rita", 3, "responder"),
        node(1),
        node(2),
        node(3),
        grant,
    ]
    .concat()
}

/// Makes a genesis of the plan in a directory of its own.
fn create_of(plan: &str) -> Result<(v1::Genesis, String)> {
    let directory = tempfile::tempdir()?;
    let [from, out, policy] = ["genesis.toml", "genesis.bin", "ledger.policy"].map(|name| directory.path().join(name));
    fs::write(&from, plan)?;
    create(&from, &out, Some(&policy))?;
    Ok((v1::Genesis::decode(fs::read(&out)?.as_slice())?, fs::read_to_string(&policy)?))
}

#[test]
fn a_plan_becomes_a_genesis_that_the_ledger_takes_and_the_policy_of_its_auditors() {
    let (genesis, policy) = create_of(&plan()).unwrap();
    assert_eq!((genesis.operators.len(), genesis.nodes.len(), genesis.grants.len(), genesis.apply_version), (3, 3, 1, 1));
    check_genesis(&genesis).unwrap();
    let policy = proofline_verifier::Policy::parse(policy.as_bytes()).unwrap();
    assert_eq!(policy.witnesses().count(), 3);
}

#[test]
fn a_plan_that_no_ledger_could_live_with_is_refused_before_a_file_is_written() {
    let wrong = [
        ("one registrar", plan().replacen("registrar", "responder", 1)),
        ("one key twice", plan().replace(&key(2), &key(1))),
        ("a space in a node's name", plan().replace("ledger.example/node-2", "node 2")),
        ("nobody may submit", plan().replace("role = \"operator\"", "role = \"auditor\"")),
        ("a key that is none", plan().replace(&key(21), "00")),
        ("an unknown field", plan().replace("[[grants]]", "[[grants]]\nuntil = 1")),
        ("an unknown role", plan().replace("\"responder\"", "\"root\"")),
    ];
    for (what, plan) in wrong {
        assert!(create_of(&plan).is_err(), "{what}");
    }
}

#[test]
fn a_genesis_is_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let (from, out) = (directory.path().join("genesis.toml"), directory.path().join("genesis.bin"));
    fs::write(&from, plan()).unwrap();
    create(&from, &out, None).unwrap();
    assert!(create(&from, &out, None).is_err());
}
