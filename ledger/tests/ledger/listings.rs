//! Lists of what decisions leave behind: a page reads what it answers with, whatever else there is.

use std::cell::Cell;

use proofline_ledger::limits::TENANTS_SKIPPED_MAX;
use proofline_ledger::listing::{self, UnresolvedPage, UnresolvedQuery};
use proofline_ledger::{Direction, EntryIndex, KeyRange, MapStore, Row, Store, StoreFault, Table, UnixNanos, Wanted};
use proofline_proto::v1;
use v1::command::Action;
use v1::event::Body;

use crate::deciding::{activate, rule};
use crate::world::*;

/// Counts what is read.
struct Counted<'a> {
    store: &'a MapStore,
    rows: Cell<usize>,
    entries: Cell<usize>,
}

impl<'a> Counted<'a> {
    fn new(store: &'a MapStore) -> Self {
        Self { store, rows: Cell::new(0), entries: Cell::new(0) }
    }
}

impl Store for Counted<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFault> {
        self.rows.set(self.rows.get() + 1);
        self.entries.set(self.entries.get() + usize::from(table == Table::Entries));
        self.store.get(table, key)
    }

    fn scan(&self, table: Table, range: KeyRange<'_>, direction: Direction, limit: usize) -> Result<Vec<Row>, StoreFault> {
        let rows = self.store.scan(table, range, direction, limit)?;
        self.rows.set(self.rows.get() + rows.len());
        self.entries.set(self.entries.get() + if table == Table::Entries { rows.len() } else { 0 });
        Ok(rows)
    }
}

/// A collector of another tenant.
fn of_tenant(world: &mut World, tenant: &str, seed: u8) -> Collector {
    let mut collector = Collector::new(&format!("gateway-{tenant}"), seed);
    let scope = v1::RegisterCollector { tenant_id: tenant.to_owned(), ..collector.scope() };
    world.command(&[ALICE], Action::RegisterCollector(scope)).unwrap();
    collector.open(world).unwrap();
    collector
}

fn intent(tenant: &str, session: usize, tool: &str) -> v1::Event {
    let mut event = v1::Event { tenant_id: tenant.to_owned(), ..event(&format!("s-{session}"), "agent-1") };
    event.event_id = session.to_be_bytes().repeat(2);
    if let Some(Body::ActionIntent(intent)) = &mut event.body {
        intent.tool.as_mut().unwrap().name = tool.to_owned();
        intent.action_digest = vec![8; 32];
    }
    event
}

fn answer(world: &mut World, asked: &v1::Approval) {
    let approval = v1::ResolveApproval {
        tenant_id: asked.tenant_id.clone(),
        session_id: asked.session_id.clone(),
        intent_index: asked.intent_index,
        action_digest: asked.action_digest.clone(),
        verdict: v1::Verdict::Allow.into(),
        expires_unix_ns: world.now + 600 * SECOND_NS,
        reason: "looked at it".to_owned(),
    };
    world.command(&[RESPONDER], Action::ResolveApproval(approval)).unwrap();
}

#[test]
fn a_page_of_approvals_reads_no_more_than_it_answers_with() {
    let (mut world, mut collector) = World::with_collector();
    activate(&mut world, &rule("pay", "require_approval", "context.tool == \"pay\"")).unwrap();
    let mut other = of_tenant(&mut world, "other", 70);
    other.append(&mut world, (0..100).map(|n| intent("other", n, "pay")).collect()).unwrap();
    collector.append(&mut world, (0..60).map(|n| intent(TENANT, n, "pay")).collect()).unwrap();
    let waiting = |world: &World, limit| listing::approvals(&world.store, TENANT, Wanted::Open, EntryIndex(0), limit).unwrap();
    for asked in waiting(&world, 40) {
        answer(&mut world, &asked);
    }
    // One is asked again: it is listed once, where it waits now.
    world.now += 601 * SECOND_NS;
    let again = collector.append(&mut world, vec![intent(TENANT, 3, "pay")]).unwrap().first_index;

    let (mut after, mut seen) = (EntryIndex(0), Vec::new());
    loop {
        let counted = Counted::new(&world.store);
        let page = listing::approvals(&counted, TENANT, Wanted::Open, after, 8).unwrap();
        assert!(counted.rows.get() <= 16 && counted.entries.get() == 0, "{} rows", counted.rows.get());
        assert!(page.iter().all(|it| it.verdict() == v1::Verdict::Unspecified && it.tenant_id == TENANT));
        seen.extend(page.iter().map(|it| it.intent_index));
        let Some(last) = page.last() else { break };
        after = EntryIndex(last.intent_index);
    }
    assert_eq!((seen.len(), seen.last()), (21, Some(&again)));
    assert!(seen.is_sorted());

    let counted = Counted::new(&world.store);
    let all = listing::approvals(&counted, TENANT, Wanted::Everything, EntryIndex(0), 100).unwrap();
    let numbers: std::collections::BTreeSet<u64> = all.iter().map(|it| it.intent_index).collect();
    assert_eq!((all.len(), numbers.len()), (60, 60), "each action once");
    assert!(counted.rows.get() <= 120);
}

