//! Vectors of `.session-evidence`.

use proofline_proto::v1;
use v1::command::Action;
use v1::entry_core::Body;

use super::{Vector, decode_entry, encoded};
use crate::world::{self, Signer, World, alice, bob, carol, event, event_by, gateway, register, sidecar, sign_command};

const SESSION: &str = "s";

pub(super) fn vectors() -> Vec<Vector> {
    [valid(), forms(), members(), registrations(), commands(), statements(), dishonest_sessions(), collectors()]
        .into_iter()
        .flatten()
        .collect()
}

fn usual() -> v1::SessionEvidence {
    world::usual().session_evidence("s-sealed")
}

/// Evidence of the session `s` of a world that some story shaped.
fn told(story: impl FnOnce(&mut World)) -> Vec<u8> {
    let mut world = World::new();
    story(&mut world);
    encoded(&world.session_evidence(SESSION))
}

fn altered(alter: impl FnOnce(&mut v1::SessionEvidence)) -> Vec<u8> {
    let mut evidence = usual();
    alter(&mut evidence);
    encoded(&evidence)
}

fn revoke(collector: &Signer) -> Action {
    Action::RevokeCollector(v1::RevokeCollector { collector_id: collector.name.to_owned(), reason: "left".to_owned() })
}

fn new_key() -> Signer {
    Signer::new("gateway", 33)
}

fn dave() -> Signer {
    Signer::new("dave", 24)
}

fn register_dave() -> Action {
    let roles = vec![v1::OperatorRole::Registrar.into()];
    Action::RegisterOperator(v1::RegisterOperator {
        operator: Some(v1::OperatorKey { operator_id: "dave".to_owned(), public_key: dave().public(), roles, ..Default::default() }),
    })
}

fn revoke_alice() -> Action {
    Action::RevokeOperator(v1::RevokeOperator { operator_id: "alice".to_owned(), reason: "left".to_owned() })
}

/// An event that says why it names no agent.
fn unattributed(session: &str, number: u8) -> v1::Event {
    let reason = v1::UnattributedReason::NoIdentityInSource.into();
    v1::Event { attribution: Some(v1::Attribution { unattributed: reason, ..Default::default() }), ..event(session, number) }
}

fn retire_third() -> Action {
    Action::RetireNode(v1::RetireNode { node_id: 3, reason: "replaced".to_owned() })
}

fn valid() -> Vec<Vector> {
    let rotated = told(|world| {
        world.batch(&gateway(), &[event(SESSION, 1)]);
        world.command(register(&new_key(), &["planner"]), &[&alice()]);
        world.batch(&new_key(), &[event(SESSION, 2)]);
        world.command(revoke(&new_key()), &[&bob()]);
    });
    let operators = told(|world| {
        world.command(register_dave(), &[&alice(), &bob()]);
        world.command(revoke_alice(), &[&bob(), &dave()]);
        world.command(register(&sidecar(), &["planner"]), &[&dave()]);
        world.batch(&sidecar(), &[event(SESSION, 1)]);
    });
    let retired = told(|world| {
        world.batch(&gateway(), &[event(SESSION, 1)]);
        world.command(retire_third(), &[&alice(), &bob()]);
    });
    let sealed = encoded(&usual());
    let open = encoded(&world::usual().session_evidence("s-open"));
    let attributed_late = told(|world| {
        world.command(register(&sidecar(), &["planner"]), &[&alice()]);
        world.batch(&gateway(), &[unattributed(SESSION, 1), event(SESSION, 2)]);
        world.batch(&sidecar(), &[unattributed(SESSION, 3)]);
    });
    vec![
        Vector::valid("sealed.session-evidence", sealed, "five entries of two collectors, sealed by an operator").and_is("complete"),
        Vector::valid("open.session-evidence", open, "three entries, not sealed").and_is("open_ended"),
        Vector::valid("rotated.session-evidence", rotated, "a collector changed its key, and was revoked afterwards").and_is("open_ended"),
        Vector::valid("operators.session-evidence", operators, "an operator registered by two others registers a collector"),
        Vector::valid(
            "attributed-late.session-evidence",
            attributed_late,
            "events without an agent, before and behind the one that names it",
        ),
        Vector::valid("retired-node.session-evidence", retired, "a warning: the policy names the key of a retired node"),
    ]
}

