//! Answers that hide, add, double or reorder something, and the check that meets each of them.

use std::sync::LazyLock;

use proofline_proto::v1;
use proofline_verifier::{AnswerError, AnswerSummary, AnswerVerifier, EntryKeys, Extent, LogEntry, Policy, command_authority};
use proptest::prelude::*;
use prost::Message as _;
use v1::Dimension as D;
use v1::LineageDirection as Way;

use crate::evidence_file::{around_main, lineage, main_list, story};
use crate::lineage::{Lineage, key, question};
use crate::world;

static LINEAGE: LazyLock<Lineage> = LazyLock::new(lineage);

fn verifier(lineage: &Lineage) -> AnswerVerifier {
    let note = lineage.world.checkpoint().into_bytes();
    let policy = Policy::parse(world::policy().as_bytes()).unwrap();
    AnswerVerifier::new(policy.verify_checkpoint(&note).unwrap(), &note)
}

fn verify(lineage: &Lineage, pages: &[v1::LineagePage]) -> Result<AnswerSummary, AnswerError> {
    let mut verifier = verifier(lineage);
    for page in pages {
        verifier.push(page)?;
    }
    Ok(verifier.finish().unwrap())
}

/// The check that refuses pages; "verified" when none does.
fn verdict(lineage: &Lineage, pages: &[v1::LineagePage]) -> &'static str {
    match verify(lineage, pages) {
        Ok(_) => "verified",
        Err(error) => error.check().as_str(),
    }
}

fn altered(alter: impl FnOnce(&mut Vec<v1::LineagePage>)) -> &'static str {
    let mut pages = around_main(&LINEAGE);
    alter(&mut pages);
    verdict(&LINEAGE, &pages)
}

fn questions() -> Vec<v1::LineageQuestion> {
    let mut questions = Vec::new();
    let starts = [
        (D::Session, "s-main"),
        (D::Session, "s-child"),
        (D::Agent, "coder"),
        (D::Principal, "https://idp.example u-7"),
        (D::Resource, "crm://customers/7"),
        (D::Resource, "memory:notes/7"),
        (D::Tool, "crm/search"),
        (D::Server, "crm"),
        (D::System, "crm-db"),
        (D::Credential, "cred-2"),
        (D::Collector, "gateway"),
        (D::Rule, "D02-new-production-data"),
        (D::Agent, "nobody"),
    ];
    for start in starts {
        for direction in [Way::Unspecified, Way::Up, Way::Down, Way::Both] {
            questions.extend([0, 1, 2, 8].map(|depth| question(&[start], direction, depth)));
        }
    }
    questions.push(question(&starts, Way::Both, 32));
    questions.push(v1::LineageQuestion { kinds: vec![D::Session.into()], ..question(&[starts[2]], Way::Both, 8) });
    questions.push(question(&[], Way::Unspecified, 0));
    let windows = questions.clone().into_iter().step_by(7).map(|it| v1::LineageQuestion { from_index: 5, to_index: 14, ..it });
    let second = |number: u64| world::START_NS + number * 1_000_000_000;
    let timed = questions.clone().into_iter().step_by(5);
    let timed = timed.map(|it| v1::LineageQuestion { from_unix_ns: second(4), to_unix_ns: second(12) + 5, ..it });
    let empty = question(&[starts[0]], Way::Down, 3);
    let empty =
        [v1::LineageQuestion { from_index: 9, to_index: 9, ..empty.clone() }, v1::LineageQuestion { from_unix_ns: second(900), ..empty }];
    questions.iter().cloned().chain(windows).chain(timed).chain(empty).collect()
}

#[test]
fn every_honest_answer_verifies_and_is_complete_whatever_the_page_size() {
    for asked in questions() {
        for page_entries in [1, 3, 100] {
            let pages = LINEAGE.answer(&asked, page_entries);
            let mut verifier = verifier(&LINEAGE).asking(asked.clone());
            for page in &pages {
                verifier.push(page).unwrap_or_else(|error| panic!("{asked:?}, {page_entries} on a page: {error}"));
            }
            assert_eq!(verifier.finish().unwrap().extent, Extent::Complete);
        }
    }
}

#[test]
fn an_answer_without_its_last_page_says_from_where_it_is_incomplete() {
    let pages = around_main(&LINEAGE);
    for cut in 1..pages.len() {
        let summary = verify(&LINEAGE, &pages[..cut]).unwrap();
        assert!(matches!(summary.extent, Extent::CutShort { list: Some(_), .. }), "{:?}", summary.extent);
    }
}

