//! What a tenant's handle of the store reaches, where the API's own tests do not come: fetches, retention, owners.

use super::*;
use crate::access::token::{PrincipalId, Shown, make};
use crate::access::{Scope, TenantName};
use crate::retrieve::Errand;
use doorbell_api::access::Role;
use doorbell_api::request::Source;
use doorbell_wire::ids::Digest;

const URL: &str = "https://a.example/fix.sh";

/// Two guests of two tenants.
async fn two() -> (Bench, TenantName, TenantName) {
    let bench = Bench::new().await;
    let (a, b): (TenantName, TenantName) = ("a".parse().unwrap(), "b".parse().unwrap());
    for name in [&a, &b] {
        bench.store.add_tenant(&ROOT, name.clone()).await.unwrap();
    }
    let own = ChangeGuest { tenant: Some(Some(a.clone())), ..ChangeGuest::default() };
    bench.store.change_guest(&ROOT, &bench.guest.name, own).await.unwrap();
    let other = AddGuest { tenant: Some(b.clone()), ..new_guest("web-4", 8, None) };
    bench.store.add_guest(&ROOT, other).await.unwrap();
    (bench, a, b)
}

fn from(digest: Digest) -> AcceptRequest {
    let text = digest.to_string();
    let source = Source { url: URL.into(), sha256: text.clone(), name: Some("fix".into()) };
    AcceptRequest { action: program(&text, 0), source: Some(source), awaits_program: true, ..plain() }
}

#[tokio::test]
async fn a_fetch_of_one_tenant_does_nothing_for_another() {
    let (bench, a, b) = two().await;
    let digest = Digest::new([1; 32]);
    let own = bench.accept(from(digest)).await.id;
    let other = bench.store.accept(&ROOT, &"web-4".parse().unwrap(), from(digest)).await.unwrap().1.id;
    let errand = |tenant: &TenantName| Errand { digest, url: URL.into(), tenant: Some(tenant.clone()) };
    assert_eq!(bench.store.awaited().await.unwrap(), [errand(&a), errand(&b)]);
    let moved = bench.store.arrived(&errand(&a), 4, "").await.unwrap();
    assert_eq!(moved.iter().map(|row| row.id).collect::<Vec<_>>(), [own]);
    assert!(bench.store.request(other).await.unwrap().awaits_program);
    assert!(bench.store.holds(&a, digest).await.unwrap());
    assert!(!bench.store.holds(&b, digest).await.unwrap());
    assert_eq!(bench.store.not_retrieved(&errand(&b), "no").await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_retention_removes_is_nobodys_any_longer() {
    let (bench, a, b) = two().await;
    let (kept, gone) = (Digest::new([1; 32]), Digest::new([2; 32]));
    for digest in [kept, gone] {
        assert!(bench.store.hold(&a, digest).await.unwrap());
        assert!(!bench.store.hold(&a, digest).await.unwrap());
    }
    bench.store.let_go(vec![gone], None).await.unwrap();
    assert!(bench.store.holds(&a, kept).await.unwrap());
    // As new to the one as to the other: that somebody has it again does not show.
    assert!(bench.store.hold(&b, gone).await.unwrap());
    assert!(!bench.store.holds(&a, gone).await.unwrap());
    bench.store.let_go(Vec::new(), Some(u64::from(u32::MAX) * 1000)).await.unwrap();
    assert!(!bench.store.holds(&a, kept).await.unwrap(), "unused for as long as programs are kept");
}

#[tokio::test]
async fn a_request_stays_with_who_owned_its_guest_when_it_was_accepted() {
    let (bench, a, b) = two().await;
    let id = bench.accept(plain()).await.id;
    let to = ChangeGuest { tenant: Some(Some(b.clone())), ..ChangeGuest::default() };
    let line = bench.store.change_guest(&ROOT, &bench.guest.name, to.clone()).await.unwrap_err().to_string();
    assert!(line.contains("has 1 open requests"), "{line}");
    bench.store.cancel(&ROOT, id, None).await.unwrap();
    bench.store.change_guest(&ROOT, &bench.guest.name, to).await.unwrap();
    let within = |tenant: &TenantName| bench.store.within(Scope::Tenant(tenant.clone()));
    assert!(within(&a).request(id).await.is_ok());
    assert!(within(&a).guest(&bench.guest.name).await.is_err());
    assert!(within(&b).guest(&bench.guest.name).await.is_ok());
    let whole = id.to_string();
    for prefix in [&whole[..8], &whole] {
        assert!(matches!(within(&b).find_request(prefix).await, Err(StoreError::NotFound { .. })));
    }
    assert!(matches!(within(&b).cancel(&ROOT, id, None).await, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn a_tenant_is_removed_when_nothing_is_left_of_it_and_its_name_is_not_given_again() {
    let (bench, a, _) = two().await;
    let line = bench.store.remove_tenant(&ROOT, a.clone()).await.unwrap_err().to_string();
    assert!(line.starts_with("tenant a owns 1 guests"), "{line}");
    bench.store.remove_guest(&ROOT, &bench.guest.name).await.unwrap();
    let id = PrincipalId::draw().unwrap();
    let (token, hash) = make(id).unwrap();
    let new = AddPrincipal {
        id,
        name: "ci".parse().unwrap(),
        known: KnownPrincipal::Token(hash),
        tenant: Some(a.clone()),
        role: Role::Viewer,
        actions: None,
        expires_in_ms: Some(u64::MAX),
    };
    bench.store.add_principal(&ROOT, new).await.unwrap();
    let shown = Shown::read(token.expose()).unwrap();
    let found = bench.store.bearer(shown).await.unwrap().unwrap();
    assert_eq!((found.id, found.tenant.as_ref()), (id, Some(&a)));
    assert!(bench.store.remove_tenant(&ROOT, a.clone()).await.is_err());
    bench.store.revoke(&ROOT, &id.to_string()).await.unwrap();
    bench.store.remove_tenant(&ROOT, a.clone()).await.unwrap();
    let line = bench.store.add_tenant(&ROOT, a).await.unwrap_err().to_string();
    assert!(line.starts_with("there is or was a tenant a:"), "{line}");
}