fn forms() -> Vec<Vector> {
    let undecided = |file: &str, bytes: Vec<u8>, why| Vector::undecided(file, bytes, "format", why);
    let whole = encoded(&usual());
    vec![
        undecided(
            "version.session-evidence",
            altered(|it| it.format = "proofline/session-evidence/v2".to_owned()),
            "an unknown format version",
        ),
        undecided("trailing.session-evidence", [&whole[..], &[0]].concat(), "a byte behind the message"),
        undecided("unknown-field.session-evidence", [&whole[..], &[0x7A, 0x01, 0x41]].concat(), "a field that this version does not know"),
        undecided("truncated.session-evidence", whole[..whole.len() / 2].to_vec(), "the file ends early"),
        undecided("no-last.session-evidence", altered(|it| it.last = None), "the last entry is missing"),
        Vector::wrong(
            "origin.session-evidence",
            altered(|it| it.origin = "ledger.example/other".to_owned()),
            "origin",
            "another origin than the checkpoint's",
        ),
    ]
}

fn members() -> Vec<Vector> {
    let other = world::usual().session_evidence("s-open");
    let wrong = |file: &str, check, why, alter: &dyn Fn(&mut v1::SessionEvidence)| Vector::wrong(file, altered(alter), check, why);
    vec![
        wrong("last-flipped.session-evidence", "last-inclusion", "one bit of the last entry flipped", &|it| {
            it.last.as_mut().unwrap().entry[40] ^= 1
        }),
        wrong("dropped-last.session-evidence", "entries", "the last entry dropped", &|it| drop(it.members.pop())),
        wrong("no-members.session-evidence", "entries", "no entries at all", &|it| it.members.clear()),
        wrong("dropped-middle.session-evidence", "session-order", "an entry in the middle dropped", &|it| drop(it.members.remove(2))),
        wrong("dropped-first.session-evidence", "session-order", "the first entry dropped", &|it| drop(it.members.remove(0))),
        wrong("doubled.session-evidence", "session-order", "an entry twice", &|it| it.members.insert(1, it.members[1].clone())),
        wrong("swapped.session-evidence", "session-order", "two entries swapped", &|it| it.members.swap(1, 2)),
        wrong("foreign-member.session-evidence", "session-identity", "an entry of another session", &|it| {
            it.members[1] = other.members[1].clone()
        }),
        wrong("renamed.session-evidence", "session-identity", "the file names another session", &|it| it.session_id = "s-open".to_owned()),
        wrong("tenant.session-evidence", "session-identity", "the file names another tenant", &|it| it.tenant_id = "umbrella".to_owned()),
        wrong("member-root.session-evidence", "session-roots", "the session root of an entry changed", &|it| {
            let mut entry = decode_entry(&it.members[1].entry);
            entry.session_root[0] ^= 1;
            it.members[1].entry = encoded(&entry);
        }),
        wrong("member-time.session-evidence", "session-roots", "the time of an entry changed", &|it| {
            let mut entry = decode_entry(&it.members[1].entry);
            let mut core = world::core(&it.members[1].entry).unwrap();
            core.committed_unix_ns += 1;
            entry.core = encoded(&core).into();
            it.members[1].entry = encoded(&entry);
        }),
    ]
}

