//! The payload store of one node: what is kept, what an erasure leaves on the disk, what age takes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use proofline_ledger::{CommittedPayload, EntryIndex, Rehearsal, Subject, UnixNanos, payloads};
use proofline_node::payloads::{Chores, Put, Reserve, Step, Vault};
use proofline_proto::v1::{self, command::Action};

const TENANT: &str = "acme";
const SALT: [u8; 32] = [3; 32];
const DAY_NS: u64 = 24 * 3_600 * 1_000_000_000;
const START: UnixNanos = UnixNanos(1_700_000_000_000_000_000);

/// A ledger in memory, and one node's payload store.
struct Desk {
    ledger: Rehearsal,
    root: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { ledger: Rehearsal::new(START, "").unwrap(), root: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> Vault {
        Vault::open(self.root.path(), Reserve::Bytes(0)).unwrap()
    }

    /// Appends an event of a subject that commits to a content.
    fn commit(&mut self, subject: &str, content: &[u8]) -> CommittedPayload {
        let digest = blake3::keyed_hash(&SALT, content).as_bytes().to_vec();
        let algorithm = v1::CommitmentAlgorithm::Blake3Keyed.into();
        let initiator = v1::Principal { kind: v1::PrincipalKind::Human.into(), subject: subject.to_owned(), ..Default::default() };
        let event = v1::Event {
            event_id: vec![7; 16],
            tenant_id: TENANT.to_owned(),
            vantage: v1::Vantage::GatewayObserved.into(),
            session: Some(v1::SessionRef { session_id: format!("of-{subject}"), ..Default::default() }),
            attribution: Some(v1::Attribution {
                initiator: Some(initiator),
                agent: Some(v1::Agent { agent_id: "agent".to_owned(), ..Default::default() }),
                ..Default::default()
            }),
            payloads: vec![v1::Commitment { algorithm, digest: digest.clone(), size_bytes: content.len() as u64, ..Default::default() }],
            body: Some(v1::event::Body::RunStarted(v1::RunStarted::default())),
            ..Default::default()
        };
        let (index, _) = self.ledger.append(&event).unwrap();
        CommittedPayload::find(self.ledger.store(), index, &digest).unwrap().unwrap()
    }

    fn put(&self, vault: &Vault, of: &CommittedPayload, content: &[u8]) -> Put {
        vault.put(self.ledger.store(), of, &SALT, content).unwrap()
    }

    fn erase(&mut self, subject: &str) -> u64 {
        let (tenant_id, subject, ground) = (TENANT.to_owned(), subject.to_owned(), "asked for".to_owned());
        self.ledger.govern(Action::EraseSubject(v1::EraseSubject { tenant_id, issuer: String::new(), subject, ground })).unwrap().0
    }

    /// Carries out every erasure to its end; returns how many there were.
    fn forget(&self, vault: &Vault, now_unix_ns: u64) -> u64 {
        let mut count = 0;
        loop {
            match vault.destroy_keys(self.ledger.store(), now_unix_ns).unwrap() {
                0 => break,
                more => count += more,
            }
        }
        while vault.remove_erased().unwrap() {}
        assert!(vault.rewrite().unwrap());
        count
    }

    fn keys(&self) -> Vec<PathBuf> {
        files(&self.root.path().join("keys"))
    }
}

fn subject(name: &str) -> Subject {
    Subject::new(TENANT, "", name).unwrap()
}

fn files(under: &Path) -> Vec<PathBuf> {
    let (files, directories): (Vec<_>, Vec<_>) = fs::read_dir(under).unwrap().map(|it| it.unwrap().path()).partition(|it| it.is_file());
    files.into_iter().chain(directories.iter().flat_map(|it| self::files(it))).collect()
}

/// Bytes that cannot be packed.
fn noise(seed: u8, bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut noise);
    noise
}

fn content(vault: &Vault, of: &CommittedPayload) -> Option<Vec<u8>> {
    vault.get(of).unwrap().map(|opened| opened.content.to_vec())
}

