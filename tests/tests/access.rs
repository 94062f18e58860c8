//! Who may use the manager and how far: every endpoint by every kind of caller, over TLS, against a real manager.
//!
//! What is expected is derived from `docs/openapi.json`, where each endpoint says what it needs. An endpoint that says nothing, or
//! that takes something for which there is no sample here, fails the suite.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use doorbell_api::access::{Credential, NewPrincipal, NewTenant, Role};
use doorbell_api::guest::NewGuest;
use doorbell_api::request::{Action, Input, NewRequest, Window};
use doorbell_client::Client;
use doorbell_tests::command::Doorbell;
use doorbell_tests::daemon::{command, new_request};
use doorbell_tests::place::{Place, files_below};
use doorbell_tests::secured::{Answer, Authority, Secured, put_identity};
use doorbell_tests::wait::{on, until};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;

/// A kind of caller.
struct Caller {
    kind: &'static str,
    token: Option<String>,
    tenant: Option<&'static str>,
    role: Role,
}

/// An endpoint, as the document has it.
struct Endpoint {
    name: String,
    method: String,
    path: String,
    role: Role,
    whole: bool,
    operation: Value,
}

/// What there is for one call: fresh, for the call before may have taken it away.
struct Things {
    guest: String,
    request: String,
    upload: String,
    principal: String,
    tenant: String,
}

struct World {
    secured: Secured,
    root: Client,
    made: u32,
}

#[test]
fn a_tenant_sees_and_moves_only_its_own_guests() {
    let place = Place::new();
    let mut world = World::start(&place);
    let callers = world.callers();
    let mut decided = 0;
    for endpoint in endpoints() {
        for caller in &callers {
            let things = world.things();
            let before = world.everything();
            let answer = world.call(caller, &endpoint, &things);
            world.judge(caller, &endpoint, &things, &answer);
            if answer.status >= 400 && endpoint.method != "get" {
                assert_eq!(
                    world.everything(),
                    before,
                    "{} by {} changed something",
                    endpoint.name,
                    caller.kind
                );
            }
            decided += 1;
        }
    }
    assert!(decided >= 38 * 6, "only {decided} decisions were looked at");
    world.secured.daemon.assert_audit_intact();
}

#[test]
fn what_a_tenant_is_told_is_of_its_own_things() {
    let place = Place::new();
    let mut world = World::start(&place);
    let things = world.things();
    let (own, other) = (world.token("a", Role::Viewer), world.token("b", Role::Admin));
    let get = |token: &str, path: &str| world.secured.call(Some(token), "GET", path, b"");
    for path in ["/v1/guests", "/v1/requests", "/v1/principals", "/v1/tenants", "/v1/audit", "/v1/pending"] {
        let told = get(&other, path);
        assert_eq!(told.status, 200, "{path}: {told:?}");
        for word in [&things.guest, &things.request, &things.principal, "\"a\"", "tenant a"] {
            assert!(!told.body.contains(word), "{path} tells of {word}: {}", told.body);
        }
    }
    assert!(get(&own, "/v1/guests").body.contains(&things.guest));
    assert!(get(&own, "/v1/requests").body.contains(&things.request));
    let records = get(&own, "/v1/audit?limit=1000").json();
    let of_guest = records.as_array().unwrap().iter().find(|record| record["guest"] == things.guest.as_str());
    assert_eq!(of_guest.expect("a record of the guest")["hash"], "", "a hash that tells of other records");
    let named = |guest: &str| get(&other, &format!("/v1/requests?guest={guest}"));
    let (there, absent) = (named(&things.guest), named("no-such"));
    assert_eq!(there.status, 404);
    assert_eq!(there.body, absent.body.replace("no-such", &things.guest));
    assert_eq!(get(&other, "/v1/info").json()["guests"], 0);
    assert_eq!(get(&own, "/v1/info").json()["guests"], 1);
    assert_eq!(get(&own, "/v1/info").json()["state_dir"], "");
    // An id of another's request is refused without a word of whose it is.
    let own_guest = world.guest("b");
    let mut new = request();
    new.id = Some(things.request.clone());
    let body = serde_json::to_vec(&new).unwrap();
    let path = format!("/v1/guests/{own_guest}/requests");
    let refused = world.secured.call(Some(&other), "POST", &path, &body);
    assert_eq!(refused.status, 409);
    assert!(!refused.body.contains(&things.guest), "{}", refused.body);
}