fn unresolved(store: &impl Store, tenant: Option<&str>, before: Option<UnixNanos>, limit: usize) -> Vec<(String, u64)> {
    let (mut found, mut after): (Vec<_>, Option<(String, EntryIndex)>) = (Vec::new(), None);
    loop {
        let query = UnresolvedQuery { tenant, after: after.as_ref().map(|(tenant, index)| (tenant.as_str(), *index)), before, limit };
        let UnresolvedPage { intents, next } = listing::unresolved(store, &query).unwrap();
        assert!(intents.len() <= limit);
        found.extend(intents.into_iter().map(|it| (it.tenant_id, it.index)));
        after = next;
        if after.is_none() {
            return found;
        }
    }
}

#[test]
fn unresolved_intents_are_found_without_reading_those_of_others() {
    let (mut world, mut collector) = World::with_collector();
    let mut crowd = of_tenant(&mut world, "crowd", 70);
    crowd.append(&mut world, (0..3_000).map(|n| intent("crowd", n, "query")).collect()).unwrap();
    let first = collector.append(&mut world, (0..4).map(|n| intent(TENANT, n, "query")).collect()).unwrap().first_index;
    let done = v1::ActionOutcome {
        intent_event_id: intent(TENANT, 1, "").event_id,
        status: v1::OutcomeStatus::Succeeded.into(),
        ..Default::default()
    };
    let outcome = v1::Event { event_id: vec![99; 16], body: Some(Body::ActionOutcome(done)), ..intent(TENANT, 1, "") };
    collector.append(&mut world, vec![outcome]).unwrap();
    let later = world.now + HOUR_NS;
    world.now = later;
    collector.append(&mut world, vec![intent(TENANT, 7, "query")]).unwrap();

    let counted = Counted::new(&world.store);
    let own: Vec<u64> = unresolved(&counted, Some(TENANT), None, 2).into_iter().map(|(_, index)| index).collect();
    assert_eq!(own, [first, first + 2, first + 3, first + 5]);
    assert_eq!(counted.entries.get(), own.len(), "an entry for each answer");
    let counted = Counted::new(&world.store);
    let old = unresolved(&counted, Some(TENANT), Some(UnixNanos(later)), 10);
    assert_eq!((old.len(), counted.entries.get()), (3, 3), "what is too young is not read");
    assert_eq!(unresolved(&world.store, None, None, 500).len(), 3_004);
    let everybodys = unresolved(&world.store, None, Some(UnixNanos(later)), 1_000);
    assert_eq!(everybodys.iter().filter(|(tenant, _)| tenant == TENANT).count(), 3);
    assert_eq!(everybodys.len(), 3_003);
}

#[test]
fn tenants_without_an_old_intent_are_skipped_within_a_bound() {
    let (mut world, _) = World::with_collector();
    let mut one = of_tenant(&mut world, "a", 70);
    let mut two = of_tenant(&mut world, "b", 71);
    let mut three = of_tenant(&mut world, "c", 72);
    let old = three.append(&mut world, vec![intent("c", 1, "query")]).unwrap().first_index;
    world.now += HOUR_NS;
    let young = UnixNanos(world.now);
    for (collector, tenant) in [(&mut one, "a"), (&mut two, "b"), (&mut three, "c")] {
        collector.append(&mut world, (10..300).map(|n| intent(tenant, n, "query")).collect()).unwrap();
    }
    let counted = Counted::new(&world.store);
    let query = UnresolvedQuery { tenant: None, after: None, before: Some(young), limit: 5 };
    let page = listing::unresolved(&counted, &query).unwrap();
    assert_eq!(page.intents.iter().map(|it| it.index).collect::<Vec<_>>(), [old]);
    assert_eq!(page.next, None);
    assert!(counted.rows.get() <= 4 * 5 + 1 && counted.entries.get() == 1, "{} rows", counted.rows.get());
}