#[test]
fn a_payload_is_read_back_after_a_restart_and_lies_sealed_on_the_disk() {
    let mut desk = Desk::new();
    let secret = b"the patient's name is Ada".repeat(40);
    let of = desk.commit("u-1", &secret);
    let vault = desk.open();
    assert_eq!(content(&vault, &of), None);
    assert_eq!((desk.put(&vault, &of, &secret), desk.put(&vault, &of, &secret)), (Put::Kept, Put::Kept));
    drop(vault);
    let vault = desk.open();
    assert_eq!(content(&vault, &of).unwrap(), secret);
    assert_eq!(vault.get(&of).unwrap().unwrap().salt, SALT);
    let totals = vault.totals(TENANT).unwrap();
    assert_eq!((totals.payloads, totals.bytes, totals.oldest), (1, 1_000, Some(of.index)));
    assert_eq!(vault.totals("acm").unwrap().payloads, 0, "another tenant's");
    for file in files(desk.root.path()) {
        let bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(7).any(|it| it == b"patient") && !bytes.windows(32).any(|it| it == SALT), "{} tells", file.display());
    }
}

#[test]
fn an_erasure_leaves_neither_key_nor_sealed_bytes() {
    let mut desk = Desk::new();
    let (mine, other) = (noise(1, 900_000), noise(2, 1_000));
    let (of_mine, of_other) = (desk.commit("u-1", &mine), desk.commit("u-2", &other));
    let vault = desk.open();
    desk.put(&vault, &of_mine, &mine);
    desk.put(&vault, &of_other, &other);
    let keys_before: Vec<_> = desk.keys();
    let kept = desk.keys().iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>();
    let index = desk.erase("u-1");
    assert_eq!(desk.forget(&vault, 77), 1);
    assert_eq!(desk.forget(&vault, 78), 0, "once");
    assert_eq!((content(&vault, &of_mine), content(&vault, &of_other)), (None, Some(other)));
    assert_eq!((keys_before.len(), desk.keys().len()), (2, 1));
    drop(vault);
    let left: u64 = files(&desk.root.path().join("db")).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(left < 500_000, "{left} bytes are left of a sealed payload of 900,000");
    let gone = kept.iter().filter(|key| !desk.keys().iter().any(|path| fs::read(path).unwrap() == **key)).count();
    assert_eq!(gone, 1);
    let vault = desk.open();
    let done = vault.destroyed(&subject("u-1")).unwrap();
    assert_eq!((done.by, done.unix_ns, done.keys), (index, 77, 0));
    assert_eq!(vault.destroyed(&subject("u-2")).unwrap().by, 0);
    assert_eq!(vault.totals(TENANT).unwrap().payloads, 1);
}

#[test]
fn what_is_put_while_files_are_written_again_stays_and_what_was_erased_goes() {
    let mut desk = Desk::new();
    let erased: Vec<_> = (0..6).map(|seed| noise(seed, 900_000)).collect();
    let put: Vec<_> = (100..164).map(|seed| noise(seed, 20_000)).collect();
    let of_erased: Vec<_> = erased.iter().map(|content| desk.commit("u-1", content)).collect();
    let of_put: Vec<_> = put.iter().map(|content| desk.commit("u-2", content)).collect();
    let vault = desk.open();
    of_erased.iter().zip(&erased).for_each(|(of, content)| assert_eq!(desk.put(&vault, of, content), Put::Kept));
    desk.erase("u-1");
    assert_eq!(vault.destroy_keys(desk.ledger.store(), 77).unwrap(), 1);
    while vault.remove_erased().unwrap() {}
    let is_put = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let rewriting = threads.spawn(|| {
            let mut times = 0;
            while !is_put.load(Ordering::SeqCst) || times == 0 {
                assert!(vault.rewrite().unwrap(), "nobody stopped it");
                times += 1;
            }
        });
        of_put.iter().zip(&put).for_each(|(of, content)| assert_eq!(desk.put(&vault, of, content), Put::Kept));
        is_put.store(true, Ordering::SeqCst);
        rewriting.join().unwrap();
    });
    drop(vault);
    let left: u64 = files(&desk.root.path().join("db")).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(left < 64 * 20_000 * 3, "{left} bytes are left");
    let vault = desk.open();
    for (of, content) in of_put.iter().zip(put) {
        assert_eq!(self::content(&vault, of), Some(content));
    }
    assert!(of_erased.iter().all(|of| self::content(&vault, of).is_none()));
}