#[test]
fn a_tenant_is_told_of_the_events_of_its_own_guests() {
    let place = Place::new();
    let mut world = World::start(&place);
    let token = world.token("b", Role::Viewer);
    let mut watched = world.secured.watch(&token);
    let others = world.things();
    let own = world.guest("b");
    let first = watched.next().expect("an event");
    assert_eq!(
        (&first["guest"], &first["change"]["type"]),
        (&json!(own), &json!("added")),
        "not {}",
        others.guest
    );
}

#[test]
fn a_tenant_cannot_learn_whether_another_one_has_uploaded_a_program() {
    let place = Place::new();
    let mut world = World::start(&place);
    let (a, b) = (world.token("a", Role::Operator), world.token("b", Role::Operator));
    let guest = world.guest("a");
    let put = |token: &str, bytes: &[u8]| world.secured.call(Some(token), "PUT", "/v1/programs", bytes);
    let (first, second, again) = (put(&b, b"#!true"), put(&a, b"#!true"), put(&a, b"#!true"));
    assert_eq!((first.status, second.status, again.status), (201, 201, 200));
    assert_eq!(first.body, second.body);
    // The same through an upload that goes on after a break.
    let (id, upload) = ("0b".repeat(16), b"#!also".to_vec());
    for (token, begun) in [(&b, 6), (&a, 6)] {
        let path = format!("/v1/uploads/{id}");
        assert_eq!(world.secured.call(Some(token), "GET", &path, b"").status, 404);
        let sent = world.secured.call(Some(token), "PUT", &format!("{path}?offset=0"), &upload);
        assert_eq!(sent.json()["len"], begun);
    }
    for token in [&b, &a] {
        let path = format!("/v1/uploads/{id}/finish");
        assert_eq!(world.secured.call(Some(token), "POST", &path, b"").status, 201);
    }
    // Nor by naming it: what another one has is not there, in the same words as what nobody has.
    let _ = put(&b, b"#!secret");
    let named = |bytes: &[u8]| {
        let digest = hex::encode(Sha256::digest(bytes));
        let action = json!({"action": {"type": "run", "program": {"digest": digest, "name": "p"}}});
        let path = format!("/v1/guests/{guest}/requests");
        let answer = world.secured.call(Some(&a), "POST", &path, action.to_string().as_bytes());
        (answer.status, answer.body.replace(&digest, "DIGEST"))
    };
    assert_eq!(named(b"#!secret"), named(b"#!nobody's"));
    assert_eq!(named(b"#!secret").0, 404);
    assert_eq!(named(b"#!true").0, 201);
    // Nor by asking what the guest would do with it.
    let asked = |bytes: &[u8]| {
        let digest = hex::encode(Sha256::digest(bytes));
        let action = json!({"action": {"type": "run", "program": {"digest": digest, "name": "p"}}});
        let answer = world.secured.call(
            Some(&a),
            "POST",
            &format!("/v1/guests/{guest}/can"),
            action.to_string().as_bytes(),
        );
        (answer.status, answer.body.replace(&digest, "DIGEST"))
    };
    assert_eq!(asked(b"#!secret"), asked(b"#!nobody's"));
    assert_eq!(asked(b"#!secret"), asked(b"#!true"));
    assert_eq!(asked(b"#!secret").0, 503, "it is asked, and the guest is away");
}