fn registrations() -> Vec<Vector> {
    let with_genesis = |alter: &dyn Fn(&mut v1::Genesis)| {
        let mut genesis = world::genesis();
        alter(&mut genesis);
        let mut world = World::with_genesis(&genesis);
        world.command(register(&gateway(), &["*"]), &[&alice()]);
        world.batch(&gateway(), &[event(SESSION, 1)]);
        encoded(&world.session_evidence(SESSION))
    };
    vec![
        Vector::wrong(
            "registration-flipped.session-evidence",
            altered(|it| it.registrations[1].entry[60] ^= 1),
            "registrations-inclusion",
            "one bit of a registration flipped",
        ),
        Vector::wrong(
            "registrations-swapped.session-evidence",
            altered(|it| it.registrations.swap(1, 2)),
            "registrations-inclusion",
            "registrations out of order",
        ),
        Vector::wrong(
            "registration-twice.session-evidence",
            altered(|it| it.registrations.insert(1, it.registrations[1].clone())),
            "registrations-inclusion",
            "a registration twice",
        ),
        Vector::undecided(
            "no-genesis.session-evidence",
            altered(|it| drop(it.registrations.remove(0))),
            "genesis",
            "without the genesis entry",
        ),
        Vector::wrong(
            "genesis-log-key.session-evidence",
            with_genesis(&|it| it.log_public_key = Signer::new("x", 9).public()),
            "genesis",
            "a genesis that names another log key",
        ),
        Vector::wrong(
            "genesis-origin.session-evidence",
            with_genesis(&|it| it.origin = "ledger.example/other".to_owned()),
            "genesis",
            "a genesis of another ledger",
        ),
        Vector::wrong(
            "no-command.session-evidence",
            {
                let usual = world::usual();
                let mut evidence = usual.session_evidence("s-sealed");
                evidence.registrations.insert(2, usual.proven(2));
                encoded(&evidence)
            },
            "command-signatures",
            "an event among the registrations",
        ),
    ]
}

fn commands() -> Vec<Vector> {
    let wrong = |file: &str, why, story: &dyn Fn(&mut World)| {
        let bytes = told(|world| {
            story(world);
            world.batch(&gateway(), &[event(SESSION, 1)]);
        });
        Vector::wrong(file, bytes, "command-signatures", why)
    };
    let forged = |world: &mut World, alter: &dyn Fn(&mut v1::SignedCommand)| {
        let mut command = world.signed_command(register(&sidecar(), &["*"]), &[&alice()]);
        alter(&mut command);
        world.append(Body::Command(command), None);
    };
    vec![
        wrong("command-forged.session-evidence", "a command whose signature does not verify", &|world| {
            forged(world, &|command| command.signatures[0].signature[0] ^= 1);
        }),
        wrong("command-unsigned.session-evidence", "a command without a signature", &|world| {
            forged(world, &|command| command.signatures.clear())
        }),
        wrong("command-origin.session-evidence", "a command signed for another ledger", &|world| {
            forged(world, &|command| {
                command.origin = "ledger.example/other".to_owned();
                *command = sign_command(command.clone(), &[&alice()]);
            });
        }),
        wrong("command-expired.session-evidence", "a command committed after its end", &|world| {
            let expires = world.now_ns;
            forged(world, &|command| {
                command.expires_unix_ns = expires;
                *command = sign_command(command.clone(), &[&alice()]);
            });
        }),
        wrong("command-role.session-evidence", "a registration signed by a responder", &|world| {
            world.command(register(&sidecar(), &["*"]), &[&carol()]);
        }),
        wrong("command-other-key.session-evidence", "a command signed with another key under a known name", &|world| {
            world.command(register(&sidecar(), &["*"]), &[&Signer::new("alice", 99)]);
        }),
        wrong("one-person.session-evidence", "one person retires a node", &|world| {
            world.command(retire_third(), &[&alice()]);
        }),
        wrong("same-person-twice.session-evidence", "one person signs twice for two", &|world| {
            world.command(retire_third(), &[&alice(), &alice()]);
        }),
        wrong("revoked-operator.session-evidence", "a command of an operator who was revoked before", &|world| {
            world.command(register_dave(), &[&alice(), &bob()]);
            world.command(revoke_alice(), &[&bob(), &dave()]);
            world.command(register(&sidecar(), &["*"]), &[&alice()]);
        }),
        Vector::undecided(
            "unknown-operator.session-evidence",
            told(|world| {
                world.command(register(&sidecar(), &["*"]), &[&dave()]);
                world.batch(&gateway(), &[event(SESSION, 1)]);
            }),
            "command-signatures",
            "a command of an operator whom nothing in the file registers",
        ),
        Vector::wrong(
            "seal-role.session-evidence",
            told(|world| {
                world.batch(&gateway(), &[event(SESSION, 1)]);
                world.seal(SESSION, &[&alice()]);
            }),
            "command-signatures",
            "a seal signed by a registrar",
        ),
    ]
}

