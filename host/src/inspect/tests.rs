//! A trail in a real data base, and every hand that can be laid on it: each is found, and told by a line of its own.

use super::*;
use crate::actor::Actor;
use crate::cause::Cause;
use crate::config::Config;
use crate::store::Store;
use doorbell_trail::export::{End, line};
use doorbell_wire::ids::RequestId;
use rusqlite::Connection;

/// A state directory whose trail has records with every field, its head signed.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    async fn new(records: u64) -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        place.go_on(records, "a note").await;
        place
    }

    fn state(&self) -> std::path::PathBuf {
        self.dir.path().join("state")
    }

    /// A manager writes, signs and stops.
    async fn go_on(&self, records: u64, detail: &str) {
        let store = Store::open(&Config { state_dir: self.state(), ..Config::default() }).unwrap();
        let signer = Signer::open(&self.state()).unwrap();
        let told = store.because(&Cause::told(Some("a patch"), Some("OPS-7")).unwrap());
        for number in 0..records {
            let (guest, request) = ("web-3".parse().unwrap(), RequestId::new([5; 16]));
            let detail = format!("{detail} {number}");
            told.audit_note(&Actor::own(), "noted", Some(&guest), Some(request), detail).await.unwrap();
        }
        store.sign_head(&signer).await.unwrap();
    }

    /// What an operator has kept: an export up to now, or the head alone.
    fn kept(&self, alone: bool) -> String {
        let signer = Signer::read(&self.state()).unwrap().unwrap();
        let (mut lines, mut head) = (String::new(), doorbell_trail::chain::Head::default());
        each_record(&self.state(), |record| {
            lines += &line(record).unwrap();
            head = doorbell_trail::chain::Head { number: record.number, hash: hash_of(record) };
        })
        .unwrap();
        let head = signer.sign(head);
        if alone {
            doorbell_trail::head::word(&head)
        } else {
            lines + &line(&End { since: 0, head }).unwrap()
        }
    }

    fn by_hand(&self, sql: &str) {
        let drops =
            "DROP TRIGGER IF EXISTS audit_is_never_altered; DROP TRIGGER IF EXISTS audit_is_never_shortened;";
        let conn = Connection::open(self.state().join("doorbell.sqlite")).unwrap();
        conn.execute_batch(&format!("{drops} {sql}")).unwrap();
    }

    fn copy(&self) -> Self {
        let copy = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(copy.state()).unwrap();
        // With the log beside the data base, which may not be written back.
        for entry in self.state().read_dir().unwrap().map(Result::unwrap) {
            if entry.path().is_file() {
                std::fs::copy(entry.path(), copy.state().join(entry.file_name())).unwrap();
            }
        }
        std::fs::set_permissions(copy.state(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        copy
    }

    fn line(&self, kept: Option<&str>) -> Option<String> {
        let check = trail(&self.state(), kept.map(str::as_bytes)).unwrap();
        assert_eq!(check.intact, check.broken.is_none());
        check.broken
    }
}

#[tokio::test]
async fn a_trail_that_nobody_touched_is_whole_by_itself_and_beside_what_was_kept() {
    let place = Place::new(4).await;
    let kept = [place.kept(false), place.kept(true)];
    assert_eq!(place.line(None), None);
    place.go_on(3, "later").await;
    for kept in kept {
        assert_eq!(place.line(Some(&kept)), None);
    }
    assert_eq!(trail(&place.state(), None::<&[u8]>).unwrap().records, 7);
}

#[tokio::test]
async fn a_change_of_any_field_of_a_record_is_found() {
    let text = |column: &str| format!("{column} = replace({column}, substr({column}, 1, 1), 'X')");
    let bytes = |column: &str| format!("{column} = unhex('00' || substr(hex({column}), 3))");
    let mut changes: Vec<String> =
        ["actor", "event", "guest", "request", "detail", "reason", "ticket"].map(text).into();
    changes.extend(["previous", "hash"].map(bytes));
    changes.extend(["guest", "request", "reason", "ticket"].map(|column| format!("{column} = NULL")));
    changes.extend(["at_ms = at_ms + 1", "number = 9"].map(str::to_owned));
    let place = Place::new(4).await;
    for change in changes {
        let copy = place.copy();
        copy.by_hand(&format!("UPDATE audit SET {change} WHERE number = 2"));
        let line = copy.line(None);
        let wrong = line
            .as_deref()
            .is_some_and(|line| line.starts_with("record 2 ") || line.starts_with("record 3 "));
        assert!(wrong, "{change}: {line:?}");
    }
}

#[tokio::test]
async fn a_record_that_is_gone_is_found_wherever_it_was() {
    let place = Place::new(4).await;
    for number in 1..=4 {
        let copy = place.copy();
        copy.by_hand(&format!("DELETE FROM audit WHERE number = {number}"));
        assert!(copy.line(None).is_some(), "record {number}");
    }
}

#[tokio::test]
async fn a_cut_tail_is_found_though_the_data_base_was_told_of_no_more() {
    let place = Place::new(4).await;
    let kept = place.kept(true);
    place.by_hand("DELETE FROM audit WHERE number > 2");
    let line = place.line(None).unwrap();
    assert!(
        line.starts_with("the trail ends at record 2 ") && line.contains("its tail was cut off"),
        "{line}"
    );
    place.by_hand("UPDATE audit_head SET number = 2, hash = (SELECT hash FROM audit WHERE number = 2)");
    let line = place.line(None).unwrap();
    assert_eq!(line, "the trail ends at record 2, its own head was signed at record 4: its tail was cut off");
    // Who takes the signature away as well has rolled the trail back, which what was kept shows.
    place.by_hand("DELETE FROM audit_signed");
    assert_eq!(place.line(None), None);
    assert!(
        place.line(Some(&kept)).unwrap().starts_with("the trail was rolled back: it ends whole at record 2,")
    );
}

#[tokio::test]
async fn a_trail_that_was_written_anew_is_not_the_one_that_was_signed() {
    let place = Place::new(4).await;
    let kept = place.kept(false);
    place.by_hand(
        "CREATE TABLE aside AS SELECT * FROM audit_signed; DELETE FROM audit; DELETE FROM audit_signed;
         UPDATE audit_head SET number = 0, hash = zeroblob(32);",
    );
    place.go_on(5, "another note").await;
    let line = place.line(Some(&kept)).unwrap();
    assert!(line.starts_with("the trail was forked: its record 1 is not the one that was kept"), "{line}");
    place.by_hand("DELETE FROM audit_signed; INSERT INTO audit_signed SELECT * FROM aside");
    let line = place.line(None).unwrap();
    assert_eq!(line, "record 4 is not the one whose hash was signed: the trail was written anew");
    place.by_hand("UPDATE audit_signed SET at_ms = at_ms + 1");
    assert_eq!(place.line(None).unwrap(), "the signature of head 4 is not valid: it was altered");
}

#[tokio::test]
async fn a_directory_that_was_put_back_and_one_that_went_on_from_there_are_told_apart() {
    let place = Place::new(4).await;
    let copy = place.copy();
    place.go_on(2, "later").await;
    let kept = [place.kept(false), place.kept(true)];
    for kept in &kept {
        assert_eq!(copy.line(None), None);
        let line = copy.line(Some(kept)).unwrap();
        assert_eq!(
            line,
            "the trail was rolled back: it ends whole at record 4, what was kept of it goes on to record 6"
        );
    }
    copy.go_on(3, "other").await;
    let line = copy.line(Some(&kept[0])).unwrap();
    assert_eq!(
        line,
        "the trail was forked: its record 5 is not the one that was kept; up to record 4 they are the same"
    );
    let line = copy.line(Some(&kept[1])).unwrap();
    assert!(line.starts_with("the trail was forked: its record 6 is not the one that was kept"), "{line}");
}

#[tokio::test]
async fn what_another_managers_key_signed_is_refused() {
    let (place, other) = (Place::new(4).await, Place::new(4).await);
    let line = place.line(Some(&other.kept(true))).unwrap();
    assert!(line.starts_with("what was kept is signed by another key, SHA256:"), "{line}");
    let line = place.line(Some("no head at all")).unwrap();
    assert!(line.starts_with("what was kept shows nothing: "), "{line}");
    std::fs::remove_file(place.state().join("audit.key")).unwrap();
    let error = trail(&place.state(), Some(other.kept(true).as_bytes())).unwrap_err();
    assert!(error.to_string().contains("has no key"), "{error}");
}

#[tokio::test]
async fn a_head_is_signed_when_the_trail_has_gone_on_and_not_again() {
    let place = Place::new(2).await;
    let store = Store::open(&Config { state_dir: place.state(), ..Config::default() }).unwrap();
    let signer = Signer::open(&place.state()).unwrap();
    assert_eq!(store.sign_head(&signer).await.unwrap(), None);
    store.audit_note(&Actor::Manager, "noted", None, None, String::new()).await.unwrap();
    let signed = store.sign_head(&signer).await.unwrap().unwrap();
    assert_eq!((signed.number, signed.key.as_str()), (3, signer.public().as_str()));
    assert_eq!(doorbell_trail::head::open(&signed).unwrap(), store.audit_head().await.unwrap());
}