#[test]
fn a_token_opens_what_it_is_for_until_it_is_revoked() {
    let place = Place::new();
    let mut world = World::start(&place);
    let guest = world.guest("a");
    let here = Doorbell::new(&place, world.secured.daemon.socket());
    let file = place.join("token");
    let words =
        ["--json", "token", "add", "ci", "--tenant", "a", "--role", "operator", "--action", "link-down"];
    let out = ["--out", file.to_str().unwrap()];
    // A token that is not made leaves no file behind.
    let nobodys = ["token", "add", "ci", "--tenant", "nobody", "--role", "viewer"];
    here.run(&[&nobodys[..], &out[..]].concat()).refused(2, &["no tenant \"nobody\""]);
    assert!(!file.exists());
    let added = here.run(&[&words[..], &out[..]].concat()).expect(0).json();
    let id = added["id"].as_str().unwrap().to_owned();
    let token = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    assert!(token.starts_with(&format!("dbt_{id}_")), "{token}");

    let far = |words: &[&str]| {
        let (url, ca) = (world.secured.url(), world.secured.ca.clone());
        let all = ["--url", &url, "--ca", ca.to_str().unwrap(), "--token-file", file.to_str().unwrap()];
        here.run(&[&all[..], words].concat())
    };
    assert!(far(&["guest", "ls"]).expect(0).stdout.contains(&guest));
    far(&["run", &guest, "--detach", "--", "true"]).refused(2, &["limited to other actions than run"]);
    let down = br#"{"action": {"type": "link-down", "link": "eth0"}}"#;
    let requests = format!("/v1/guests/{guest}/requests");
    assert_eq!(world.secured.call(Some(&token), "POST", &requests, down).status, 201);
    far(&["guest", "rm", &guest, "--yes"]).refused(2, &["it needs admin"]);
    far(&["backup", "b.tar"]).refused(2, &["belongs to tenant a"]);

    // Neither the state nor the log has what opens it.
    let secret = token.rsplit('_').next().unwrap();
    let raw = hex::decode(secret).unwrap();
    for path in files_below(world.secured.daemon.state()).iter().chain([&place.join("doorbelld.log")]) {
        let bytes = std::fs::read(path).unwrap();
        let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        assert!(!holds(secret.as_bytes()) && !holds(&raw), "{} has the secret", path.display());
    }
    // Nor does a list, or any other secret of the same id open anything.
    assert!(!here.run(&["--json", "token", "ls"]).expect(0).stdout.contains(secret));
    let wrong = format!("dbt_{id}_{}", "00".repeat(32));
    assert_eq!(world.secured.call(Some(&wrong), "GET", "/v1/guests", b"").status, 401);

    until("the last use to be kept", || {
        let all = here.run(&["--json", "token", "ls"]).expect(0).json();
        all.as_array()?.iter().find(|one| one["id"] == id.as_str())?["last_used_ms"].as_u64()
    });
    here.run(&["token", "revoke", &id]).expect(0).stdout.clear();
    far(&["guest", "ls"]).refused(2, &["was revoked at"]);
    let expired = world.secured.call(Some(&world.short_lived()), "GET", "/v1/guests", b"");
    assert_eq!(expired.status, 401);
    assert!(expired.body.contains("has expired at"), "{}", expired.body);
}

#[test]
fn a_token_makes_root_no_more_than_it_is_for() {
    let place = Place::new();
    let mut world = World::start(&place);
    let token = place.file("token", world.token("a", Role::Viewer).as_bytes());
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let here = Doorbell::new(&place, world.secured.daemon.socket());
    let guest = world.guest("a");
    let words = ["--token-file", token.to_str().unwrap(), "guest", "rm", &guest, "--yes"];
    here.run(&words).refused(2, &["it needs admin"]);
    here.run(&["guest", "rm", &guest, "--yes"]).expect(0).stdout.clear();
    // A file that others can read is no place for a token.
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    here.run(&words).refused(2, &["chmod 0600"]);
}

