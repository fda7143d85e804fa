//! Files of evidence, packed by hand.

use proofline_proto::v1;
use prost::Message as _;
use serde_json::json;
use sha2::Digest as _;

use crate::lineage::{Lineage, key, question};
use crate::world::{self, ORIGIN, World, alice, carol, event, event_by, gateway, register, sidecar};
use v1::Dimension as D;
use v1::LineageDirection as Way;
use v1::event::Body as EventBody;

/// Members of a file that is yet to be packed.
#[derive(Clone)]
pub(crate) struct EvidenceFile {
    pub(crate) members: Vec<(String, Vec<u8>)>,
    pub(crate) manifest: serde_json::Value,
}

impl EvidenceFile {
    pub(crate) fn of(lineage: &Lineage, pages: &[v1::LineagePage]) -> Self {
        let world = &lineage.world;
        let mut members = vec![("checkpoint".to_owned(), pages[0].checkpoint.clone())];
        let listed: std::collections::BTreeSet<u64> = pages.iter().flat_map(|page| &page.entries).map(|one| one.index).collect();
        for (index, facts) in world.facts.iter().filter(|(index, _)| listed.contains(&(**index as u64))) {
            members.push((format!("facts/{index}.binpb"), facts.clone()));
        }
        for page in pages {
            members.push((format!("pages/{:06}.binpb", page.number), page.encode_to_vec()));
        }
        members.push(("registrations.binpb".to_owned(), world.registration_set().encode_to_vec()));
        let window = pages[0].question.clone().unwrap();
        let named: std::collections::BTreeSet<u64> =
            pages.iter().flat_map(|page| &page.ranges).flat_map(|range| range.indexes.clone()).collect();
        let entries = if named.is_empty() { &listed } else { &named };
        let in_window = entries.iter().filter(|it| window.from_index <= **it && **it < window.to_index).count();
        let commitment_size = if pages[0].commitment_index == 0 { 0 } else { lineage.size };
        let mut file = Self {
            members,
            manifest: json!({
                "format": "proofline/evidence/v1",
                "origin": ORIGIN,
                "exported_unix_ns": "1700000200000000000",
                "asked": "what the tests ask",
                "tree_size": world.size().to_string(),
                "commitment_size": commitment_size.to_string(),
                "pages": pages.len().to_string(),
                "entries": in_window.to_string(),
            }),
        };
        file.describe();
        file
    }

    /// Writes the members' hashes into the manifest.
    pub(crate) fn describe(&mut self) {
        self.members.sort();
        let member = |(name, bytes): &(String, Vec<u8>)| json!({ "name": name, "sha256": hex::encode(sha2::Sha256::digest(bytes)), "bytes": bytes.len().to_string() });
        self.manifest["members"] = self.members.iter().map(member).collect();
    }

    pub(crate) fn member(&mut self, name: &str) -> &mut Vec<u8> {
        &mut self.members.iter_mut().find(|(known, _)| known == name).unwrap().1
    }

    /// Changes a page and everything that names its bytes.
    pub(crate) fn change_page(&mut self, number: u64, change: impl FnOnce(&mut v1::LineagePage)) {
        let member = self.member(&format!("pages/{number:06}.binpb"));
        let mut page = v1::LineagePage::decode(&member[..]).unwrap();
        change(&mut page);
        *member = page.encode_to_vec();
        self.describe();
    }

    pub(crate) fn change_pages(&mut self, change: impl Fn(&mut v1::LineagePage)) {
        let pages = self.members.iter().filter(|(name, _)| name.starts_with("pages/")).count();
        (0..pages as u64).for_each(|number| self.change_page(number, &change));
    }

    pub(crate) fn pack(&self) -> Vec<u8> {
        // The order of members in JSON depends on what else is built beside this crate: their text does not.
        let manifest = crate::vectors::sorted_text(&self.manifest).into_bytes();
        zip(&[vec![("manifest.json".to_owned(), manifest)], self.members.clone()].concat())
    }
}

