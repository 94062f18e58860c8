//! The audit trail in its data base: what a hand in it leaves behind.

use super::*;
use crate::cause::Cause;

async fn closed_one() -> (Bench, RequestId) {
    let bench = Bench::new().await;
    let id = bench.accept(plain()).await.id;
    bench.offered().await;
    bench.acknowledge(id, Outcome::Succeeded).await;
    bench.accept(plain()).await;
    (bench, id)
}

/// Does what the triggers forbid: whoever can edit the data base can drop them.
async fn forced(bench: Bench, sql: &str) -> String {
    let drops = "DROP TRIGGER audit_is_never_altered; DROP TRIGGER audit_is_never_shortened;";
    let bench = bench.by_hand(&format!("{drops} {sql}"));
    let check = bench.store.audit_check().await.unwrap();
    assert!(!check.intact);
    check.broken.unwrap()
}

#[tokio::test]
async fn every_decision_is_in_the_trail_and_the_trail_is_intact() {
    let (bench, id) = closed_one().await;
    let note = bench.store.audit_note(&Actor::Manager, "daemon-started", None, Some(id), "pid 1".into());
    note.await.unwrap();
    let expected = [
        "guest-added",
        "request-accepted",
        "request-offered",
        "receipt-stored",
        "request-accepted",
        "daemon-started",
    ];
    assert_eq!(bench.events().await, expected);
    let bench = bench.restart();
    bench.accept(plain()).await;
    let check = bench.store.audit_check().await.unwrap();
    assert_eq!((check.intact, check.records, check.broken), (true, 7, None));
    let last = bench.store.audit_records(6, 10).await.unwrap();
    assert_eq!((last.len(), &last[0].hash), (1, &check.head));
    assert_eq!(bench.store.audit_records(2, 3).await.unwrap().len(), 3);
    assert!(bench.store.audit_records(u64::MAX, 3).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_data_base_itself_refuses_to_alter_or_shorten_the_trail() {
    let (bench, _) = closed_one().await;
    let conn = Connection::open(bench.dir.path().join("state/doorbell.sqlite")).unwrap();
    for sql in ["UPDATE audit SET detail = ''", "DELETE FROM audit WHERE number = 1"] {
        let error = conn.execute(sql, []).unwrap_err();
        assert!(error.to_string().contains("the audit trail is only added to"), "{error}");
    }
}

#[tokio::test]
async fn an_altered_record_is_found() {
    let (bench, _) = closed_one().await;
    let line = forced(bench, "UPDATE audit SET actor = 'uid 1000' WHERE number = 2").await;
    assert!(line.starts_with("record 2 was altered"), "{line}");
}

#[tokio::test]
async fn a_deleted_record_is_found() {
    let (bench, _) = closed_one().await;
    let line = forced(bench, "DELETE FROM audit WHERE number = 2").await;
    assert_eq!(line, "record 3 stands where record 2 belongs");
}

#[tokio::test]
async fn a_cut_tail_is_found_and_stays_found_when_the_trail_goes_on() {
    let (bench, _) = closed_one().await;
    let drops = "DROP TRIGGER audit_is_never_shortened; DELETE FROM audit WHERE number = 5;";
    let bench = bench.by_hand(drops);
    let line = bench.store.audit_check().await.unwrap().broken.unwrap();
    assert!(line.starts_with("the trail ends at record 4 "), "{line}");
    bench.accept(plain()).await;
    let line = bench.store.audit_check().await.unwrap().broken.unwrap();
    assert_eq!(line, "record 6 stands where record 5 belongs");
}

#[tokio::test]
async fn an_altered_receipt_is_found() {
    let (bench, id) = closed_one().await;
    let sql = "UPDATE receipts SET receipt = json_set(receipt, '$.exit_code', 3)";
    let line = forced(bench, sql).await;
    assert_eq!(line, format!("the receipt of request {id} is not the one that its audit record seals"));
}

#[tokio::test]
async fn a_deleted_receipt_is_found() {
    let (bench, id) = closed_one().await;
    let line = forced(bench, "DELETE FROM receipts").await;
    assert_eq!(line, format!("request {id} has a final state and no receipt"));
}

#[tokio::test]
async fn a_cause_is_kept_in_every_record_that_it_leads_to_and_in_no_other() {
    let bench = Bench::new().await;
    let cause = Cause::told(Some("the disk is full"), Some("OPS-7")).unwrap();
    let asked = AcceptRequest { reason: cause.reason.clone(), ticket: cause.ticket.clone(), ..plain() };
    let id = bench.accept(asked).await.id;
    bench.accept(plain()).await;
    bench.store.because(&cause).remove_guest(&ROOT, &name("web-3")).await.unwrap();
    let told = |record: &doorbell_api::audit::AuditRecord| {
        (record.event.clone(), record.reason.is_some(), record.ticket.is_some())
    };
    let records = bench.store.audit_records(0, 100).await.unwrap();
    let expected = [
        ("guest-added", false),
        ("request-accepted", true),
        ("request-accepted", false),
        ("guest-removed", true),
        ("request-undeliverable", true),
        ("request-undeliverable", true),
    ];
    let mut found: Vec<_> = records.iter().map(told).collect();
    found[3..].sort();
    assert_eq!(found, expected.map(|(event, has)| (event.to_owned(), has, has)));
    let row = bench.store.request(id).await.unwrap().to_api();
    assert_eq!((row.reason.as_deref(), row.ticket.as_deref()), (Some("the disk is full"), Some("OPS-7")));
    let line = forced(bench, "UPDATE audit SET ticket = 'OPS-8' WHERE number = 2").await;
    assert!(line.starts_with("record 2 was altered"), "{line}");
}

#[tokio::test]
async fn a_trail_of_each_form_before_is_taken_over_whole() {
    let to_form_7 = "DROP TABLE rejected_keys; DROP TABLE enrolments;
         ALTER TABLE guests DROP COLUMN trust_first_key; PRAGMA user_version = 7;";
    let to_form_5 = "DROP TABLE audit_owners; DROP TABLE holdings; DROP TABLE principals;
         DROP INDEX guests_tenant; DROP INDEX requests_tenant; ALTER TABLE guests DROP COLUMN tenant;
         ALTER TABLE requests DROP COLUMN tenant; ALTER TABLE ended DROP COLUMN tenant; DROP TABLE tenants;
         PRAGMA user_version = 5;";
    let to_form_4 = "ALTER TABLE requests DROP COLUMN signed; PRAGMA user_version = 4;";
    let to_form_3 = "ALTER TABLE requests DROP COLUMN ticket; ALTER TABLE audit DROP COLUMN reason;
         ALTER TABLE audit DROP COLUMN ticket; DROP TABLE audit_signed; PRAGMA user_version = 3;";
    let to_form_6 = to_form_6();
    let steps = [to_form_7, &*to_form_6, to_form_5, to_form_4, to_form_3];
    for back in (1..=steps.len()).map(|count| steps[..count].concat()) {
        let (bench, _) = closed_one().await;
        let before = bench.store.audit_records(0, 100).await.unwrap();
        let bench = bench.by_hand(&back);
        assert_eq!(bench.store.audit_records(0, 100).await.unwrap(), before);
        let ticket = Some("OPS-7".parse().unwrap());
        bench.accept(AcceptRequest { ticket, ..plain() }).await;
        let check = bench.store.audit_check().await.unwrap();
        assert_eq!((check.intact, check.records), (true, before.len() as u64 + 1));
    }
}

/// The table of requests as the forms before had it, with the rows that are there.
fn to_form_6() -> String {
    let between = |text: &'static str, from: &str, to: &str| {
        let begun = text.split_once(from).unwrap().1;
        begun.split_once(to).unwrap().0
    };
    let schema = include_str!("../schema.sql");
    let table = between(schema, "CREATE TABLE requests (", ") STRICT;");
    let indexes = between(schema, table, "-- Requests that retention removed");
    let columns =
        between(include_str!("../approvals.sql"), "INSERT INTO requests_of_this_form (", ")\nSELECT");
    format!(
        "PRAGMA foreign_keys = OFF; CREATE TABLE before ({table}) STRICT;
         ALTER TABLE before ADD COLUMN tenant TEXT REFERENCES tenants (name);
         INSERT INTO before ({columns}) SELECT {columns} FROM requests;
         DROP TABLE requests; ALTER TABLE before RENAME TO requests; {}
         CREATE INDEX requests_tenant ON requests (tenant, number); PRAGMA user_version = 6;",
        indexes.strip_prefix(") STRICT;").unwrap()
    )
}