#[test]
fn nobody_gives_more_than_he_has() {
    let place = Place::new();
    let mut world = World::start(&place);
    let admin = world.token("a", Role::Admin);
    let limited = world.limited();
    let add = |token: &str, more: Value| {
        let mut new = json!({"name": "x", "credential": {"type": "token"}, "role": "viewer"});
        new.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.secured.call(Some(token), "POST", "/v1/principals", new.to_string().as_bytes())
    };
    let given = add(&admin, json!({}));
    assert_eq!((given.status, given.json()["principal"]["tenant"].clone()), (201, json!("a")));
    assert_eq!(add(&admin, json!({"tenant": "b"})).status, 403);
    assert_eq!(add(&admin, json!({"credential": {"type": "cert-dns", "name": "x"}})).status, 403);
    assert_eq!(add(&limited, json!({})).status, 403);
    assert_eq!(add(&limited, json!({"actions": ["run"]})).status, 403);
    assert_eq!(add(&limited, json!({"actions": ["get"]})).status, 201);
    // Where a guest is met is the host's, for it names its files.
    let guest = world.guest("a");
    for (change, status) in [
        (json!({"cid": 9999}), 403),
        (json!({"share": "/etc"}), 403),
        (json!({"tenant": ""}), 403),
        (json!({"concurrency": 2}), 200),
    ] {
        let path = format!("/v1/guests/{guest}");
        let answer = world.secured.call(Some(&admin), "PATCH", &path, change.to_string().as_bytes());
        assert_eq!(answer.status, status, "{change}: {}", answer.body);
    }
}

#[test]
fn a_limit_to_actions_holds_for_what_is_done_to_a_request_too() {
    let place = Place::new();
    let mut world = World::start(&place);
    let things = world.things();
    let (limited, viewer, operator) =
        (world.limited(), world.token("a", Role::Viewer), world.token("a", Role::Operator));
    let request = format!("/v1/requests/{}", things.request);
    let call = |token: &str, method: &str, path: &str, body: &[u8]| {
        let answer = world.secured.call(Some(token), method, &format!("{request}{path}"), body);
        (answer.status, answer.json())
    };
    for (method, path, body) in [
        ("POST", "/cancel", &b""[..]),
        ("PUT", "/input?offset=0", b"x"),
        ("PUT", "/window", br#"{"rows": 1, "columns": 1}"#),
    ] {
        let (status, told) = call(&limited, method, path, body);
        assert_eq!((status, &told["code"]), (403, &json!("forbidden")), "{path}: {told}");
        assert!(told["message"].as_str().unwrap().contains("limited to other actions than run"), "{told}");
    }
    // To be attached is more than to look: a request may end with its last client.
    assert_eq!(call(&viewer, "GET", "/output", b"").0, 200);
    assert_eq!(call(&viewer, "GET", "/output?attach=true", b"").0, 403);
    assert_eq!(call(&operator, "GET", "/output?attach=true", b"").0, 200);
    // A tenant's receipt has no seal: it says whether a guess at the records around it is right.
    let (status, cancelled) = call(&operator, "POST", "/cancel", b"");
    assert_eq!((status, &cancelled["receipt"]["audit_hash"]), (200, &json!("")));
    let whole = on("the request", world.root.request(&things.request)).unwrap();
    assert_eq!(whole.receipt.expect("a receipt").audit_hash.len(), 64);
}

#[test]
fn a_certificate_stands_for_whoever_the_table_says() {
    let place = Place::new();
    let mut world = World::start(&place);
    let guest = world.guest("a");
    let secured = &world.secured;
    let (pinned, named) = (secured.authority.issue("one.example"), secured.authority.issue("two.example"));
    let list = |identity| secured.call_as(Some(identity), None, "GET", "/v1/guests", b"");
    assert_eq!(list(&pinned).unwrap().status, 401, "a certificate alone is nobody");
    let here = Doorbell::new(&place, secured.daemon.socket());
    let add = |name: &str, which: [&str; 2]| {
        let words = ["--json", "cert", "add", name, "--tenant", "a", "--role", "viewer", which[0], which[1]];
        here.run(&words).expect(0).json()["id"].as_str().unwrap().to_owned()
    };
    let fingerprint = hex::encode_upper(Sha256::digest(&pinned.der));
    let id = add("one", ["--sha256", &fingerprint]);
    let _ = add("two", ["--dns", "two.example"]);
    for identity in [&pinned, &named] {
        let answer = list(identity).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.body.contains(&guest));
    }
    here.run(&["cert", "revoke", &id]).expect(0).stdout.clear();
    assert_eq!(list(&pinned).unwrap().status, 401);
    // The same name from an authority that is not the manager's gets no answer at all.
    assert!(list(&Authority::new().issue("two.example")).is_err());
    // The command line has one too.
    let (cert, key) =
        (place.file("c.pem", named.certificate.as_bytes()), place.file("c.key", named.key.as_bytes()));
    let url = secured.url();
    let words =
        ["--url", &url, "--ca", path(&secured.ca), "--tls-cert", path(&cert), "--tls-key", path(&key)];
    assert!(here.run(&[&words[..], &["guest", "ls"]].concat()).expect(0).stdout.contains(&guest));
}