#[test]
fn a_copy_of_the_database_from_before_opens_nothing_without_the_key() {
    let mut desk = Desk::new();
    let secret = noise(1, 5_000);
    let of = desk.commit("u-1", &secret);
    let vault = desk.open();
    desk.put(&vault, &of, &secret);
    drop(vault);
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("db")).unwrap();
    for file in files(&desk.root.path().join("db")) {
        fs::copy(&file, copy.path().join("db").join(file.file_name().unwrap())).unwrap();
    }
    let restored = Vault::open(copy.path(), Reserve::Bytes(0)).unwrap();
    assert_eq!(content(&restored, &of), None);
    assert!(!restored.has(&of).unwrap(), "what does not open is not here");
    assert_eq!(desk.put(&restored, &of, &secret), Put::Kept);
    assert_eq!((content(&restored, &of), restored.has(&of).unwrap()), (Some(secret), true));
    assert_eq!((restored.totals(TENANT).unwrap().payloads, restored.taken(0, 9).unwrap().len()), (1, 1), "it counts once");
}

#[test]
fn what_a_lost_key_sealed_is_not_here_even_when_the_subject_has_a_new_key() {
    let mut desk = Desk::new();
    let of: Vec<_> = (0..3).map(|n| desk.commit("u-1", &noise(n, 5_000))).collect();
    let vault = desk.open();
    assert!((0..2).all(|n| desk.put(&vault, &of[usize::from(n)], &noise(n, 5_000)) == Put::Kept));
    fs::remove_file(&desk.keys()[0]).unwrap();
    assert_eq!(desk.put(&vault, &of[2], &noise(2, 5_000)), Put::Kept, "under a new key");
    let here = || of.iter().map(|of| (vault.has(of).unwrap(), content(&vault, of).is_some())).collect::<Vec<_>>();
    assert_eq!(here(), [(false, false), (false, false), (true, true)]);
    assert!((0..2).all(|n| desk.put(&vault, &of[usize::from(n)], &noise(n, 5_000)) == Put::Kept), "as whoever fetched them does");
    assert_eq!(here(), [(true, true); 3]);
    desk.erase("u-1");
    desk.forget(&vault, 1);
    assert_eq!((here(), desk.keys().len()), (vec![(false, false); 3], 0), "no lost key is drawn again once it is to be destroyed");
}

#[test]
fn a_damaged_payload_is_told_from_a_missing_one_and_can_be_put_again() {
    let mut desk = Desk::new();
    let content = noise(1, 50_000);
    let (of, other) = (desk.commit("u-1", &content), desk.commit("u-1", b"another"));
    let vault = desk.open();
    assert_eq!((desk.put(&vault, &of, &content), desk.put(&vault, &other, b"another")), (Put::Kept, Put::Kept));
    drop(vault);
    // Opened once more, it has the rows in a table.
    drop(desk.open());
    damage(desk.root.path(), &of.commitment.digest);
    let vault = desk.open();
    assert!(vault.get(&of).is_err_and(|error| error.is_damage()));
    assert_eq!(self::content(&vault, &other).unwrap(), b"another");
    assert_eq!(desk.put(&vault, &of, &content), Put::Kept);
    assert_eq!(self::content(&vault, &of).unwrap(), content);
}

/// Flips a bit of the sealed payload with a digest, in the table that has it.
fn damage(root: &Path, digest: &[u8]) {
    for table in files(&root.join("db")).into_iter().filter(|path| path.extension().is_some_and(|it| it == "sst")) {
        let mut bytes = fs::read(&table).unwrap();
        let mut places = bytes.windows(digest.len()).enumerate().filter(|(_, window)| *window == digest).map(|(at, _)| at + 1_000);
        if let Some(at) = places.rfind(|at| at + 40_000 < bytes.len()) {
            bytes[at] ^= 1;
            return fs::write(table, bytes).unwrap();
        }
    }
    panic!("no table has the payload");
}

#[test]
fn what_an_erasure_covers_is_not_taken_again_even_by_a_state_that_does_not_know_it() {
    let mut desk = Desk::new();
    let before = desk.commit("u-1", b"before");
    let stale = Rehearsal::new(START, "").unwrap();
    let vault = desk.open();
    desk.put(&vault, &before, b"before");
    let index = EntryIndex(desk.erase("u-1"));
    assert_eq!(desk.put(&vault, &before, b"before"), Put::Erased(index), "the state knows, the store has not caught up");
    desk.forget(&vault, 1);
    assert_eq!(vault.put(stale.store(), &before, &SALT, b"before").unwrap(), Put::Erased(index), "the store knows, the state does not");
    let behind = desk.commit("u-1", b"behind");
    assert_eq!(desk.put(&vault, &behind, b"behind"), Put::Kept, "under a fresh key");
    assert_eq!((content(&vault, &before), content(&vault, &behind).unwrap()), (None, b"behind".to_vec()));
    let done = vault.destroyed(&subject("u-1")).unwrap();
    assert_eq!((done.by, done.keys), (index.0, 1));
    let again = desk.erase("u-1");
    desk.forget(&vault, 2);
    assert_eq!((content(&vault, &behind), vault.destroyed(&subject("u-1")).unwrap().by), (None, again));
    assert!(desk.keys().is_empty());
}

