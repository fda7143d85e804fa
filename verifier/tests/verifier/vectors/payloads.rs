//! Payloads in `.evidence.zip`: given, erased, left out, and what somebody might say of them.

use proofline_proto::v1;
use prost::Message as _;
use v1::Dimension as D;
use v1::LineageDirection as Way;
use v1::disclosed_payload::State;

use super::Vector;
use crate::evidence_file::EvidenceFile;
use crate::lineage::{Lineage, question};
use crate::world::{TENANT, World, alice, bob, event, gateway};

const SALT: [u8; 32] = [0x5a; 32];
const PROMPT: &[u8] = b"refund the last order of customer 7";
const RESULT: &[u8] = b"{\"refunded\": true}";

fn commitment(name: &str, content: &[u8], key_ref: &str) -> v1::Commitment {
    v1::Commitment {
        name: name.to_owned(),
        algorithm: v1::CommitmentAlgorithm::Blake3Keyed.into(),
        digest: digest(content),
        size_bytes: content.len() as u64,
        key_ref: key_ref.to_owned(),
        ..Default::default()
    }
}

fn digest(content: &[u8]) -> Vec<u8> {
    blake3::keyed_hash(&SALT, content).as_bytes().to_vec()
}

fn erase(world: &mut World, tenant: &str, subject: &str) -> u64 {
    let (tenant_id, issuer, ground) = (tenant.to_owned(), "https://idp.example".to_owned(), "request 7".to_owned());
    let erase = v1::EraseSubject { tenant_id, issuer, subject: subject.to_owned(), ground };
    world.command(v1::command::Action::EraseSubject(erase), &[&alice(), &bob()]) as u64
}

/// A session with three payloads, and erasures of several subjects around it.
struct Story {
    lineage: Lineage,
    /// The event with a prompt of u-8, and a result of u-7, who began the session.
    index: u64,
    early: u64,
    right: u64,
    other_subject: u64,
    other_tenant: u64,
}

fn story() -> Story {
    let mut world = World::new();
    let early = erase(&mut world, TENANT, "u-7");
    let payloads = vec![commitment("prompt", PROMPT, "subject:https://idp.example u-8"), commitment("result", RESULT, "")];
    let left = vec![commitment("left", b"not included", "")];
    let events = [v1::Event { payloads, ..event("s-pay", 1) }, v1::Event { payloads: left, ..event("s-pay", 2) }];
    let index = world.batch(&gateway(), &events)[0] as u64;
    let right = erase(&mut world, TENANT, "u-7");
    let other_subject = erase(&mut world, TENANT, "u-9");
    let other_tenant = erase(&mut world, "elsewhere", "u-7");
    Story { lineage: Lineage::commit(world), index, early, right, other_subject, other_tenant }
}

impl Story {
    fn file(&self, said: &[(u64, Vec<u8>, State)], contents: &[(u64, Vec<u8>, &[u8])]) -> Vec<u8> {
        let pages = self.lineage.answer(&question(&[(D::Session, "s-pay")], Way::Unspecified, 0), 9);
        let mut file = EvidenceFile::of(&self.lineage, &pages);
        let disclosed = |(index, digest, state): &(u64, Vec<u8>, State)| v1::DisclosedPayload {
            index: *index,
            digest: digest.clone(),
            state: Some(state.clone()),
        };
        let list = v1::PayloadList { payloads: said.iter().map(disclosed).collect() };
        file.members.push(("payloads.binpb".to_owned(), list.encode_to_vec()));
        let name = |index: u64, digest: &[u8]| format!("payloads/{index}-{}", hex::encode(digest));
        file.members.extend(contents.iter().map(|(index, digest, content)| (name(*index, digest), content.to_vec())));
        file.describe();
        file.pack()
    }