#[test]
fn a_renewed_certificate_is_taken_without_a_restart_and_a_broken_one_is_not() {
    let place = Place::new();
    let world = World::start(&place);
    let here = Doorbell::new(&place, world.secured.daemon.socket());
    let url = world.secured.url();
    let far = |ca: &Path| here.run(&["--url", &url, "--ca", path(ca), "guest", "ls"]);
    let other = Authority::new();
    let ca = place.file("other.pem", other.root().as_bytes());
    assert_eq!(far(&ca).code, Some(125), "a certificate of an authority that is not trusted");
    put_identity(&place, &other.issue("127.0.0.1"));
    until("the new certificate to be taken", || far(&ca).stderr.contains("no token is shown").then_some(()));
    let from = world.secured.daemon.log().len();
    let _ = place.file("tls.pem", b"nonsense");
    world.secured.daemon.await_log(from, "keeps the certificate that it has");
    assert!(far(&ca).stderr.contains("no token is shown"));
}

#[test]
fn nothing_is_served_over_plain_tcp() {
    let place = Place::new();
    let world = World::start(&place);
    let mut plain = world.secured.connect();
    plain.write_all(b"GET /v1/info HTTP/1.1\r\nhost: d\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP"), "{answer:?}");
    let daemon = doorbell_tests::build::program("doorbelld");
    for words in [&["--listen", "127.0.0.1:0"][..], &["--listen", "127.0.0.1:0", "--tls-cert", "/c"]] {
        let output = Command::new(&daemon).args(words).arg("--check").output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("not served over plain TCP"));
    }
}

#[test]
fn who_connects_and_says_nothing_takes_nobody_elses_place() {
    let place = Place::new();
    let mut world = World::start(&place);
    let token = world.token("a", Role::Viewer);
    // More than there are places: all from one address, and none of them begins a handshake.
    let idle: Vec<_> = (0..600).map(|_| world.secured.connect_from(Some("127.0.0.2"))).collect();
    let answer = world.secured.call(Some(&token), "GET", "/v1/guests", b"");
    assert_eq!((answer.status, idle.len()), (200, 600));
}

#[test]
fn who_calls_too_often_waits_and_its_neighbour_does_not() {
    let place = Place::new();
    let mut world = World::begin(&place, "calls-per-second = 1\ncalls-burst = 10\n");
    let (busy, quiet) = (world.token("a", Role::Viewer), world.token("b", Role::Viewer));
    let call = |token: &str| world.secured.call(Some(token), "GET", "/v1/info", b"");
    let answers: Vec<Answer> = (0..30).map(|_| call(&busy)).collect();
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(refused.len() >= 10, "{} of 30 were refused", refused.len());
    assert!(answers[..10].iter().all(|answer| answer.status == 200));
    assert!(refused.iter().all(|answer| answer.head.contains("retry-after: ")));
    assert_eq!(call(&quiet).status, 200);
    // The SDK waits for its turn.
    let file = place.file("token", busy.as_bytes());
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let here = Doorbell::new(&place, world.secured.daemon.socket());
    here.run(&["--token-file", path(&file), "guest", "ls"]).expect(0).stdout.clear();
    // Whoever is unknown is slowed too, and costs nobody else anything.
    let strangers: Vec<u16> =
        (0..80).map(|_| world.secured.call(None, "GET", "/v1/info", b"").status).collect();
    assert!(strangers.contains(&401) && strangers.contains(&429), "{strangers:?}");
    assert_eq!(call(&quiet).status, 200);
    let told = on("the trail", world.root.audit(0, 1000)).unwrap();
    let of = |event: &str| told.iter().filter(|record| record.event == event).collect::<Vec<_>>();
    assert!((1..5).contains(&of("call-too-many").len()), "{:?}", of("call-too-many"));
    let unknown = of("call-unauthenticated");
    assert_eq!(unknown[0].actor, "unknown from 127.0.0.1");
    assert!(unknown[0].detail.contains("GET /v1/info: unauthenticated: "), "{:?}", unknown[0]);
}

