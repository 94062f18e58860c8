//! What is whole becomes a request, once; what is not whole is left alone.

use super::*;
use crate::spool::entry::SETTLED_IN;
use doorbell_api::request::{Action, ProgramRef};
use nix::unistd::Uid;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Instant;

fn program_of(row: &RequestRow) -> ProgramRef {
    let Action::Run(run) = &row.shown else { panic!("{:?}", row.shown) };
    run.program.clone().unwrap()
}

#[tokio::test]
async fn a_program_that_is_moved_in_is_a_request_of_the_files_owner() {
    let mut bench = Bench::new().await;
    bench.put("fix.run", SCRIPT);
    assert_eq!(bench.pass().await, Pass::default());
    let [request] = &bench.requests().await[..] else { panic!("not one request") };
    let uid = Uid::effective();
    assert!(request.asked_by.starts_with(&format!("uid {uid}")), "{}", request.asked_by);
    assert!(request.asked_by.ends_with(" by spool"), "{}", request.asked_by);
    let Action::Run(run) = &request.shown else { panic!("{:?}", request.shown) };
    let program = run.program.as_ref().unwrap();
    assert_eq!((program.name.as_str(), run.args.len()), ("fix.run", 0));
    let kept = bench.manager.programs.read(program.digest.parse().unwrap(), 0, 99).await.unwrap();
    assert_eq!(kept, SCRIPT.as_bytes());
    assert!(bench.names("inbox").is_empty() && bench.names("work").is_empty());
    // The same bytes again are another request.
    bench.put("fix.run", SCRIPT);
    bench.pass().await;
    assert_eq!(bench.requests().await.len(), 2);
}