#[test]
fn erasures_that_were_committed_while_the_store_was_closed_are_carried_out_in_one_go() {
    let mut desk = Desk::new();
    let vault = desk.open();
    let of: Vec<_> = (0..5).map(|n| desk.commit(&format!("u-{n}"), b"a payload")).collect();
    assert!(of.iter().all(|of| desk.put(&vault, of, b"a payload") == Put::Kept));
    drop(vault);
    for n in 0..4 {
        desk.erase(&format!("u-{n}"));
    }
    let vault = desk.open();
    assert_eq!(desk.forget(&vault, 1), 4);
    let left: Vec<_> = of.iter().map(|of| content(&vault, of).is_some()).collect();
    assert_eq!((left, desk.keys().len()), (vec![false, false, false, false, true], 1));
}

#[test]
fn a_half_written_key_and_one_half_destroyed_go_with_the_erasure() {
    let mut desk = Desk::new();
    let of = desk.commit("u-1", b"a payload");
    let vault = desk.open();
    desk.put(&vault, &of, b"a payload");
    let key = desk.keys().remove(0);
    fs::copy(&key, key.with_extension("new")).unwrap();
    fs::write(&key, b"").unwrap();
    desk.erase("u-1");
    desk.forget(&vault, 1);
    assert!(desk.keys().is_empty());
}

#[test]
fn a_payload_is_listed_by_the_number_under_which_it_came() {
    let mut desk = Desk::new();
    let vault = desk.open();
    let of: Vec<_> = (0..4).map(|n| desk.commit(&format!("u-{n}"), b"a payload")).collect();
    assert!(of.iter().rev().all(|of| desk.put(&vault, of, b"a payload") == Put::Kept));
    let indexes = |after, limit| vault.taken(after, limit).unwrap().into_iter().map(|(_, index, _)| index).collect::<Vec<_>>();
    assert_eq!(indexes(0, 9), of.iter().rev().map(|of| of.index).collect::<Vec<_>>());
    assert_eq!((indexes(1, 2), indexes(4, 9)), (vec![of[2].index, of[1].index], vec![]));
    desk.erase("u-2");
    desk.forget(&vault, 1);
    assert_eq!(indexes(0, 9).len(), 3);
}

#[test]
fn keys_of_many_subjects_go_at_once_and_their_rows_and_files_follow() {
    let mut desk = Desk::new();
    let vault = desk.open();
    let of: Vec<_> = (0..70).map(|n| desk.commit(&format!("u-{n}"), &noise(n, 30_000))).collect();
    assert!((0..70).all(|n| desk.put(&vault, &of[usize::from(n)], &noise(n, 30_000)) == Put::Kept));
    for n in 0..69 {
        desk.erase(&format!("u-{n}"));
    }
    while vault.destroy_keys(desk.ledger.store(), 1).unwrap() > 0 {}
    let bytes = || files(&desk.root.path().join("db")).iter().map(|path| fs::metadata(path).unwrap().len()).sum::<u64>();
    let told = || vault.destroyed(&subject("u-5")).unwrap();
    assert_eq!((desk.keys().len(), told().by > 0, told().is_rewritten), (1, true, false));
    assert!(of[..69].iter().all(|of| !vault.has(of).unwrap() && content(&vault, of).is_none()), "without its key nothing opens");
    assert!(bytes() > 2_000_000, "files wait, and nobody waits for them");
    let late = desk.commit("u-5", b"of a later contract");
    assert_eq!(desk.put(&vault, &late, b"of a later contract"), Put::Kept);
    drop(vault);
    let vault = desk.open();
    assert!(!vault.destroyed(&subject("u-5")).unwrap().is_rewritten, "what is left to do is not forgotten");
    while vault.remove_erased().unwrap() {}
    assert_eq!(vault.totals(TENANT).unwrap().payloads, 2);
    assert!(vault.rewrite().unwrap() && vault.destroyed(&subject("u-5")).unwrap().is_rewritten);
    let left: u64 = files(&desk.root.path().join("db")).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(left < 1_000_000, "{left} bytes are left of 2,100,000, of which 30,019 are to be kept");
    assert_eq!((content(&vault, &late).unwrap(), content(&vault, &of[69]).unwrap()), (b"of a later contract".to_vec(), noise(69, 30_000)));
}

