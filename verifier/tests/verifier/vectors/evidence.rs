//! `.evidence.zip`: the answer to a question.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proofline_proto::v1;
use prost::Message as _;
use v1::Dimension as D;
use v1::LineageDirection as Way;

use super::Vector;
use crate::evidence_file::{EvidenceFile, around_main, lineage, main_list, story, zip};
use crate::lineage::{Lineage, question};
use crate::world;

fn file() -> EvidenceFile {
    let lineage = lineage();
    EvidenceFile::of(&lineage, &around_main(&lineage))
}

fn of(asked: &v1::LineageQuestion, page_entries: usize) -> Vec<u8> {
    let lineage = lineage();
    EvidenceFile::of(&lineage, &lineage.answer(asked, page_entries)).pack()
}

/// A file with one page altered, everything that names its bytes with it.
fn altered(number: u64, change: impl FnOnce(&mut v1::LineagePage)) -> Vec<u8> {
    let mut file = file();
    file.change_page(number, change);
    file.pack()
}

/// The same, with the proofs that the altered page needs.
fn reproved(number: u64, change: impl FnOnce(&mut v1::LineagePage)) -> Vec<u8> {
    altered(number, |page| {
        change(page);
        lineage().prove(page);
    })
}

fn edited(edit: impl FnOnce(&mut EvidenceFile)) -> Vec<u8> {
    let mut file = file();
    edit(&mut file);
    file.pack()
}

fn cut() -> Vec<u8> {
    let lineage = lineage();
    EvidenceFile::of(&lineage, &around_main(&lineage)[..2]).pack()
}

/// With a proof from an older size to the answer's.
fn continued(older: usize) -> Vec<u8> {
    let lineage = lineage();
    let mut file = EvidenceFile::of(&lineage, &around_main(&lineage));
    let path = crate::naive::LOG.consistency(&lineage.world.log_leaves(), older);
    let path: String = path.iter().map(|hash| format!("{}\n", STANDARD.encode(hash))).collect();
    let proof = format!("proofline/consistency-proof/v1\nold {older}\nnew {}\n{path}", lineage.world.size());
    file.members.push(("consistency-proof".to_owned(), proof.into_bytes()));
    file.describe();
    file.pack()
}

/// The checkpoint that the story had when it was younger.
pub(super) fn held() -> String {
    story().cut(6).checkpoint()
}

fn unvouched() -> Vec<u8> {
    let lineage = lineage();
    let mut pages = lineage.answer(&v1::LineageQuestion { from_index: 4, to_index: 6, ..question(&[], Way::Unspecified, 0) }, 10);
    pages[0].question.as_mut().unwrap().starts = question(&[(D::Session, "s-main")], Way::Up, 1).starts;
    EvidenceFile::of(&lineage, &pages).pack()
}

/// Lists that say more than the log does, under a commitment that a quorum cosigned.
fn lying_map() -> Vec<u8> {
    let mut lists = Lineage::commit(story()).lists;
    lists.get_mut(&main_list()).unwrap().insert(0, 0);
    let lying = Lineage::committing(story(), lists);
    EvidenceFile::of(&lying, &around_main(&lying)).pack()
}

fn timed() -> v1::LineageQuestion {
    let second = |number: u64| world::START_NS + number * 1_000_000_000;
    v1::LineageQuestion { from_unix_ns: second(4), to_unix_ns: second(12), ..question(&[(D::Session, "s-main")], Way::Down, 2) }
}

fn forged_registration(file: &mut EvidenceFile) {
    let member = file.member("registrations.binpb");
    let mut registrations = v1::Registrations::decode(&member[..]).unwrap();
    registrations.entries.pop();
    *member = registrations.encode_to_vec();
    file.describe();
}

fn without_sidecar() -> Vec<u8> {
    let lineage = lineage();
    let mut file = EvidenceFile::of(&lineage, &around_main(&lineage));
    let mut registrations = lineage.world.registration_set();
    registrations.entries.retain(|one| one.index != 2);
    let listed: Vec<_> = registrations.entries.iter().map(|one| one.index as usize).collect();
    let path = crate::naive::LOG.set_path(&lineage.world.log_leaves(), &listed);
    registrations.log_path = path.iter().map(|hash| hash.to_vec()).collect();
    *file.member("registrations.binpb") = registrations.encode_to_vec();
    file.describe();
    file.pack()
}

fn mixed() -> Vec<u8> {
    let mut grown = lineage();
    grown.world.batch(&world::gateway(), &[world::event("s-later", 31)]);
    altered(1, |page| *page = around_main(&grown)[1].clone())
}

