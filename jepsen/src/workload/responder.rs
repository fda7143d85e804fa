//! A responder who revokes sessions while events of them and of all below them come in through every node.

use proofline_proto::v1::{self, command::Action as Command};

use super::{
    Stage,
    attempt::timed,
    governing::{Operators, submit},
    reach::{Reach, Seat},
};
use crate::{
    history::{Action, Actor, Answer, Outcome},
    random::Random,
};

pub(super) async fn run(stage: Stage, admin: Reach, operators: Operators) {
    let mut responder = Responder { lot: Random::of(stage.seed, "responder"), actor: stage.recorder.actor(), stage, admin, operators };
    while !responder.stage.is_stopping() {
        let every = responder.stage.shape.revokes_every_ms;
        let wait = responder.lot.between(every / 2, every + every / 2);
        responder.stage.pause(wait).await;
        responder.revoke().await;
        let longer = responder.lot.between(200, 800);
        responder.stage.pause(longer).await;
        responder.stage.families.advance();
    }
}

struct Responder {
    stage: Stage,
    admin: Reach,
    operators: Operators,
    actor: Actor,
    lot: Random,
}

impl Responder {
    async fn revoke(&mut self) {
        let session = self.stage.families.to_revoke(&mut self.lot).id;
        let target = v1::Target { kind: v1::TargetKind::Session.into(), tenant_id: self.stage.tenant.to_string(), id: session.clone() };
        let contain = Command::Contain(v1::Contain {
            target: Some(target),
            action: v1::ContainmentAction::RevokeSession.into(),
            reason: "a run with faults".to_owned(),
            incident_id: String::new(),
        });
        let Some((seat, index)) = self.see_through(&["rita"], contain, |nonce| Action::Revoke { session: session.clone(), nonce }).await
        else {
            return;
        };
        if self.lot.below(6) > 0 {
            return;
        }
        let wait = self.lot.between(100, 700);
        self.stage.pause(wait).await;
        if let Some(containment) = self.number(&seat, index).await {
            let release =
                Command::Release(v1::Release { containment_id: containment, reason: "looked into".to_owned(), ..Default::default() });
            self.see_through(&["rita", "sam"], release, |nonce| Action::Release { containment, nonce }).await;
        }
    }

    /// Sends one command to one node after the other until it is known what became of it. Returns who answered, and its entry.
    async fn see_through(
        &mut self,
        by: &[&str],
        command: Command,
        action: impl Fn(crate::history::Nonce) -> Action,
    ) -> Option<(Seat, u64)> {
        let signed = self.operators.sign(&self.stage.origin, by, command)?;
        loop {
            let seat = self.admin.any(&mut self.lot);
            match submit(&self.stage, &mut self.actor, &seat, action(signed.nonce), &signed).await {
                Outcome::Ok { answer: Answer::Commanded { index } } => return Some((seat, index)),
                Outcome::Fail { reason, .. } if is_final(&reason) => return None,
                Outcome::Ok { .. } | Outcome::Fail { .. } | Outcome::Info { .. } => {}
            }
            if self.stage.is_stopping() {
                return None;
            }
            self.stage.pause(50).await;
        }
    }

    /// Finds the number of the containment that an entry caused.
    async fn number(&self, seat: &Seat, cause: u64) -> Option<u64> {
        let mut after_id = 0;
        loop {
            let request = v1::ListContainmentsRequest { tenant_id: self.stage.tenant.to_string(), after_id, ..Default::default() };
            let page = timed(self.stage.attempt_time(), seat.link.control().list_containments(request)).await.ok()?;
            if let Some(found) = page.containments.iter().find(|it| it.cause_index == cause) {
                return Some(found.containment_id);
            }
            after_id = Some(page.next_after).filter(|next| *next > 0)?;
        }
    }
}

fn is_final(reason: &str) -> bool {
    !matches!(reason, "NO_LEADER" | "INBOX_FULL" | "SHUTTING_DOWN" | "CLOCK_NOT_TRUSTED" | "NOT_BEGUN")
}