fn statements() -> Vec<Vector> {
    let wrong = |file: &str, check, why, alter: &dyn Fn(&mut v1::SessionEvidence)| Vector::wrong(file, altered(alter), check, why);
    let stray = world::usual().session_evidence("s-open").statements[2].clone();
    vec![
        wrong("statement-unused.session-evidence", "statements", "a statement that no event uses", &|it| it.statements.push(stray.clone())),
        wrong("statement-twice.session-evidence", "statements", "a statement twice", &|it| {
            it.statements.push(it.statements[0].clone());
            it.members[1].statement = 3;
        }),
        wrong("statement-beyond.session-evidence", "statements", "an event that names no statement", &|it| it.members[0].statement = 7),
        wrong("seal-with-path.session-evidence", "statements", "a seal that carries a batch path", &|it| {
            it.members[4].batch_path.push(vec![0; 32])
        }),
        wrong("statement-forged.session-evidence", "batch-signatures", "one bit of a collector's signature flipped", &|it| {
            it.statements[1].signature[9] ^= 1
        }),
        wrong("statement-sequence.session-evidence", "batch-signatures", "the sequence of a signed statement changed", &|it| {
            it.statements[1].sequence += 1
        }),
        wrong("statement-previous.session-evidence", "batch-signatures", "a predecessor of 31 bytes", &|it| {
            it.statements[1].previous.pop();
        }),
        wrong("statement-key.session-evidence", "batch-signatures", "a key of small order", &|it| {
            it.statements[1].public_key = vec![0; 32];
        }),
        wrong("statement-other.session-evidence", "batch-inclusion", "an event that names another batch's statement", &|it| {
            it.members[1].statement = 1
        }),
        wrong("batch-path.session-evidence", "batch-inclusion", "one bit of a batch path flipped", &|it| {
            it.members[0].batch_path[0][0] ^= 1
        }),
        wrong("batch-path-long.session-evidence", "batch-inclusion", "a batch path with one hash too many", &|it| {
            it.members[0].batch_path.push(vec![0; 32])
        }),
    ]
}

/// Cosigned by every node, and still not what the session's rules allow.
fn dishonest_sessions() -> Vec<Vector> {
    let in_batch = |world: &mut World, order: [usize; 2]| {
        world.batch(&gateway(), &[event("elsewhere", 1), event("elsewhere", 2)]);
        let recorded = world.members("elsewhere").into_iter().map(|index| world::core(&world.entries[index]).unwrap().body.unwrap());
        let recorded: Vec<_> = recorded.collect();
        for offset in order {
            world.append(recorded[offset].clone(), Some(SESSION));
        }
    };
    vec![
        Vector::wrong(
            "behind-seal.session-evidence",
            told(|world| {
                world.batch(&gateway(), &[event(SESSION, 1)]);
                world.seal(SESSION, &[&bob()]);
                world.batch(&gateway(), &[event(SESSION, 2)]);
            }),
            "session-order",
            "an event recorded behind the seal",
        ),
        Vector::wrong(
            "time-falls.session-evidence",
            told(|world| {
                world.batch(&gateway(), &[event(SESSION, 1)]);
                world.now_ns -= 60_000_000_000;
                world.batch(&gateway(), &[event(SESSION, 2)]);
            }),
            "session-order",
            "the committed time falls",
        ),
        Vector::wrong(
            "no-member.session-evidence",
            told(|world| {
                world.batch(&gateway(), &[event(SESSION, 1)]);
                world.append(Body::LaneClosed(v1::LaneClosed::default()), Some(SESSION));
            }),
            "session-order",
            "an entry in a session that is neither event nor seal",
        ),
        Vector::wrong(
            "batch-reordered.session-evidence",
            told(|world| in_batch(world, [1, 0])),
            "batch-inclusion",
            "the entries of a batch in another order than it was signed",
        ),
        Vector::wrong(
            "other-session.session-evidence",
            told(|world| in_batch(world, [0, 1])),
            "event-session",
            "events that name another session than they were put into",
        ),
    ]
}

