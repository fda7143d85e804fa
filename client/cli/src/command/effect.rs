//! `proofline containment effect`: what happened after a containment began.

use std::collections::BTreeMap;

use anyhow::Result;
use proofline_client::Link;
use proofline_proto::v1::{self, entry_core::Body};
use prost::Message as _;
use serde_json::{Value, json};

use crate::{
    connection::Connection,
    describe::{self, Described},
    form,
    output::{Answer, facts, table},
};

const PAGE_SIZE: u32 = 50;

/// What was found, counted.
#[derive(Default)]
struct Effect {
    containment: v1::ContainmentSummary,
    verdicts: BTreeMap<&'static str, u64>,
    /// Index and delay of the last event that was covered.
    last_event: Option<(u64, u64)>,
    /// Events that were covered and all the same allowed: there is none in a ledger that works.
    allowed: Vec<u64>,
    rows: Vec<[String; 6]>,
    entries: Vec<Value>,
}

pub(super) async fn run(id: u64, tenant: &str, connection: &Connection) -> Result<Answer> {
    let mut effect = Effect::default();
    let mut after_index = 0;
    loop {
        let request = v1::AfterContainmentRequest { tenant_id: tenant.to_owned(), containment_id: id, after_index, page_size: PAGE_SIZE };
        let call = |link: Link| {
            let request = request.clone();
            async move { link.control().after_containment(request).await }
        };
        let page = connection.client.call(call).await?;
        effect.containment = page.containment.unwrap_or_default();
        for entry in &page.entries {
            effect.take(entry)?;
        }
        if page.next_after == 0 {
            return effect.answer();
        }
        after_index = page.next_after;
    }
}

impl Effect {
    fn take(&mut self, of: &v1::AfterEntry) -> Result<()> {
        let core = v1::EntryCore::decode(v1::Entry::decode(of.entry.as_slice())?.core)?;
        let described = Described::new(&of.entry)?;
        if let (Some(Body::Event(_)), Some(decision)) = (&core.body, &core.decision) {
            *self.verdicts.entry(describe::verdict(decision.verdict())).or_default() += 1;
            self.last_event = Some((of.index, of.delay_ns));
            if decision.verdict() == v1::Verdict::Allow {
                self.allowed.push(of.index);
            }
        }
        let [index, _, kind, what, actor, decision] = described.row();
        self.rows.push([format!("+{}", describe::delay(of.delay_ns)), index, kind, what, actor, decision]);
        self.entries.push(json!({ "index": of.index.to_string(), "delay_ns": of.delay_ns.to_string(), "entry": described.json()? }));
        Ok(())
    }

    fn answer(self) -> Result<Answer> {
        let verdicts: Vec<String> = self.verdicts.iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
        let last =
            self.last_event.map_or_else(|| "none".to_owned(), |(index, delay)| format!("entry {index}, {} after", describe::delay(delay)));
        let target = self.containment.targets.first().map_or_else(String::new, describe::target);
        let allowed = match self.allowed.as_slice() {
            [] => "none".to_owned(),
            allowed => format!("{} EVENTS WERE ALLOWED, entry {} first", allowed.len(), allowed.first().copied().unwrap_or_default()),
        };
        let state = if self.containment.released_by_index == 0 {
            "in force".to_owned()
        } else {
            format!("released by entry {}", self.containment.released_by_index)
        };
        let mut text = facts([
            ("containment", format!("{} {}", describe::containment_action(self.containment.action()), target)),
            ("began", describe::time(self.containment.began_unix_ns)),
            ("state", state),
            ("events since", if verdicts.is_empty() { "none".to_owned() } else { verdicts.join(", ") }),
            ("last event", last),
            ("allowed", allowed),
        ]);
        text.push('\n');
        text += &table(["AFTER", "ENTRY", "KIND", "WHAT", "WHO", "DECISION"], self.rows);
        let json = json!({
            "containment": form::to_json("ContainmentSummary", &self.containment)?,
            "verdicts": self.verdicts.iter().map(|(verdict, count)| ((*verdict).to_owned(), json!(count.to_string()))).collect::<serde_json::Map<_, _>>(),
            "last_event": self.last_event.map(|(index, delay)| json!({ "index": index.to_string(), "delay_ns": delay.to_string() })),
            "allowed": self.allowed.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "entries": self.entries,
        });
        Ok(Answer::new("proofline.containment-effect/v1", json, text))
    }
}