#[test]
fn what_a_tenant_did_and_was_refused_is_in_the_trail_with_who_and_where() {
    let place = Place::new();
    let mut world = World::start(&place);
    let things = world.things();
    let (viewer, operator) = (world.token("a", Role::Viewer), world.token("a", Role::Operator));
    let cancel = format!("/v1/requests/{}/cancel", things.request);
    assert_eq!(world.secured.call(Some(&viewer), "POST", &cancel, b"").status, 403);
    assert_eq!(world.secured.call(Some(&operator), "POST", &cancel, b"").status, 200);
    let told = on("the trail", world.root.audit(0, 1000)).unwrap();
    let forbidden = told.iter().find(|record| record.event == "call-forbidden").expect("a record");
    assert!(
        forbidden.actor.starts_with("token viewer-")
            && forbidden.actor.ends_with(" of tenant a from 127.0.0.1")
    );
    assert!(forbidden.detail.contains(&cancel), "{forbidden:?}");
    let done = told.iter().find(|record| record.event == "request-cancel-asked").expect("a record");
    assert!(done.actor.starts_with("token operator-"), "{done:?}");
}

impl World {
    fn start(place: &Place) -> Self {
        Self::begin(place, "calls-per-second = 100000\ncalls-burst = 100000\n")
    }

    fn begin(place: &Place, more: &str) -> Self {
        let secured = Secured::start(place, more);
        let root = secured.daemon.client();
        for name in ["a", "b"] {
            on("a tenant", root.add_tenant(&NewTenant { name: name.into() })).expect("a tenant");
        }
        Self { secured, root, made: 0 }
    }

    fn number(&mut self) -> u32 {
        self.made += 1;
        self.made
    }

    fn callers(&mut self) -> Vec<Caller> {
        let mut callers = vec![Caller { kind: "no token", token: None, tenant: None, role: Role::Viewer }];
        for (kind, tenant, role) in [
            ("other tenant", Some("b"), Role::Admin),
            ("viewer", Some("a"), Role::Viewer),
            ("operator", Some("a"), Role::Operator),
            ("admin", Some("a"), Role::Admin),
            ("admin of all", None, Role::Admin),
        ] {
            let token = Some(self.token(tenant.unwrap_or_default(), role));
            callers.push(Caller { kind, token, tenant, role });
        }
        callers
    }

    /// A token for a tenant, or for all where it is none.
    fn token(&mut self, tenant: &str, role: Role) -> String {
        let name = format!("{}-{}", format!("{role:?}").to_lowercase(), self.number());
        let tenant = Some(tenant.to_owned()).filter(|tenant| !tenant.is_empty());
        self.give(&NewPrincipal {
            name,
            credential: Credential::Token,
            tenant,
            role,
            actions: None,
            expires_in_ms: None,
        })
        .1
    }

    fn limited(&self) -> String {
        let actions = Some(vec![doorbell_api::access::ActionName::Get]);
        let (name, tenant, role) = ("limited".into(), Some("a".into()), Role::Admin);
        self.give(&NewPrincipal {
            name,
            credential: Credential::Token,
            tenant,
            role,
            actions,
            expires_in_ms: None,
        })
        .1
    }

    fn short_lived(&self) -> String {
        let (name, tenant, role) = ("short".into(), Some("a".into()), Role::Viewer);
        let expires_in_ms = Some(0);
        self.give(&NewPrincipal {
            name,
            credential: Credential::Token,
            tenant,
            role,
            actions: None,
            expires_in_ms,
        })
        .1
    }

    fn give(&self, new: &NewPrincipal) -> (String, String) {
        let granted = on("a token", self.root.add_principal(new)).expect("a token");
        (granted.principal.id, granted.token.expect("a token").expose().to_owned())
    }

