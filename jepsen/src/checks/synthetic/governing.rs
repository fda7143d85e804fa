//! The genesis, registrations, revocations and releases.

use ed25519_dalek::SigningKey;
use proofline_client::Signatory;
use proofline_ledger::{EntryIndex, Outcome as Applied, listing};
use proofline_proto::{peer::item::Item, v1, v1::command::Action as Command};
use prost::Message as _;

use super::{EPOCH_NS, NODES, ORIGIN, TENANT, World, writing::Lane};
use crate::history::{Action, Answer, Nonce};

impl World {
    pub(super) fn found(&mut self, log: SigningKey, nodes: &[(String, SigningKey)]) -> Option<()> {
        let public = |key: &SigningKey| key.verifying_key().to_bytes().to_vec();
        let role = |name: &str| if matches!(name, "alice" | "bob") { v1::OperatorRole::Registrar } else { v1::OperatorRole::Responder };
        let operator = |(name, key): &(String, SigningKey)| v1::OperatorKey {
            operator_id: name.clone(),
            public_key: public(key),
            roles: vec![role(name).into()],
            ..Default::default()
        };
        let genesis = v1::Genesis {
            origin: ORIGIN.to_owned(),
            apply_version: 1,
            log_public_key: public(&log),
            operators: self.operators.iter().map(operator).collect(),
            nodes: (1..=NODES)
                .zip(nodes)
                .map(|(node_id, (name, key))| v1::NodeKey { node_id, name: name.clone(), public_key: public(key) })
                .collect(),
            grants: Vec::new(),
        };
        matches!(self.apply(Item::Genesis(genesis))?, Applied::Began).then_some(())
    }

    pub(super) fn register(&mut self, collector: &str, key: SigningKey) -> Option<()> {
        let registration = Command::RegisterCollector(v1::RegisterCollector {
            collector_id: collector.to_owned(),
            public_key: key.verifying_key().to_bytes().to_vec(),
            spiffe_id: format!("spiffe://proofline.test/{collector}"),
            tenant_id: TENANT.to_owned(),
            agents: vec!["*".to_owned()],
            vantages: vec![v1::Vantage::GatewayObserved.into()],
            ..Default::default()
        });
        let what = format!("register {collector}");
        self.command(&["alice"], registration, |nonce| Action::Govern { what, nonce })?;
        self.lanes.push(Lane::new(collector, key));
        self.open(self.lanes.len() - 1)
    }

    /// Signs and applies a command, and records who asked for it.
    fn command(&mut self, by: &[&str], command: Command, action: impl FnOnce(Nonce) -> Action) -> Option<u64> {
        let nonce = self.nonce();
        let mut signed = v1::SignedCommand {
            origin: ORIGIN.to_owned(),
            nonce: nonce.0.to_vec(),
            expires_unix_ns: EPOCH_NS + self.now + 60_000_000_000,
            command: v1::Command { action: Some(command) }.encode_to_vec(),
            signatures: Vec::new(),
        };
        for (operator_id, key) in self.operators.iter().filter(|(name, _)| by.contains(&name.as_str())) {
            Signatory { operator_id: operator_id.clone(), key: key.clone() }.sign(&mut signed).ok()?;
        }
        let span = self.span();
        let Applied::Commanded(index) = self.apply(Item::Command(signed))? else { return None };
        self.answered(action(nonce), span, Answer::Commanded { index: index.0 });
        Some(index.0)
    }

    /// Revokes the root of the newest family, or its child, and goes on to the next family.
    pub(super) fn revoke(&mut self) -> Option<()> {
        let below = if self.lot.below(3) == 0 { ".0" } else { "" };
        let session = format!("f{}{below}", self.revoked);
        self.revoked += 1;
        let target = v1::Target { kind: v1::TargetKind::Session.into(), tenant_id: TENANT.to_owned(), id: session.clone() };
        let contain = Command::Contain(v1::Contain {
            target: Some(target),
            action: v1::ContainmentAction::RevokeSession.into(),
            reason: "made up".to_owned(),
            incident_id: String::new(),
        });
        let index = self.command(&["rita"], contain, |nonce| Action::Revoke { session, nonce })?;
        let changes = listing::containment_changes(&self.store, EntryIndex(index), EntryIndex(u64::MAX), 1).ok()?;
        self.contained.extend(changes.first().map(|change| change.containment.containment_id));
        Some(())
    }

    pub(super) fn release(&mut self) -> Option<()> {
        let Some(containment) = self.contained.pop() else { return Some(()) };
        let release = Command::Release(v1::Release { containment_id: containment, reason: "made up".to_owned(), ..Default::default() });
        self.command(&["rita", "sam"], release, |nonce| Action::Release { containment, nonce }).map(drop)
    }
}
