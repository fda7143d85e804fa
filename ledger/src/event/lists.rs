//! How many values the repeated fields of an event may have. Two bytes of an event can become a message of hundreds of
//! bytes in memory: a short event must not become a large one.

use proofline_proto::v1;
use v1::event::Body;

use crate::limits::EVENT_LIST_MAX;

/// Tells whether no repeated field of the event has too many values.
pub(super) fn are_short(event: &v1::Event) -> bool {
    is_short(&event.payloads)
        && event.session.as_ref().is_none_or(|session| is_short(&session.aliases))
        && event.attribution.as_ref().is_none_or(of_attribution)
        && event.body.as_ref().is_none_or(of_body)
}

fn is_short<T>(list: &[T]) -> bool {
    list.len() <= EVENT_LIST_MAX
}

fn of_attribution(of: &v1::Attribution) -> bool {
    is_short(&of.delegation) && of.delegation.iter().all(|hop| is_short(&hop.scopes)) && of_credential(of.credential.as_ref())
}

fn of_credential(of: Option<&v1::Credential>) -> bool {
    of.is_none_or(|credential| is_short(&credential.scopes))
}

fn of_resource(of: &v1::Resource) -> bool {
    is_short(&of.tags)
}

fn of_access(of: &v1::DataAccess) -> bool {
    is_short(&of.document_ids) && of.resource.as_ref().is_none_or(of_resource)
}

fn of_body(body: &Body) -> bool {
    match body {
        Body::ModelCall(it) => is_short(&it.finish_reasons),
        Body::ActionIntent(it) => is_short(&it.resources) && it.resources.iter().all(of_resource),
        Body::ActionOutcome(it) => is_short(&it.accesses) && it.accesses.iter().all(of_access),
        Body::DataAccess(it) => of_access(it),
        Body::McpConnected(it) => is_short(&it.capabilities),
        Body::SubAgentSpawned(it) => is_short(&it.inherited_scopes) && of_credential(it.child_credential.as_ref()),
        Body::CredentialIssued(it) => of_credential(it.credential.as_ref()),
        Body::CredentialUsed(it) => of_credential(it.credential.as_ref()) && it.target.as_ref().is_none_or(of_resource),
        Body::StepUpCleared(it) => is_short(&it.amr),
        Body::RunStarted(_)
        | Body::RunEnded(_)
        | Body::IntentDeclared(_)
        | Body::HandedOff(_)
        | Body::CredentialRevoked(_)
        | Body::PolicyDecision(_)
        | Body::ApprovalRequested(_)
        | Body::ApprovalResolved(_)
        | Body::MemoryAccess(_)
        | Body::ToolDefined(_)
        | Body::AgentSeen(_)
        | Body::IdentityLinked(_)
        | Body::Heartbeat(_)
        | Body::Annotation(_) => true,
    }
}