#[test]
fn entries_without_a_commitment_are_no_answer_about_a_key() {
    let asked = v1::LineageQuestion { from_index: 4, to_index: 6, ..question(&[], Way::Unspecified, 0) };
    let mut pages = LINEAGE.answer(&asked, 10);
    pages[0].question.as_mut().unwrap().starts = question(&[(D::Session, "s-main")], Way::Up, 1).starts;
    assert_eq!(verdict(&LINEAGE, &pages), "commitment");
}

#[test]
fn a_map_over_lists_that_the_log_does_not_give_is_found_out_by_what_entries_carry() {
    let honest = Lineage::commit(story());
    let mut lists = honest.lists;
    lists.get_mut(&main_list()).unwrap().insert(0, 0);
    let lying = Lineage::committing(story(), lists);
    assert_eq!(verdict(&lying, &around_main(&lying)), "keys-carried");
}

#[test]
fn pages_must_be_those_of_one_answer_in_their_order() {
    assert_eq!(altered(|pages| drop(pages.remove(1))), "page-order");
    assert_eq!(altered(|pages| pages.swap(0, 1)), "page-order");
    assert_eq!(altered(|pages| pages.insert(1, pages[1].clone())), "page-order");
    assert_eq!(altered(|pages| pages.push(pages.last().unwrap().clone())), "page-order");
    assert_eq!(altered(|pages| pages[1].question.as_mut().unwrap().depth = 3), "page-order");
    assert_eq!(altered(|pages| pages[1].commitment_index = 0), "page-order");
    let mut grown = LINEAGE.clone();
    grown.world.batch(&world::gateway(), &[world::event("s-later", 31)]);
    assert_eq!(altered(|pages| pages[1] = around_main(&grown)[1].clone()), "page-order");
}

#[test]
fn a_hidden_key_is_found_out_by_the_walk() {
    let lists = LINEAGE.walk(around_main(&LINEAGE)[0].question.as_ref().unwrap());
    assert!(lists.len() > 4, "{lists:?}");
    for hidden in lists {
        let check = altered(|pages| {
            for page in pages {
                page.ranges.retain(|range| range.key.as_ref() != Some(&crate::lineage::message(&hidden)));
                let listed: Vec<_> = page.ranges.iter().flat_map(|range| range.indexes.clone()).collect();
                page.entries.retain(|one| listed.contains(&one.index) || one.index == LINEAGE.commitment as u64);
                LINEAGE.prove(page);
            }
        });
        assert_eq!(check, "walk", "{hidden:?}");
    }
}

#[test]
fn a_list_may_be_neither_cut_nor_torn_nor_miscounted() {
    let whole = || LINEAGE.answer(&question(&[(D::Session, "s-main")], Way::Unspecified, 0), 100);
    let count = LINEAGE.lists[&main_list()].len();
    let with_ranges = |stretches: &[(usize, usize)]| {
        let mut pages = whole();
        pages[0].ranges = stretches.iter().map(|(from, to)| LINEAGE.range(&main_list(), *from, *to)).collect();
        let listed: Vec<_> = pages[0].ranges.iter().flat_map(|range| range.indexes.clone()).collect();
        pages[0].entries.retain(|one| listed.contains(&one.index) || one.index == LINEAGE.commitment as u64);
        LINEAGE.prove(&mut pages[0]);
        verdict(&LINEAGE, &pages)
    };
    assert_eq!(with_ranges(&[(0, count)]), "verified");
    assert_eq!(with_ranges(&[(0, 3), (3, count)]), "verified");
    assert_eq!(with_ranges(&[(0, count - 1)]), "key-ranges", "cut at the tail");
    assert_eq!(with_ranges(&[(1, count)]), "key-ranges", "cut at the head");
    assert_eq!(with_ranges(&[(0, 3), (4, count)]), "key-ranges", "a gap");
    assert_eq!(with_ranges(&[(0, 4), (3, count)]), "key-ranges", "an overlap");
    assert_eq!(with_ranges(&[(3, count), (0, 3)]), "key-ranges", "out of order");
    assert_eq!(altered(|pages| pages[0].ranges[0].count += 1), "keys-map");
    assert_eq!(altered(|pages| pages[0].ranges[0].root[0] ^= 1), "keys-map");
    assert_eq!(altered(|pages| pages[0].ranges[0].indexes[1] += 1), "key-ranges");
    assert_eq!(altered(|pages| pages[0].ranges[0].from += 1), "key-ranges");
    assert_eq!(altered(|pages| drop(pages[0].ranges[0].range_path.pop())), "key-ranges");
}