    /// A file that gives the prompt and says by which entry the result was erased.
    fn erased_by(&self, by: u64) -> Vec<u8> {
        let mut said = vec![(self.index, digest(PROMPT), State::Salt(SALT.to_vec())), (self.index, digest(RESULT), State::ErasedBy(by))];
        said.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        self.file(&said, &[(self.index, digest(PROMPT), PROMPT)])
    }

    fn prompt(&self, salt: &[u8], content: &[u8]) -> Vec<u8> {
        self.file(&[(self.index, digest(PROMPT), State::Salt(salt.to_vec()))], &[(self.index, digest(PROMPT), content)])
    }
}

pub(super) fn vectors() -> Vec<Vector> {
    let story = story();
    let wrong = |name: &str, bytes, why| Vector::wrong(&format!("{name}.evidence.zip"), bytes, "payloads", why);
    let prompt = (story.index, digest(PROMPT), State::Salt(SALT.to_vec()));
    let content = (story.index, digest(PROMPT), PROMPT);
    vec![
        Vector::valid("payloads.evidence.zip", story.erased_by(story.right), "one payload given, one erased, one left out")
            .and_is("complete"),
        wrong("payload-altered", story.prompt(&SALT, &PROMPT.to_ascii_uppercase()), "another content of the same length"),
        wrong("payload-longer", story.prompt(&SALT, &[PROMPT, b"."].concat()), "a longer content"),
        wrong("payload-salt", story.prompt(&[0x5b; 32], PROMPT), "another salt"),
        wrong("payload-salt-short", story.prompt(&SALT[1..], PROMPT), "a salt that is too short"),
        wrong("payload-absent", story.file(std::slice::from_ref(&prompt), &[]), "a payload is said to be given, and is not"),
        wrong("payload-stray", story.file(&[], std::slice::from_ref(&content)), "a content of which nothing is said"),
        wrong(
            "payload-uncommitted",
            story.file(&[(story.index, vec![7; 32], State::Salt(SALT.to_vec()))], &[(story.index, vec![7; 32], PROMPT)]),
            "a payload that no event commits to",
        ),
        wrong("payload-twice", story.file(&[prompt.clone(), prompt], &[content]), "a payload is named twice"),
        wrong("erasure-other-subject", story.erased_by(story.other_subject), "the erasure is of another subject"),
        wrong("erasure-other-tenant", story.erased_by(story.other_tenant), "the erasure is of another tenant's subject"),
        wrong("erasure-early", story.erased_by(story.early), "the erasure came before the event"),
        wrong("erasure-absent", story.erased_by(story.index), "there is no erasure at that index"),
        Vector::undecided(
            "payload-name.evidence.zip",
            story.file(&[], &[(story.index, vec![7; 31], PROMPT)]),
            "format",
            "a member whose name has no digest",
        ),
    ]
}

#[test]
fn the_report_says_of_each_payload_what_became_of_it() {
    let story = story();
    let policy = proofline_verifier::Policy::parse(crate::world::policy().as_bytes()).unwrap();
    let report = proofline_verifier::verify(&story.erased_by(story.right), &policy, None);
    let said: Vec<_> = report.facts.iter().filter(|fact| fact.name == "payload").map(|fact| fact.value.clone()).collect();
    let (index, right) = (story.index, story.right);
    assert_eq!(
        said,
        [
            format!("entry {index}, \"prompt\": {} bytes as committed", PROMPT.len()),
            format!("entry {index}, \"result\": payload erased at index {right}"),
        ]
    );
    let open: Vec<_> = report.not_proven.iter().map(|it| it.as_str()).collect();
    assert!(open.contains(&"payloads-missing") && open.contains(&"erasure-carried-out"), "{open:?}");
    let text = report.to_string();
    assert!(text.contains("1 given as committed, 1 erased, 1 not included"), "{text}");
    let mut page = proofline_verifier::HtmlReport::default();
    assert_eq!(page.verify("x.evidence.zip", &story.erased_by(story.right), &policy, None), report);
    assert!(page.render().unwrap().contains(&format!("payload erased at index {right}")));
}
