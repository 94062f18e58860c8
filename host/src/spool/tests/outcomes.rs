//! The receipt of what was taken appears in the outbox, whole, once it is there, and stays until it is removed.

use super::*;
use doorbell_wire::message::Stream;

#[tokio::test]
async fn a_receipt_appears_with_the_output_and_the_receipt_is_the_last_to_come() {
    let mut bench = Bench::new().await;
    bench.put("fix.run", SCRIPT);
    bench.pass().await;
    assert!(!bench.deliver().await.unwrap() && bench.names("outbox").is_empty());
    let requests = bench.requests().await;
    let max = 1 << 20;
    bench.manager.outputs.append(requests[0].id, Stream::Stdout, 0, b"hello\n".to_vec(), max).await.unwrap();
    bench.end(&requests[0]).await;
    bench.deliver().await.unwrap();
    assert_eq!(bench.names("outbox"), ["fix.receipt.json", "fix.stderr", "fix.stdout"]);
    assert_eq!(fs::read(bench.outbox("fix.stdout")).unwrap(), b"hello\n");
    assert_eq!(fs::read(bench.outbox("fix.stderr")).unwrap(), b"");
    let receipt: doorbell_api::request::Request =
        serde_json::from_slice(&fs::read(bench.outbox("fix.receipt.json")).unwrap()).unwrap();
    assert_eq!((receipt.id, receipt.state), (requests[0].id.to_string(), State::Succeeded));
    assert!(receipt.receipt.is_some());
    assert_eq!(mode(&bench.outbox("fix.receipt.json")), 0o640);
    // It is put out once: what its owner removes stays away.
    fs::remove_file(bench.outbox("fix.receipt.json")).unwrap();
    let mut bench = bench.restarted();
    bench.deliver().await.unwrap();
    bench.pass().await;
    assert_eq!(bench.names("outbox"), ["fix.stderr", "fix.stdout"]);
}

#[tokio::test]
async fn a_receipt_that_came_while_the_manager_was_away_appears_after_its_restart() {
    let mut bench = Bench::new().await;
    bench.put("fix", SCRIPT);
    bench.pass().await;
    let requests = bench.requests().await;
    bench.end(&requests[0]).await;
    let bench = bench.restarted();
    bench.deliver().await.unwrap();
    assert_eq!(bench.names("outbox").len(), 3);
}

#[tokio::test]
async fn a_name_that_is_used_again_leaves_what_lies_there() {
    let mut bench = Bench::new().await;
    for name in ["fix", "fix.run", "fix.json", "fix"] {
        let request = r#"{"action": {"type": "run", "command": "true"}}"#;
        bench.put(name, if name == "fix.json" { request } else { SCRIPT });
        bench.pass().await;
    }
    for request in bench.requests().await {
        bench.end(&request).await;
    }
    bench.deliver().await.unwrap();
    let receipts = |bench: &Bench| -> Vec<String> {
        bench.names("outbox").into_iter().filter(|name| name.ends_with(".receipt.json")).collect()
    };
    let expected = ["fix.2.receipt.json", "fix.3.receipt.json", "fix.4.receipt.json", "fix.receipt.json"];
    assert_eq!(receipts(&bench), expected);
    // A name that is free is used again.
    for end in ["receipt.json", "stdout", "stderr"] {
        fs::remove_file(bench.outbox(&format!("fix.{end}"))).unwrap();
    }
    bench.put("fix", SCRIPT);
    bench.pass().await;
    bench.end(bench.requests().await.last().unwrap()).await;
    bench.deliver().await.unwrap();
    assert_eq!(receipts(&bench), expected);
}

#[tokio::test]
async fn what_others_put_into_an_outbox_is_never_followed() {
    let mut bench = Bench::new().await;
    let victim = bench.dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    for name in ["fix.stdout", "fix.stderr", "fix.receipt.json", "out.fix.stdout"] {
        std::os::unix::fs::symlink(&victim, bench.outbox(name)).unwrap();
    }
    fs::create_dir(bench.outbox("fix.2.stdout")).unwrap();
    bench.put("fix", SCRIPT);
    bench.pass().await;
    // Links that come later are as harmless.
    std::os::unix::fs::symlink(&victim, bench.outbox("fix.3.receipt.json")).unwrap();
    bench.end(&bench.requests().await[0]).await;
    bench.deliver().await.unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert!(fs::symlink_metadata(bench.outbox("fix.3.receipt.json")).unwrap().is_file());
}

#[tokio::test]
async fn a_full_outbox_gets_its_receipts_when_there_is_room() {
    let mut bench = Bench::new().await;
    bench.put("fix", SCRIPT);
    bench.pass().await;
    bench.end(&bench.requests().await[0]).await;
    for number in 0..8_192 {
        fs::File::create(bench.outbox(&format!("old{number}"))).unwrap();
    }
    assert!(bench.deliver().await.unwrap_err().contains("are allowed"));
    fs::remove_file(bench.outbox("old7")).unwrap();
    assert!(!bench.deliver().await.unwrap());
    assert!(bench.outbox("fix.receipt.json").exists());
}