fn hide_child(page: &mut v1::LineagePage) {
    page.ranges.retain(|range| range.key.as_ref().is_none_or(|key| key.value != "s-child"));
}

pub(super) fn vectors() -> Vec<Vector> {
    [valid(), refused_by_the_answer(), refused_by_the_file()].into_iter().flatten().collect()
}

fn valid() -> Vec<Vector> {
    vec![
        Vector::valid("around-session.evidence.zip", file().pack(), "everything around a session, up and down").and_is("complete"),
        Vector::valid(
            "resource.evidence.zip",
            of(&question(&[(D::Resource, "crm://customers/7")], Way::Up, 4), 100),
            "who touched a record",
        )
        .and_is("complete"),
        Vector::valid("absent.evidence.zip", of(&question(&[(D::Agent, "nobody")], Way::Down, 2), 9), "a key that no entry carries")
            .and_is("complete"),
        Vector::valid("timed.evidence.zip", of(&timed(), 3), "a window by time").and_is("complete"),
        Vector::valid("window.evidence.zip", of(&question(&[], Way::Unspecified, 0), 6), "every entry").and_is("complete"),
        Vector::valid("continued.evidence.zip", continued(6), "it brings the proof that the log only grew since a held checkpoint")
            .holding("story.checkpoint", None),
        Vector::undecided("continued-elsewhere.evidence.zip", continued(7), "consistency", "it brings a proof from another size")
            .holding("story.checkpoint", None),
        Vector::valid("cut.evidence.zip", cut(), "the answer ends before its last page").and_is("incomplete"),
    ]
}

fn refused_by_the_answer() -> Vec<Vector> {
    let wrong = |name: &str, bytes, check, why| Vector::wrong(&format!("{name}.evidence.zip"), bytes, check, why);
    vec![
        wrong("unvouched", unvouched(), "commitment", "entries as an answer about a key, and no commitment that ties them to it"),
        wrong("pages-mixed", mixed(), "page-order", "a page under another checkpoint"),
        wrong("page-number", altered(1, |page| page.number = 2), "page-order", "a page with another number"),
        wrong(
            "question-deep",
            edited(|file| file.change_pages(|page| page.question.as_mut().unwrap().depth = 33)),
            "question",
            "a question that is too deep",
        ),
        wrong("entry-dropped-bare", altered(0, |page| drop(page.entries.remove(0))), "entries-inclusion", "an entry left out"),
        wrong("entry-dropped", reproved(0, |page| drop(page.entries.remove(0))), "page-entries", "an entry left out, proofs made anew"),
        wrong(
            "entry-added",
            reproved(0, |page| {
                let genesis = lineage().world.entries[0].clone();
                page.entries.insert(0, v1::IndexedEntry { index: 0, entry: genesis.into() });
            }),
            "page-entries",
            "an entry that nothing lists",
        ),
        wrong("entries-swapped", altered(0, |page| page.entries.swap(0, 1)), "entries-inclusion", "two entries change places"),
        wrong("commitment-missing", reproved(1, |page| drop(page.entries.pop())), "commitment", "a page without the commitment"),
        wrong("wrong-count", altered(0, |page| page.ranges[0].count += 1), "keys-map", "a list is said to be longer"),
        wrong("map-path", altered(0, |page| page.ranges[0].map_path[0][0] ^= 1), "keys-map", "a flipped bit in a path of the map"),
        wrong("list-index", altered(0, |page| page.ranges[0].indexes[1] += 1), "key-ranges", "another index in a list"),
        wrong(
            "range-gap",
            reproved(1, |page| {
                page.ranges.clear();
                page.entries.retain(|one| one.index == lineage().commitment as u64);
            }),
            "key-ranges",
            "a range is missing in the middle of a list",
        ),
        wrong("key-hidden", edited(|file| file.change_pages(hide_child)), "walk", "a whole key is hidden"),
        wrong("lying-map", lying_map(), "keys-carried", "a list names an entry that does not carry its key"),
        wrong(
            "window-narrowed",
            {
                let lineage = lineage();
                let narrowed = v1::LineageQuestion { from_index: 5, to_index: 12, from_unix_ns: 0, to_unix_ns: 0, ..timed() };
                let mut pages = lineage.answer(&narrowed, 50);
                let asked = pages[0].question.as_mut().unwrap();
                (asked.from_unix_ns, asked.to_unix_ns) = (timed().from_unix_ns, timed().to_unix_ns);
                for index in [4, 5, 11, 12] {
                    let at = pages[0].entries.partition_point(|one| one.index < index);
                    if pages[0].entries[at].index != index {
                        pages[0]
                            .entries
                            .insert(at, v1::IndexedEntry { index, entry: lineage.world.entries[index as usize].clone().into() });
                    }
                }
                lineage.prove(&mut pages[0]);
                EvidenceFile::of(&lineage, &pages).pack()
            },
            "window-bounds",
            "a window that is shorter than its times",
        ),
        wrong("statement-dropped", altered(0, |page| drop(page.statements.remove(0))), "statements", "a statement is missing"),
        wrong(
            "statement-signature",
            altered(0, |page| {
                page.statements[0].statement.as_mut().unwrap().signature[3] ^= 1;
            }),
            "batch-signatures",
            "a forged statement",
        ),
        wrong(
            "statement-path",
            altered(0, |page| page.statements[0].batch_path.push(vec![0; 32])),
            "batch-inclusion",
            "a path that is too long",
        ),
    ]
}

