//! The directories: made for each guest, closed by default, and never another guest's.

use super::*;
use crate::actor::Actor;

#[tokio::test]
async fn a_guest_has_its_directories_when_it_is_added_and_nobody_else_can_enter_them() {
    let bench = Bench::new().await;
    let spool = bench.dir.path().join("spool");
    assert_eq!((mode(&spool), mode(&bench.home())), (0o711, 0o711));
    for room in ["inbox", "outbox", "work"] {
        assert_eq!(mode(&bench.home().join(room)), 0o700, "{room}");
    }
    // What the operator has opened stays open.
    chmod(&bench.home().join("inbox"), 0o1770);
    let bench = bench.restarted();
    let _ = bench.owner();
    assert_eq!(mode(&bench.home().join("inbox")), 0o1770);
}

#[tokio::test]
async fn a_spool_that_others_may_write_or_another_manager_has_is_refused() {
    let bench = Bench::new().await;
    let dir = bench.dir.path().join("spool");
    let other = bench.dir.path().join("other");
    let second = Config { spool_dir: Some(dir.clone()), ..config(&other) };
    let error = Manager::open(second, String::new()).unwrap_err();
    assert!(error.to_string().contains("is in use by another doorbelld"), "{error}");
    chmod(&dir, 0o777);
    drop(bench.manager);
    let error = Manager::open(config(bench.dir.path()), String::new()).unwrap_err();
    assert!(error.to_string().contains("mode 0777"), "{error}");
    chmod(&dir, 0o711);
    chmod(&dir.join("web-3"), 0o777);
    let manager = Manager::open(config(bench.dir.path()), String::new()).unwrap();
    let error = Spool::make(&manager, &bench.guest).await.unwrap_err();
    assert!(error.to_string().contains("mode 0777"), "{error}");
}

#[tokio::test]
async fn a_directory_that_is_a_link_is_not_followed() {
    let bench = Bench::new().await;
    let elsewhere = bench.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::remove_dir(bench.home().join("inbox")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, bench.home().join("inbox")).unwrap();
    let Some(spool) = &bench.manager.spool else { panic!("no spool") };
    let error = spool.rooms(&bench.guest.name, bench.guest.id).unwrap_err();
    assert!(error.to_string().contains("the directory inbox"), "{error}");
}

/// Whoever could write into the spool of a removed guest has no rights in that of a new one.
#[tokio::test]
async fn a_new_guest_with_an_old_name_has_new_directories() {
    let mut bench = Bench::new().await;
    bench.put("late", SCRIPT);
    chmod(&bench.home().join("inbox"), 0o777);
    let by = Actor::Manager;
    bench.manager.store.remove_guest(&by, &bench.guest.name).await.unwrap();
    let fresh = add(&bench.manager, "web-3", 8).await;
    assert_ne!(fresh.id, bench.guest.id);
    assert_eq!(mode(&bench.home().join("inbox")), 0o700);
    assert!(bench.names("inbox").is_empty());
    let aside = format!(".removed-web-3-{}", bench.guest.id);
    assert!(bench.dir.path().join("spool").join(aside).join("inbox/late").exists(), "nothing is lost");
}

#[tokio::test]
async fn a_removed_guest_gets_its_last_receipts_and_leaves_nothing_that_is_empty() {
    let mut bench = Bench::new().await;
    add(&bench.manager, "web-4", 8).await;
    bench.put("fix", SCRIPT);
    bench.pass().await;
    let web4 = "web-4".parse().unwrap();
    for name in [&bench.guest.name, &web4] {
        bench.manager.store.remove_guest(&Actor::Manager, name).await.unwrap();
    }
    let mut task = Task {
        manager: Arc::clone(&bench.manager),
        spool: bench.manager.spool.clone().unwrap(),
        watch: None,
        guests: BTreeMap::new(),
        due: BTreeSet::new(),
        unsettled: BTreeSet::new(),
        all_at: Instant::now(),
        look_at: Instant::now(),
    };
    task.refresh().await.unwrap();
    let aside = format!(".removed-web-3-{}", bench.guest.id);
    let spool = bench.dir.path().join("spool");
    assert_eq!(names(&spool), [aside.as_str()]);
    let receipt = fs::read(spool.join(aside).join("outbox/fix.receipt.json")).unwrap();
    let receipt: Value = serde_json::from_slice(&receipt).unwrap();
    assert_eq!(receipt["state"], "undeliverable");
}