#[test]
fn more_tenants_than_one_page_skips_are_left_to_the_next() {
    let (mut world, _) = World::with_collector();
    world.now += HOUR_NS;
    let young = UnixNanos(world.now);
    for number in 0..=TENANTS_SKIPPED_MAX {
        let tenant = format!("t-{number:03}");
        let mut collector = of_tenant(&mut world, &tenant, 70);
        collector.append(&mut world, vec![intent(&tenant, 1, "query")]).unwrap();
    }
    let query = UnresolvedQuery { tenant: None, after: None, before: Some(young), limit: 5 };
    let page = listing::unresolved(&world.store, &query).unwrap();
    let (tenant, index) = page.next.clone().expect("there is more to look at");
    assert!(page.intents.is_empty(), "{page:?}");
    let rest = listing::unresolved(&world.store, &UnresolvedQuery { after: Some((&tenant, index)), ..query }).unwrap();
    assert_eq!(rest, UnresolvedPage::default());
}

fn place(world: &mut World, tenant: &str, id: &str) {
    let kind = if id.is_empty() { v1::TargetKind::Tenant } else { v1::TargetKind::Session };
    let target = Some(v1::Target { kind: kind.into(), tenant_id: tenant.to_owned(), id: id.to_owned() });
    let hold = v1::PlaceHold { target, matter: "case 12".to_owned(), authority: "court".to_owned() };
    world.command(&[RESPONDER], Action::PlaceHold(hold)).unwrap();
}

#[test]
fn holds_of_a_tenant_are_paged_by_its_own_range_and_that_of_everybody() {
    let mut world = World::new();
    for n in 0..50 {
        place(&mut world, "other", &format!("s-{n}"));
        if n % 10 == 0 {
            place(&mut world, TENANT, &format!("s-{n}"));
        }
    }
    place(&mut world, "*", "");
    let ids = |world: &World, tenant, wanted, after, limit| {
        let counted = Counted::new(&world.store);
        let found = listing::holds(&counted, tenant, wanted, after, limit).unwrap();
        assert!(counted.rows.get() <= 5 * limit, "{} rows for {limit}", counted.rows.get());
        found.iter().map(|it| it.hold_id).collect::<Vec<u64>>()
    };
    assert_eq!(ids(&world, TENANT, Wanted::Open, 0, 3), [2, 13, 24], "a whole page of its own");
    assert_eq!(ids(&world, TENANT, Wanted::Open, 24, 3), [35, 46, 56]);
    assert!(ids(&world, TENANT, Wanted::Open, 56, 3).is_empty());
    let release = Action::ReleaseHold(v1::ReleaseHold { hold_id: 13, reason: "settled".to_owned() });
    world.command(&[RESPONDER, SECOND_RESPONDER], release).unwrap();
    assert_eq!(ids(&world, TENANT, Wanted::Open, 0, 3), [2, 24, 35]);
    assert_eq!(ids(&world, TENANT, Wanted::Everything, 0, 3), [2, 13, 24]);
    assert_eq!(ids(&world, "*", Wanted::Open, 0, 3), [56]);
    assert!(ids(&world, "nobody", Wanted::Open, 56, 3).is_empty());
}

#[test]
fn tools_are_paged_within_their_tenant() {
    let (mut world, mut collector) = World::with_collector();
    let mut other = of_tenant(&mut world, "other", 70);
    let defined = |tenant: &str, name: &str| {
        let body = v1::ToolDefined { name: name.to_owned(), definition_sha256: vec![1; 32], ..Default::default() };
        v1::Event { tenant_id: tenant.to_owned(), body: Some(Body::ToolDefined(body)), ..event("s-1", "agent-1") }
    };
    collector.append(&mut world, (0..7).map(|n| defined(TENANT, &format!("t{n}"))).collect()).unwrap();
    other.append(&mut world, (0..9).map(|n| defined("other", &format!("o{n}"))).collect()).unwrap();
    let (mut names, mut after) = (Vec::new(), Vec::new());
    loop {
        let counted = Counted::new(&world.store);
        let (page, next) = listing::tools(&counted, TENANT, &after, 3).unwrap();
        assert!(counted.rows.get() <= 3);
        names.extend(page.into_iter().map(|it| it.tool_name));
        after = next;
        if after.is_empty() {
            break;
        }
    }
    names.sort();
    assert_eq!(names, ["t0", "t1", "t2", "t3", "t4", "t5", "t6"]);
}