fn refused_by_the_file() -> Vec<Vector> {
    let wrong = |name: &str, bytes, check, why| Vector::wrong(&format!("{name}.evidence.zip"), bytes, check, why);
    let undecided = |name: &str, bytes, check, why| Vector::undecided(&format!("{name}.evidence.zip"), bytes, check, why);
    let packed = file().pack();
    let twice = [("checkpoint".to_owned(), Vec::new()), ("checkpoint".to_owned(), Vec::new())];
    vec![
        wrong(
            "member-altered",
            edited(|file| file.member("pages/000001.binpb").push(0)),
            "members",
            "a page is not the one that the manifest names",
        ),
        wrong(
            "member-unnamed",
            edited(|file| file.members.push(("consistency-proof".to_owned(), b"proofline/consistency-proof/v1\nold 1\nnew 2\n".to_vec()))),
            "members",
            "a member that the manifest does not name",
        ),
        wrong("other-origin", edited(|file| file.manifest["origin"] = "elsewhere".into()), "origin", "the manifest names another origin"),
        wrong("page-missing", edited(|file| file.manifest["pages"] = "7".into()), "manifest", "the manifest counts a page more"),
        wrong("entries-miscounted", edited(|file| file.manifest["entries"] = "3".into()), "manifest", "the manifest counts fewer entries"),
        wrong("registration-dropped", edited(forged_registration), "registrations-inclusion", "a registration is missing in its set proof"),
        undecided("collector-unregistered", without_sidecar(), "collector-keys", "nothing registers a collector"),
        wrong(
            "facts-altered",
            edited(|file| {
                file.members.iter_mut().filter(|(name, _)| name.starts_with("facts/")).for_each(|(_, bytes)| bytes.push(0));
                file.describe();
            }),
            "facts",
            "facts that the decision was not made on",
        ),
        wrong(
            "facts-stray",
            edited(|file| {
                file.members.push(("facts/0.binpb".to_owned(), b"x".to_vec()));
                file.describe();
            }),
            "facts",
            "facts of no decision",
        ),
        undecided("manifest-version", edited(|file| file.manifest["format"] = "proofline/evidence/v2".into()), "format", "another version"),
        undecided(
            "manifest-unknown",
            edited(|file| file.manifest["note"] = "x".into()),
            "format",
            "a part that this version does not know",
        ),
        undecided(
            "member-foreign",
            edited(|file| {
                file.members.push(("pages/../../x".to_owned(), b"x".to_vec()));
                file.describe();
            }),
            "format",
            "a name that the format does not have",
        ),
        undecided(
            "page-not-canonical",
            edited(|file| {
                file.member("pages/000001.binpb").extend([0x58, 0x01]);
                file.describe();
            }),
            "format",
            "an unknown field in a page",
        ),
        undecided("members-twice", zip(&twice), "format", "a member twice"),
        undecided("bomb", bomb(), "format", "a member that unpacks to more than it can"),
        undecided("zip-truncated", packed[..packed.len() - 1].to_vec(), "format", "the file ends early"),
        undecided("zip-prefixed", [&packed[..4], &packed[..]].concat(), "format", "bytes before the first member"),
    ]
}

/// Says that a few bytes unpack to three gigabytes.
fn bomb() -> Vec<u8> {
    let mut file = zip(&[("checkpoint".to_owned(), b"x".to_vec()), ("manifest.json".to_owned(), b"{}".to_vec())]);
    let claim = 3_000_000_000_u32.to_le_bytes();
    let directory = file.windows(4).position(|it| it == b"PK\x01\x02").unwrap();
    file[22..26].copy_from_slice(&claim);
    file[directory + 24..directory + 28].copy_from_slice(&claim);
    file
}
