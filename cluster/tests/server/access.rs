//! Roles that are taken away, and every kind of certificate that must not get in.

use proofline_cluster::{
    Tls,
    authority::{Authority, Validity},
    spiffe,
};
use proofline_proto::v1::{self, Role};
use tonic::Code;

use crate::world::{World, channel};

#[tokio::test]
async fn a_revoked_role_is_gone_at_once() {
    let world = World::found(1, Tls::Mutual).await;
    world.plan().add_client("temp").unwrap();
    world.grant("temp", Role::Auditor, "*").await;
    let status = v1::ClusterStatusRequest {};
    world.control(0, "temp").cluster_status(status).await.unwrap();
    let grant = v1::RoleGrant { spiffe_id: spiffe("temp"), role: Role::Auditor.into(), tenant_id: "*".to_owned() };
    world.command(&["alice"], v1::command::Action::RevokeRole(v1::RevokeRole { grant: Some(grant) })).await.unwrap();
    assert_eq!(world.control(0, "temp").cluster_status(status).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_reader_that_follows_sees_nothing_after_its_role_is_gone() {
    let world = World::found(1, Tls::Mutual).await;
    world.plan().add_client("temp").unwrap();
    world.grant("temp", Role::Auditor, "*").await;
    let follow = v1::ReadEntriesRequest { follow: true, ..Default::default() };
    let mut entries = world.audit(0, "temp").read_entries(follow).await.unwrap().into_inner();
    entries.message().await.unwrap().expect("the entries so far");
    let grant = v1::RoleGrant { spiffe_id: spiffe("temp"), role: Role::Auditor.into(), tenant_id: "*".to_owned() };
    let revoked = world.command(&["alice"], v1::command::Action::RevokeRole(v1::RevokeRole { grant: Some(grant) })).await.unwrap();
    world.collector("gateway").await;
    world.published(0, revoked + 1).await;
    let status = loop {
        match entries.message().await {
            Ok(seen) => assert!(seen.unwrap().first_index < revoked, "nothing behind the revocation is shown"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
}

#[tokio::test]
async fn certificates_that_prove_nothing_open_nothing() {
    let world = World::found(1, Tls::Mutual).await;
    let (peers, clients) = (world.plan().peer_authority().unwrap(), world.plan().client_authority().unwrap());
    let stranger = Authority::new("somebody else's root").unwrap();
    let admin = spiffe("admin");
    let bad = [
        ("expired", Some(clients.issue(&admin, Validity::expired()).unwrap())),
        ("another root", Some(stranger.issue(&admin, Validity::usual()).unwrap())),
        ("a peer's", Some(peers.issue(&admin, Validity::usual()).unwrap())),
        ("none", None),
    ];
    for (kind, issued) in bad {
        let identity = issued.map(|issued| (issued.certificate, issued.key));
        let mut control = v1::control_client::ControlClient::new(channel(world.plan(), world.node(0), identity));
        let status = control.cluster_status(v1::ClusterStatusRequest {}).await.unwrap_err();
        let is_cut = matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::Unknown);
        assert!(is_cut, "{kind}: the connection itself is refused, not answered with {status:?}");
    }
    let good = clients.issue(&admin, Validity::usual()).unwrap();
    let mut control = v1::control_client::ControlClient::new(channel(world.plan(), world.node(0), Some((good.certificate, good.key))));
    control.cluster_status(v1::ClusterStatusRequest {}).await.unwrap();
}

#[tokio::test]
async fn plaintext_is_never_answered_where_tls_is_on() {
    let world = World::found(1, Tls::Mutual).await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", world.node(0).client)).unwrap();
    let mut control = v1::control_client::ControlClient::new(endpoint.connect_lazy());
    let status = control.cluster_status(v1::ClusterStatusRequest {}).await.unwrap_err();
    assert!(matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal), "{status:?}");
}