#[test]
fn a_present_key_is_not_absent_and_an_absent_one_not_present() {
    let nobody = LINEAGE.answer(&question(&[(D::Agent, "nobody")], Way::Down, 2), 9);
    assert_eq!(verdict(&LINEAGE, &nobody), "verified");
    let claims = [(D::Agent, "coder"), (D::Agent, "planner"), (D::Rule, "nothing")];
    for claim in claims {
        let mut pages = nobody.clone();
        pages[0].question.as_mut().unwrap().starts = vec![crate::lineage::message(&key(claim.0, claim.1))];
        pages[0].ranges[0].key = Some(crate::lineage::message(&key(claim.0, claim.1)));
        assert_eq!(verdict(&LINEAGE, &pages), "keys-map", "{claim:?}");
    }
}

#[test]
fn an_entry_may_be_neither_left_out_nor_added_nor_doubled() {
    let drop_entry = |pages: &mut Vec<v1::LineagePage>| {
        pages[0].entries.remove(0);
        LINEAGE.prove(&mut pages[0]);
    };
    assert_eq!(altered(drop_entry), "page-entries");
    assert_eq!(altered(|pages| drop(pages[0].entries.remove(0))), "entries-inclusion");
    let add = |pages: &mut Vec<v1::LineagePage>| {
        pages[0].entries.insert(0, v1::IndexedEntry { index: 0, entry: LINEAGE.world.entries[0].clone().into() });
        LINEAGE.prove(&mut pages[0]);
    };
    assert_eq!(altered(add), "page-entries");
    assert_eq!(altered(|pages| pages[0].entries = [&pages[0].entries[..1], &pages[0].entries[..]].concat()), "entries-inclusion");
    assert_eq!(altered(|pages| pages[0].entries.swap(0, 1)), "entries-inclusion");
    let again = |pages: &mut Vec<v1::LineagePage>| {
        let first = pages[0].entries[0].clone();
        pages[1].entries.insert(0, first);
        LINEAGE.prove(&mut pages[1]);
    };
    assert_eq!(altered(again), "page-entries");
    let without_commitment = |pages: &mut Vec<v1::LineagePage>| {
        pages[1].entries.retain(|one| one.index != LINEAGE.commitment as u64);
        LINEAGE.prove(&mut pages[1]);
    };
    assert_eq!(altered(without_commitment), "commitment");
}

#[test]
fn a_window_of_every_entry_has_no_gap() {
    let every = |alter: &dyn Fn(&mut Vec<v1::LineagePage>)| {
        let mut pages = LINEAGE.answer(&question(&[], Way::Unspecified, 0), 6);
        alter(&mut pages);
        verdict(&LINEAGE, &pages)
    };
    assert_eq!(every(&|_| ()), "verified");
    let leave_out = |pages: &mut Vec<v1::LineagePage>| {
        pages[1].entries.remove(2);
        LINEAGE.prove(&mut pages[1]);
    };
    assert_eq!(every(&leave_out), "page-entries");
    let end_early = |pages: &mut Vec<v1::LineagePage>| {
        pages.pop();
        pages.last_mut().unwrap().last = true;
    };
    assert_eq!(every(&end_early), "page-entries");
}

#[test]
fn the_window_is_the_one_that_the_times_mean() {
    let second = |number: u64| world::START_NS + number * 1_000_000_000;
    let asked =
        v1::LineageQuestion { from_unix_ns: second(4), to_unix_ns: second(12), ..question(&[(D::Session, "s-main")], Way::Down, 2) };
    let honest = LINEAGE.answer(&asked, 50);
    assert_eq!(verdict(&LINEAGE, &honest), "verified");
    for (from, to) in [(5, 12), (3, 12), (4, 11), (4, 13)] {
        let narrowed = v1::LineageQuestion { from_index: from, to_index: to, from_unix_ns: 0, to_unix_ns: 0, ..asked.clone() };
        let mut pages = LINEAGE.answer(&narrowed, 50);
        let question = pages[0].question.as_mut().unwrap();
        (question.from_unix_ns, question.to_unix_ns) = (second(4), second(12));
        let page = &mut pages[0];
        for index in [from - 1, from, to - 1, to] {
            let at = page.entries.partition_point(|one| one.index < index);
            if page.entries.get(at).is_none_or(|one| one.index != index) {
                page.entries.insert(at, v1::IndexedEntry { index, entry: LINEAGE.world.entries[index as usize].clone().into() });
            }
        }
        LINEAGE.prove(page);
        assert_eq!(verdict(&LINEAGE, &pages), "window-bounds", "{from}..{to}");
    }
}