    fn guest(&mut self, tenant: &str) -> String {
        let number = self.number();
        let name = format!("guest-{number}");
        let new = NewGuest {
            name: name.clone(),
            cid: Some(1000 + number),
            tenant: Some(tenant.to_owned()),
            ..NewGuest::default()
        };
        on("a guest", self.root.add_guest(&new)).expect("a guest");
        name
    }

    /// One of each, all tenant a's.
    fn things(&mut self) -> Things {
        let guest = self.guest("a");
        let request = on("a request", self.root.submit(&guest, request())).expect("a request").id;
        let number = self.number();
        let tenant = format!("tenant-{number}");
        on("a tenant", self.root.add_tenant(&NewTenant { name: tenant.clone() })).expect("a tenant");
        let name = format!("spare-{number}");
        let new = NewPrincipal {
            name,
            credential: Credential::Token,
            tenant: Some("a".into()),
            role: Role::Viewer,
            actions: None,
            expires_in_ms: None,
        };
        Things { guest, request, upload: format!("{number:032x}"), principal: self.give(&new).0, tenant }
    }

    /// What a call that is refused must not have changed.
    fn everything(&self) -> (Vec<String>, usize, usize, usize) {
        let guests = on("the guests", self.root.guests()).unwrap();
        let principals = on("the principals", self.root.principals()).unwrap();
        let live = principals.iter().filter(|who| who.revoked_at_ms.is_none()).count();
        let tenants = on("the tenants", self.root.tenants()).unwrap().len();
        let open = guests.iter().map(|guest| guest.open_requests).sum::<u64>();
        let shown = guests
            .iter()
            .map(|guest| format!("{} {:?} {} {:?}", guest.name, guest.tenant, guest.concurrency, guest.cid));
        (shown.collect(), live, tenants, usize::try_from(open).unwrap())
    }

    fn call(&self, caller: &Caller, endpoint: &Endpoint, things: &Things) -> Answer {
        if endpoint.path.starts_with("/v1/uploads")
            && caller.tenant == Some("a")
            && caller.role > Role::Viewer
        {
            let path = format!("/v1/uploads/{}?offset=0", things.upload);
            assert_eq!(self.secured.call(caller.token.as_deref(), "PUT", &path, b"x").status, 200);
        }
        let (path, body) = (endpoint.path_of(things), endpoint.body(things));
        self.secured.call(caller.token.as_deref(), &endpoint.method.to_uppercase(), &path, &body)
    }

    fn judge(&self, caller: &Caller, endpoint: &Endpoint, things: &Things, answer: &Answer) {
        let (status, what) = (answer.status, format!("{} by {}: {answer:?}", endpoint.name, caller.kind));
        match endpoint.expected(caller) {
            Expected::Status(expected) => assert_eq!(status, expected, "{what}"),
            Expected::Absent => {
                assert_eq!(status, 404, "{what}");
                let absent = things.absent();
                let nobodys = self.call(caller, endpoint, &absent);
                let told = |answer: &Answer, things: &Things| {
                    let names = [&things.guest, &things.request, &things.upload, &things.principal];
                    names.iter().fold(answer.body.clone(), |body, name| body.replace(*name, "IT"))
                };
                assert_eq!(
                    told(&nobodys, &absent),
                    told(answer, things),
                    "{what}: it tells that it is there"
                );
                assert_eq!(nobodys.status, status, "{what}");
            }
            Expected::LetThrough => {
                assert!(!matches!(status, 400..=404 | 405 | 429 | 500), "{what}");
                if caller.tenant == Some("b") {
                    for name in [&things.guest, &things.request, &things.principal] {
                        assert!(!answer.body.contains(name.as_str()), "{what}: it tells of {name}");
                    }
                }
            }
        }
    }
}

enum Expected {
    Status(u16),
    /// As if it did not exist.
    Absent,
    LetThrough,
}

impl Things {
    /// Names of the same shape that nobody has.
    fn absent(&self) -> Self {
        let other = |text: &str| -> String {
            text.chars().map(|letter| if letter.is_ascii_digit() { '9' } else { letter }).collect()
        };
        Self {
            guest: "guest-0".into(),
            request: "f".repeat(32),
            upload: "e".repeat(32),
            principal: "f".repeat(16),
            tenant: other(&self.tenant),
        }
    }
}