fn collectors() -> Vec<Vector> {
    let wrong = |file: &str, check, why, story: &dyn Fn(&mut World)| Vector::wrong(file, told(story), check, why);
    let mut unregistered = usual();
    unregistered.registrations.remove(2);
    vec![
        Vector::undecided(
            "unregistered.session-evidence",
            encoded(&unregistered),
            "collector-keys",
            "the registration of a collector left out",
        ),
        wrong(
            "batch-forged.session-evidence",
            "batch-signatures",
            "a batch that its collector did not sign, cosigned by all nodes",
            &|world| {
                world.forged_batch(&gateway(), &Signer::new("gateway", 99), &[event(SESSION, 1)]);
            },
        ),
        wrong("collector-other-key.session-evidence", "collector-keys", "a batch under a key that was never registered", &|world| {
            world.batch(&new_key(), &[event(SESSION, 1)]);
        }),
        wrong("collector-old-key.session-evidence", "collector-keys", "a batch under a key that was replaced before", &|world| {
            world.command(register(&new_key(), &["*"]), &[&alice()]);
            world.batch(&gateway(), &[event(SESSION, 1)]);
        }),
        wrong("collector-early.session-evidence", "collector-keys", "a batch under a key that was registered later", &|world| {
            world.batch(&new_key(), &[event(SESSION, 1)]);
            world.command(register(&new_key(), &["*"]), &[&alice()]);
        }),
        wrong("collector-revoked.session-evidence", "collector-keys", "a batch of a collector that was revoked before", &|world| {
            world.command(revoke(&gateway()), &[&alice()]);
            world.batch(&gateway(), &[event(SESSION, 1)]);
        }),
        wrong("agent-scope.session-evidence", "collector-scope", "an agent that the collector is not registered for", &|world| {
            world.command(register(&sidecar(), &["planner"]), &[&alice()]);
            world.batch(&sidecar(), &[event_by("stranger", SESSION, 1)]);
        }),
        wrong(
            "session-agent-scope.session-evidence",
            "collector-scope",
            "an event without an agent in the session of another's agent",
            &|world| {
                world.command(register(&sidecar(), &["coder"]), &[&alice()]);
                world.batch(&gateway(), &[event(SESSION, 1)]);
                world.batch(&sidecar(), &[unattributed(SESSION, 2)]);
            },
        ),
        wrong(
            "no-agent-scope.session-evidence",
            "collector-scope",
            "a session begun without an agent by a collector of one agent",
            &|world| {
                world.command(register(&sidecar(), &["planner"]), &[&alice()]);
                world.batch(&sidecar(), &[unattributed(SESSION, 1)]);
                world.batch(&sidecar(), &[event(SESSION, 2)]);
            },
        ),
        wrong("vantage-scope.session-evidence", "collector-scope", "a vantage that the collector is not registered for", &|world| {
            let idp = v1::Event { vantage: v1::Vantage::IdpObserved.into(), ..event(SESSION, 1) };
            world.batch(&gateway(), &[idp]);
        }),
        wrong("tenant-scope.session-evidence", "collector-scope", "a tenant that the collector is not registered for", &|world| {
            let other = v1::Event { tenant_id: "umbrella".to_owned(), ..event(SESSION, 1) };
            world.batch(&gateway(), &[other]);
        }),
    ]
}