/// A zip file with the first members deflated and the last one stored.
pub(crate) fn zip(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (place, (name, bytes)) in members.iter().enumerate() {
        let is_stored = place + 1 == members.len();
        let packed = if is_stored { bytes.clone() } else { deflate(bytes) };
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        let shared = [
            &[20, 0, 0, 0][..],
            &(if is_stored { 0_u16 } else { 8 }).to_le_bytes(),
            &[0, 0, 0x21, 0],
            &crc.sum().to_le_bytes(),
            &(packed.len() as u32).to_le_bytes(),
            &(bytes.len() as u32).to_le_bytes(),
            &(name.len() as u16).to_le_bytes(),
            &[0, 0],
        ]
        .concat();
        let at = (file.len() as u32).to_le_bytes();
        directory.extend([b"PK\x01\x02\x14\x00", &shared[..], &[0; 10], &at, name.as_bytes()].concat());
        file.extend([b"PK\x03\x04", &shared[..], name.as_bytes(), &packed].concat());
    }
    let (count, at, size) = ((members.len() as u16).to_le_bytes(), file.len() as u32, directory.len() as u32);
    let end = [b"PK\x05\x06\0\0\0\0", &count[..], &count, &size.to_le_bytes(), &at.to_le_bytes(), &[0, 0]].concat();
    [file, directory, end].concat()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn with(mut event: v1::Event, body: EventBody) -> v1::Event {
    event.body = Some(body);
    event
}

pub(crate) fn intent(session: &str, number: u8, tool: &str, uri: &str) -> v1::Event {
    let tool = v1::Tool { server_id: "crm".to_owned(), name: tool.to_owned(), ..Default::default() };
    let resource = v1::Resource { uri: uri.to_owned(), system: "crm-db".to_owned(), ..Default::default() };
    with(
        event(session, number),
        EventBody::ActionIntent(v1::ActionIntent { tool: Some(tool), resources: vec![resource], ..Default::default() }),
    )
}

fn credential(id: &str) -> Option<v1::Credential> {
    Some(v1::Credential { credential_id: id.to_owned(), ..Default::default() })
}

fn child_of(parent: &str, mut event: v1::Event) -> v1::Event {
    event.session.as_mut().unwrap().parent_session_id = parent.to_owned();
    event
}

/// A run that spawns another, a rule that finds something, a session of somebody else, a containment.
pub(crate) fn story() -> World {
    let mut world = World::new();
    world.command(register(&sidecar(), &["planner", "coder"]), &[&alice()]);
    let spawned = v1::SubAgentSpawned {
        child_session_id: "s-child".to_owned(),
        child_agent_id: "coder".to_owned(),
        child_credential: credential("cred-2"),
        ..Default::default()
    };
    world.batch(
        &gateway(),
        &[
            intent("s-main", 1, "search", "crm://customers/7"),
            event("s-other", 2),
            with(event("s-main", 3), EventBody::SubAgentSpawned(spawned)),
        ],
    );
    let mut by_coder = child_of("s-main", event_by("coder", "s-child", 4));
    by_coder.attribution.as_mut().unwrap().credential = credential("cred-2");
    let memory = v1::MemoryAccess { store_id: "notes".to_owned(), record_id: "7".to_owned(), ..Default::default() };
    world.batch(&sidecar(), &[by_coder, with(child_of("s-main", event_by("coder", "s-child", 5)), EventBody::MemoryAccess(memory))]);
    world.finding = Some(("D02-new-production-data", b"facts of entry 8".to_vec()));
    world.batch(&gateway(), &[intent("s-main", 6, "export", "crm://customers/all"), intent("s-other", 7, "search", "crm://customers/7")]);
    let target = v1::Target { kind: v1::TargetKind::Session.into(), tenant_id: world::TENANT.to_owned(), id: "s-main".to_owned() };
    let contain = v1::Contain { target: Some(target), action: 2, reason: "the export".to_owned(), incident_id: String::new() };
    world.command(v1::command::Action::Contain(contain), &[&carol()]);
    world.batch(
        &gateway(),
        &(10..20).map(|number| intent("s-main", number, "search", &format!("crm://customers/{number}"))).collect::<Vec<_>>(),
    );
    world
}

pub(crate) fn lineage() -> Lineage {
    let mut lineage = Lineage::commit(story());
    lineage.world.batch(&gateway(), &[event("s-later", 30)]);
    lineage
}

/// Everything around the main session, on small pages.
pub(crate) fn around_main(lineage: &Lineage) -> Vec<v1::LineagePage> {
    lineage.answer(&question(&[(D::Session, "s-main")], Way::Both, 8), 4)
}

pub(crate) fn main_list() -> crate::lineage::Key {
    key(D::Session, "s-main")
}