#[test]
fn an_answer_to_another_question_is_refused_by_who_asked() {
    let asked = question(&[(D::Session, "s-main")], Way::Both, 8);
    let narrowed = [
        question(&[(D::Session, "s-main")], Way::Up, 8),
        question(&[(D::Session, "s-main")], Way::Both, 7),
        question(&[(D::Session, "s-child")], Way::Both, 8),
        v1::LineageQuestion { from_index: 5, ..asked.clone() },
        v1::LineageQuestion { to_index: 9, ..asked.clone() },
        v1::LineageQuestion { kinds: vec![D::Agent.into()], ..asked.clone() },
    ];
    for other in narrowed {
        let error = verifier(&LINEAGE).asking(asked.clone()).push(&LINEAGE.answer(&other, 100)[0]).unwrap_err();
        assert_eq!(error.check().as_str(), "question", "{other:?}");
    }
}

#[test]
fn collectors_signed_every_event_of_a_page() {
    assert_eq!(altered(|pages| drop(pages[0].statements.pop())), "statements");
    assert_eq!(altered(|pages| pages[0].statements = [&pages[0].statements[..1], &pages[0].statements[..]].concat()), "statements");
    assert_eq!(altered(|pages| pages[0].statements[0].statement.as_mut().unwrap().signature[3] ^= 1), "batch-signatures");
    assert_eq!(altered(|pages| pages[0].statements[0].batch_path.push(vec![0; 32])), "batch-inclusion");
}

static PAGES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| around_main(&LINEAGE).iter().map(prost::Message::encode_to_vec).collect());

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_500) })]

    #[test]
    fn no_flipped_bit_of_any_page_leaves_an_answer_that_verifies(page in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>()) {
        let mut pages = PAGES.clone();
        let page = page.index(pages.len());
        let bit = bit.index(pages[page].len() * 8);
        pages[page][bit / 8] ^= 1 << (bit % 8);
        let decoded: Result<Vec<v1::LineagePage>, _> =
            pages.iter().map(|page| proofline_verifier::decode_canonical("LineagePage", page)).collect();
        if let Ok(decoded) = decoded {
            // Without its last page the answer is incomplete, and says so.
            let is_complete = verify(&LINEAGE, &decoded).is_ok_and(|it| it.extent == Extent::Complete);
            prop_assert!(!is_complete, "page {page}, bit {bit}");
        }
    }
}

#[test]
fn commands_about_approvals_and_tools_are_found_by_what_they_name() {
    use v1::command::Action;
    let keys = |action: Action| {
        let command = v1::SignedCommand { command: v1::Command { action: Some(action) }.encode_to_vec(), ..Default::default() };
        let core = v1::EntryCore { index: 7, body: Some(v1::entry_core::Body::Command(command)), ..Default::default() };
        let entry = v1::Entry { core: core.encode_to_vec().into(), session_root: Vec::new() };
        let carried = EntryKeys::of(&LogEntry::parse(&entry.encode_to_vec()).unwrap()).carried;
        carried.into_iter().map(|it| (it.dimension, it.tenant_id, it.value)).collect::<Vec<_>>()
    };
    let text = str::to_owned;
    let withdraw = v1::WithdrawApproval { tenant_id: text("t"), session_id: text("s"), ..Default::default() };
    assert_eq!(keys(Action::WithdrawApproval(withdraw)), [(D::Session, text("t"), text("s"))]);
    let pin = v1::PinTool { tenant_id: text("t"), server_id: text("m"), tool_name: text("x"), ..Default::default() };
    let expected = [(D::Tool, text("t"), text("m/x")), (D::Server, text("t"), text("m"))];
    assert_eq!(keys(Action::PinTool(pin)), expected);
    assert!(keys(Action::VerifyOutlet(v1::VerifyOutlet { outlet_id: text("o"), ..Default::default() })).is_empty());
}

#[test]
fn who_may_withdraw_pin_and_verify_is_known() {
    use v1::OperatorRole::{Registrar, Responder};
    use v1::command::Action;
    assert_eq!(command_authority(&Action::WithdrawApproval(v1::WithdrawApproval::default())), (Responder, 1));
    assert_eq!(command_authority(&Action::PinTool(v1::PinTool::default())), (Registrar, 1));
    assert_eq!(command_authority(&Action::VerifyOutlet(v1::VerifyOutlet::default())), (Registrar, 1));
}