#[test]
fn a_round_of_the_sweep_goes_on_until_what_is_past_its_time_is_gone() {
    let mut desk = Desk::new();
    let vault = desk.open();
    for n in 0..2_000 {
        let content = format!("payload {n}");
        let of = desk.commit("u-1", content.as_bytes());
        assert_eq!(desk.put(&vault, &of, content.as_bytes()), Put::Kept);
    }
    let set = v1::SetRetention { tenant_id: TENANT.to_owned(), days: 183, reason: "a law".to_owned() };
    desk.ledger.govern(Action::SetRetention(set)).unwrap();
    desk.ledger.wait(184 * DAY_NS);
    let young = desk.commit("u-1", b"young");
    desk.put(&vault, &young, b"young");
    let mut chores = Chores::default();
    chores.sweep(desk.ledger.store()).unwrap();
    let mut steps = 0;
    while chores.step(&vault, desk.ledger.store(), 1).unwrap() != Step::Nothing {
        steps += 1;
    }
    assert_eq!(vault.totals(TENANT).unwrap().payloads, 1);
    assert_eq!((content(&vault, &young).unwrap(), steps >= 8), (b"young".to_vec(), true), "by steps between which puts come");
}

#[test]
fn what_would_reach_into_the_reserve_is_refused_and_what_is_here_is_kept() {
    let mut desk = Desk::new();
    let (kept, refused) = (desk.commit("u-1", b"kept"), desk.commit("u-2", b"refused"));
    assert_eq!(desk.put(&desk.open(), &kept, b"kept"), Put::Kept);
    let vault = Vault::open(desk.root.path(), Reserve::Bytes(u64::MAX)).unwrap();
    assert_eq!((vault.room().unwrap(), desk.put(&vault, &refused, b"refused")), (0, Put::Full));
    assert_eq!((desk.keys().len(), vault.totals(TENANT).unwrap().payloads), (1, 1), "nothing was drawn or written");
    assert_eq!((desk.put(&vault, &kept, b"kept"), content(&vault, &kept).unwrap()), (Put::Kept, b"kept".to_vec()));
}

#[test]
fn age_takes_what_nothing_holds_in_bounded_steps() {
    let mut desk = Desk::new();
    let vault = desk.open();
    let old: Vec<_> = (0..300).map(|n| desk.commit(&format!("u-{}", n % 3), format!("payload {n}").as_bytes())).collect();
    for (n, of) in old.iter().enumerate() {
        desk.put(&vault, of, format!("payload {n}").as_bytes());
    }
    let set = v1::SetRetention { tenant_id: TENANT.to_owned(), days: 183, reason: "a law".to_owned() };
    desk.ledger.govern(Action::SetRetention(set)).unwrap();
    let target = v1::Target { kind: v1::TargetKind::Session.into(), tenant_id: TENANT.to_owned(), id: "of-u-1".to_owned() };
    let hold = v1::PlaceHold { target: Some(target), matter: "case 12".to_owned(), authority: "court".to_owned() };
    desk.ledger.govern(Action::PlaceHold(hold)).unwrap();
    desk.ledger.wait(184 * DAY_NS);
    let new = desk.commit("u-0", b"young");
    desk.put(&vault, &new, b"young");
    let retention = payloads::retention(desk.ledger.store(), TENANT).unwrap().unwrap();
    let step = |from: Option<&[u8]>| vault.sweep(desk.ledger.store(), &retention, desk.ledger.now(), from).unwrap();
    let first = step(None);
    assert_eq!(first.deleted + first.held, 256, "a step is bounded");
    let second = step(first.next.as_deref());
    assert_eq!((first.deleted + second.deleted, first.held + second.held, second.next), (200, 100, None));
    assert_eq!((content(&vault, &old[0]), content(&vault, &old[1]).unwrap()), (None, b"payload 1".to_vec()));
    assert_eq!(content(&vault, &new).unwrap(), b"young");
    assert_eq!((vault.totals(TENANT).unwrap().payloads, vault.taken(0, 999).unwrap().len()), (101, 101));
    assert_eq!(desk.put(&vault, &old[0], b"payload 0"), Put::Expired, "and it is not taken again");
    assert_eq!(desk.put(&vault, &old[1], b"payload 1"), Put::Kept);
}
