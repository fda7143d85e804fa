//! Results on their way into the log: signed by this node, proposed until they are settled or the lead is lost.

use std::time::Duration;

use ed25519_dalek::Signer as _;
use proofline_ledger::{Outcome, PreparedDelivery, PreparedItem, Refusal, Waiting, signed};
use proofline_proto::{
    peer::{Item, item},
    v1::{DeliveryResult, Outlet, OutletDelivery},
};

use super::Dispatcher;
use crate::inbox::{Applied, Lost, NotAdmitted, Submission};

/// Pause before a result that was not taken is proposed again.
const AGAIN: Duration = Duration::from_millis(200);

/// What is said of a message.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) result: DeliveryResult,
    pub(super) http_status: u32,
    pub(super) error: String,
    pub(super) attempts: u32,
    pub(super) first_attempt_unix_ns: u64,
    pub(super) answered_unix_ns: u64,
}

/// What became of a result.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    /// It is in the log, or another one is.
    Settled,
    /// The ledger does not take it.
    Refused(Box<Refusal>),
    /// This node records nothing any more.
    Lost,
}

impl Dispatcher {
    /// Has a result recorded.
    pub(super) async fn record(&self, outlet: &Outlet, of: &Waiting, said: Said) -> Recorded {
        let delivery = self.signed(outlet, of, said);
        loop {
            let prepared = match PreparedDelivery::new(delivery.clone(), &self.origin) {
                Ok(prepared) => prepared,
                Err(refusal) => return Recorded::Refused(Box::new(refusal)),
            };
            let item = Item { item: Some(item::Item::Delivery(delivery.clone())) };
            let answer = match self.inbox.admit_command(Submission::new(item, PreparedItem::Delivery(prepared))) {
                Ok(ticket) => ticket.answer().await,
                Err(NotAdmitted::ShuttingDown) => return Recorded::Lost,
                Err(NotAdmitted::Full) => Err(Lost::NotLeader),
            };
            match answer {
                Ok(Applied { outcome: Outcome::Refused(Refusal::AlreadyDone { .. }) | Outcome::Delivered(_), .. }) => {
                    return Recorded::Settled;
                }
                Ok(Applied { outcome: Outcome::Refused(refusal), .. }) => return Recorded::Refused(Box::new(refusal)),
                Ok(Applied { .. }) | Err(Lost::ShuttingDown) => return Recorded::Lost,
                // Either this node leads on and is heard in the end, or it is told that it does not and this is dropped.
                Err(Lost::NotLeader | Lost::ClockNotTrusted | Lost::FateUnknown) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    fn signed(&self, outlet: &Outlet, of: &Waiting, said: Said) -> OutletDelivery {
        let delivery = OutletDelivery {
            outlet_id: outlet.outlet_id.clone(),
            containment_id: of.containment,
            entry_index: of.entry.0,
            ordinal: of.ordinal,
            jti: of.jti.clone(),
            result: said.result.into(),
            http_status: said.http_status,
            error: said.error,
            attempts: said.attempts,
            first_attempt_unix_ns: said.first_attempt_unix_ns,
            answered_unix_ns: said.answered_unix_ns,
            node_id: self.node_id,
            public_key: self.node_key.verifying_key().to_bytes().to_vec(),
            signature: Vec::new(),
        };
        let signature = self.node_key.sign(&signed::outlet_delivery(&self.origin, &delivery)).to_bytes().to_vec();
        OutletDelivery { signature, ..delivery }
    }
}