#[tokio::test]
async fn a_request_file_is_taken_as_the_api_takes_it_with_the_program_beside_it() {
    let mut bench = Bench::new().await;
    bench.put("down.json", r#"{"action": {"type": "link-down", "link": "eth0"}, "reason": "it floods"}"#);
    bench.put("tool.program", SCRIPT);
    bench.put(
        "use.json",
        r#"{"action": {"type": "run", "args": ["-v"], "program": {"file": "tool.program"}}, "urgent": true}"#,
    );
    bench.pass().await;
    let [down, using] = &bench.requests().await[..] else { panic!("not two requests") };
    assert_eq!(down.reason.as_ref().unwrap().as_str(), "it floods");
    let Action::Run(run) = &using.shown else { panic!("{:?}", using.shown) };
    assert_eq!(
        (run.args.as_slice(), run.program.as_ref().unwrap().name.as_str()),
        (&["-v".to_owned()][..], "tool.program")
    );
    assert!(using.urgent);
    assert_eq!(bench.names("inbox"), ["tool.program"], "what others may name stays");
    // By digest, of a program that the manager has.
    let digest = &run.program.as_ref().unwrap().digest;
    bench.put(
        "again.json",
        format!(r#"{{"action": {{"type": "run", "program": {{"digest": "{digest}", "name": "t"}}}}}}"#),
    );
    bench.pass().await;
    assert_eq!(bench.requests().await.len(), 3);
}

#[tokio::test]
async fn requests_are_taken_in_the_order_in_which_their_files_came() {
    let mut bench = Bench::new().await;
    for name in ["c", "a", "b"] {
        bench.put(name, SCRIPT);
        // Times of files are as coarse as the kernel's tick.
        std::thread::sleep(Duration::from_millis(20));
    }
    bench.pass().await;
    let name = |row: &RequestRow| program_of(row).name;
    assert_eq!(bench.requests().await.iter().map(name).collect::<Vec<_>>(), ["c", "a", "b"]);
}

#[tokio::test]
async fn a_file_that_is_open_for_writing_is_not_taken_even_when_it_was_moved_in() {
    let mut bench = Bench::new().await;
    bench.put("fix", "#!/bin/sh\n");
    let mut writer = OpenOptions::new().append(true).open(bench.inbox("fix")).unwrap();
    for _ in 0..3 {
        bench.moved_in("fix");
        bench.pass().await;
        writer.write_all(b"echo more\n").unwrap();
    }
    assert!(bench.requests().await.is_empty());
    drop(writer);
    bench.moved_in("fix");
    bench.pass().await;
    let [request] = &bench.requests().await[..] else { panic!("not one request") };
    let digest = program_of(request).digest.parse().unwrap();
    assert_eq!(bench.manager.programs.len(digest).await, Some(40), "it was not whole");
}

/// `printf a >f; printf b >>f`: it is closed in between.
#[tokio::test]
async fn a_file_that_is_written_in_place_is_taken_when_it_was_left_alone_for_a_while() {
    let mut bench = Bench::new().await;
    let begun = Instant::now();
    let append = |bench: &Bench| {
        let mut writer = OpenOptions::new().append(true).create(true).open(bench.inbox("fix")).unwrap();
        writer.write_all(b"#!/bin/sh\n").unwrap();
    };
    append(&bench);
    assert!(bench.pass().await.unsettled);
    while begun.elapsed() < SETTLED_IN * 2 {
        append(&bench);
        assert!(bench.pass().await.unsettled, "it was taken while it grew");
        tokio::time::sleep(SETTLED_IN / 10).await;
    }
    let left = Instant::now();
    while bench.pass().await.unsettled {
        tokio::time::sleep(SETTLED_IN / 10).await;
    }
    assert!(left.elapsed() >= SETTLED_IN / 2, "it was hardly left alone");
    assert_eq!(bench.requests().await.len(), 1);
}

#[tokio::test]
async fn hidden_and_unfinished_files_lie_as_long_as_they_like() {
    let mut bench = Bench::new().await;
    for name in [".fix", "fix.part", "fix.tmp", "fix~", "fix.program"] {
        bench.put(name, SCRIPT);
    }
    assert_eq!(bench.pass().await, Pass::default());
    assert_eq!(bench.names("inbox").len(), 5);
    assert!(bench.names("outbox").is_empty() && bench.requests().await.is_empty());
    fs::rename(bench.inbox("fix.part"), bench.inbox("fix")).unwrap();
    bench.moved_in("fix");
    bench.pass().await;
    assert_eq!(bench.requests().await.len(), 1);
}

#[tokio::test]
async fn what_lies_behind_256_open_requests_waits_in_the_inbox() {
    let mut bench = Bench::new().await;
    for number in 0..260 {
        bench.put(&format!("n{number:03}"), format!("#!/bin/sh\nexit {}\n", number % 100));
    }
    while bench.pass().await.more {}
    assert_eq!((bench.requests().await.len(), bench.names("inbox").len()), (256, 4));
    let requests = bench.requests().await;
    for request in &requests[..4] {
        bench.end(request).await;
    }
    for name in bench.names("inbox") {
        bench.moved_in(&name);
    }
    bench.pass().await;
    assert_eq!((bench.requests().await.len(), bench.names("inbox").len()), (260, 0));
}

/// The whole task, with nobody to tell it anything but the kernel.
#[tokio::test]
async fn two_hundred_files_at_once_are_two_hundred_requests() {
    let bench = Bench::new().await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let task = tokio::spawn(serve(Arc::clone(&bench.manager), stopped));
    let fresh = bench.dir.path().join("many");
    fs::create_dir(&fresh).unwrap();
    for number in 0..200 {
        fs::write(fresh.join(format!("n{number}")), format!("#!/bin/sh\nexit {number}\n")).unwrap();
    }
    for number in 0..200 {
        let name = format!("n{number}");
        fs::rename(fresh.join(&name), bench.inbox(&name)).unwrap();
    }
    let mut moved = bench.manager.events.subscribe();
    while !bench.names("inbox").is_empty() {
        tokio::time::timeout(Duration::from_secs(60), moved.recv()).await.unwrap().unwrap();
        tokio::task::yield_now().await;
        if bench.requests().await.len() == 200 {
            break;
        }
    }
    let requests = bench.requests().await;
    let digests: BTreeSet<String> = requests.iter().map(|row| program_of(row).digest).collect();
    assert_eq!((requests.len(), digests.len()), (200, 200));
    stop.send(true).unwrap();
    task.await.unwrap();
}