impl Endpoint {
    fn expected(&self, caller: &Caller) -> Expected {
        if caller.token.is_none() {
            return Expected::Status(401);
        }
        if (self.whole && caller.tenant.is_some()) || caller.role < self.role {
            return Expected::Status(403);
        }
        // An upload is begun by whoever names it first; each tenant has names of its own.
        let names_one = self.path.contains('{') && self.name != "put-upload";
        let of_nobody = self.path.starts_with("/v1/uploads/") && caller.tenant.is_none();
        if names_one && (caller.tenant == Some("b") || of_nobody) {
            Expected::Absent
        } else {
            Expected::LetThrough
        }
    }

    fn path_of(&self, things: &Things) -> String {
        let (kind, rest) = self.path.strip_prefix("/v1/").unwrap().split_once('/').unwrap_or(("", ""));
        let named = match kind {
            "guests" => &things.guest,
            "requests" => &things.request,
            "uploads" => &things.upload,
            "principals" => &things.principal,
            "tenants" => &things.tenant,
            _ if !rest.contains('{') => "",
            other => panic!("{}: no sample of what {other} has", self.name),
        };
        let path = self.path.replace("{name}", named).replace("{id}", named);
        assert!(!path.contains('{'), "{path}: no sample for what stands there");
        let parameters = self.operation["parameters"].as_array().cloned().unwrap_or_default();
        let mut query = Vec::new();
        for parameter in parameters.iter().filter(|parameter| parameter["in"] == "query") {
            let name = parameter["name"].as_str().unwrap();
            match name {
                "offset" | "timeout_ms" => query.push(format!("{name}=0")),
                "dry_run" => query.push(format!("{name}=true")),
                _ if parameter["required"] == true => panic!("{}: no sample for {name}", self.name),
                _ => {}
            }
        }
        if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
    }

    fn body(&self, things: &Things) -> Vec<u8> {
        let Some(content) = self.operation.pointer("/requestBody/content").and_then(Value::as_object) else {
            return Vec::new();
        };
        if content.contains_key("application/octet-stream") {
            return b"x".to_vec();
        }
        let schema = &content["application/json"]["schema"]["$ref"];
        let fresh = &things.upload[16..];
        let sample = match schema.as_str().and_then(|name| name.rsplit('/').next()).unwrap_or_default() {
            "NewGuest" => {
                json!({"name": format!("new-{fresh}"), "cid": 0x4000_0000 + u32::from_str_radix(&fresh[8..], 16).unwrap()})
            }
            "GuestChange" => json!({"concurrency": 2}),
            "Approval" | "Rejection" => json!({}),
            "NewEnrolment" => json!({"token": format!("{fresh:0>64}")}),
            "NewRequest" => serde_json::to_value(request()).unwrap(),
            "NewQuery" => json!({"query": "link-list"}),
            "Window" => json!({"rows": 1, "columns": 1}),
            "NewTenant" => json!({"name": format!("new-{fresh}")}),
            "NewPrincipal" => json!({"name": "new", "credential": {"type": "token"}, "role": "viewer"}),
            other => panic!("{}: no sample of {other}", self.name),
        };
        sample.to_string().into_bytes()
    }
}

/// Every endpoint of the document, with what it says it needs.
fn endpoints() -> Vec<Endpoint> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let document: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut endpoints = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let (needs, name) = (&operation["x-doorbell-needs"], operation["operationId"].as_str().unwrap());
            let role = serde_json::from_value(needs["role"].clone())
                .unwrap_or_else(|_| panic!("{method} {path} does not say what it needs"));
            endpoints.push(Endpoint {
                name: name.to_owned(),
                method: method.clone(),
                path: path.clone(),
                role,
                whole: needs["reach"] == "all",
                operation: operation.clone(),
            });
        }
    }
    endpoints
}

/// One that takes input.
fn request() -> NewRequest {
    let mut action = command(&["true"]);
    if let Action::Run(run) = &mut action {
        run.input = Input::Terminal(Window { rows: 1, columns: 1 });
    }
    new_request(action)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}
