//! `proofline approval` and `proofline unresolved`

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use proofline_client::Link;
use proofline_proto::v1::{self, command::Action};
use serde_json::json;

use super::signing::submit;
use crate::{
    arguments::{AnswerArguments, ApprovalCommand, UnresolvedArguments},
    connection::Connection,
    describe, form,
    output::{Answer, table},
};

const PAGE_SIZE: u32 = 1_000;

pub(super) async fn run(command: ApprovalCommand, connection: &Connection) -> Result<Answer> {
    match command {
        ApprovalCommand::List { tenant, answered } => list(&tenant, answered, connection).await,
        ApprovalCommand::Grant(it) => answer(it, v1::Verdict::Allow, connection).await,
        ApprovalCommand::Deny(it) => answer(it, v1::Verdict::Deny, connection).await,
        ApprovalCommand::Withdraw { intent, tenant, reason, signing } => {
            let granted = asked_in(intent, &tenant, true, connection).await?;
            let granted = granted.with_context(|| format!("nothing that entry {intent} of tenant {tenant} asked was ever approved"))?;
            let withdrawal = v1::WithdrawApproval {
                tenant_id: granted.tenant_id,
                session_id: granted.session_id,
                intent_index: granted.intent_index,
                action_digest: granted.action_digest,
                reason,
            };
            submit(Action::WithdrawApproval(withdrawal), &signing, connection).await
        }
    }
}

async fn list(tenant: &str, answered: bool, connection: &Connection) -> Result<Answer> {
    let found = approvals(tenant, answered, connection).await?;
    let json = found.iter().map(|it| form::to_json("Approval", it)).collect::<Result<Vec<_>, _>>()?;
    let headings = ["INTENT", "ASKED", "SESSION", "AGENT", "FOR", "RULES", "STATE"];
    Ok(Answer::new("proofline.approvals/v1", json!({ "approvals": json }), table(headings, found.into_iter().map(row))))
}

async fn approvals(tenant: &str, answered: bool, connection: &Connection) -> Result<Vec<v1::Approval>> {
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let page = page(tenant, answered, after, PAGE_SIZE, connection).await?;
        found.extend(page.approvals);
        if page.next_after == 0 {
            return Ok(found);
        }
        after = page.next_after;
    }
}

async fn page(tenant: &str, answered: bool, after: u64, page_size: u32, connection: &Connection) -> Result<v1::ListApprovalsResponse> {
    let call = |link: Link| {
        let request = v1::ListApprovalsRequest { tenant_id: tenant.to_owned(), answered, page_size, after_intent_index: after };
        async move { link.control().list_approvals(request).await }
    };
    Ok(connection.client.call(call).await?)
}

/// Returns what one intent asks: the first behind the one before it, if that is it.
async fn asked_in(intent: u64, tenant: &str, answered: bool, connection: &Connection) -> Result<Option<v1::Approval>> {
    let found = page(tenant, answered, intent.saturating_sub(1), 1, connection).await?.approvals;
    Ok(found.into_iter().find(|asked| asked.intent_index == intent))
}

fn row(of: v1::Approval) -> [String; 7] {
    let state = match (of.verdict(), of.used_by_index) {
        (v1::Verdict::Unspecified, _) => "waits".to_owned(),
        _ if of.withdrawn_index != 0 => format!("withdrawn by entry {}", of.withdrawn_index),
        (verdict, 0) => format!("{} until {}", describe::verdict(verdict), describe::time(of.expires_unix_ns)),
        (_, index) => format!("used by entry {index}"),
    };
    let requester = of.requester.map(|it| it.subject).unwrap_or_default();
    let asked = describe::time(of.asked_unix_ns);
    [of.intent_index.to_string(), asked, of.session_id, of.agent_id, requester, of.rules.join(" "), state]
}

async fn answer(it: AnswerArguments, verdict: v1::Verdict, connection: &Connection) -> Result<Answer> {
    let asked = asked_in(it.intent, &it.tenant, false, connection).await?;
    let asked = asked.with_context(|| format!("entry {} of tenant {} waits for no approval", it.intent, it.tenant))?;
    let expires = SystemTime::now() + Duration::from_secs(it.holds_for * 60);
    let approval = v1::ResolveApproval {
        tenant_id: asked.tenant_id,
        session_id: asked.session_id,
        intent_index: asked.intent_index,
        action_digest: asked.action_digest,
        verdict: verdict.into(),
        expires_unix_ns: u64::try_from(expires.duration_since(UNIX_EPOCH)?.as_nanos())?,
        reason: it.reason,
    };
    submit(Action::ResolveApproval(approval), &it.signing, connection).await
}

/// Lists what was allowed and of which nobody said what came of it.
pub(super) async fn unresolved(it: UnresolvedArguments, connection: &Connection) -> Result<Answer> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let before = now.saturating_sub(Duration::from_secs(it.older_than));
    let before_unix_ns = if it.older_than == 0 { 0 } else { u64::try_from(before.as_nanos())? };
    let mut found: Vec<v1::UnresolvedIntent> = Vec::new();
    let (mut after_index, mut after_tenant_id) = (0, String::new());
    loop {
        let (tenant_id, page_size) = (it.tenant.clone(), PAGE_SIZE);
        let request = v1::ListUnresolvedRequest { tenant_id, after_index, page_size, before_unix_ns, after_tenant_id };
        let call = |link: Link| {
            let request = request.clone();
            async move { link.control().list_unresolved(request).await }
        };
        let page = connection.client.call(call).await?;
        found.extend(page.intents);
        if page.next_after == 0 {
            break;
        }
        (after_index, after_tenant_id) = (page.next_after, page.next_after_tenant_id);
    }
    let json = found.iter().map(|it| form::to_json("UnresolvedIntent", it)).collect::<Result<Vec<_>, _>>()?;
    let rows = found
        .into_iter()
        .map(|it| [it.index.to_string(), describe::time(it.committed_unix_ns), it.tenant_id, it.session_id, it.agent_id, it.tool]);
    let headings = ["INTENT", "COMMITTED", "TENANT", "SESSION", "AGENT", "TOOL"];
    Ok(Answer::new("proofline.unresolved/v1", json!({ "intents": json }), table(headings, rows)))
}
