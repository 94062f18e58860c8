//! Fetches from real servers on loopback, with names that resolve as a test wants them to.

use super::dial::Names;
use super::fetcher::{Arrived, Fetcher, Try};
use super::{Errand, LEN_MAX};
use crate::config::Fetch;
use crate::programs::Programs;
use doorbell_wire::ids::Digest;
use futures_util::future::BoxFuture;
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

const BYTES: &[u8] = b"#!/bin/sh\necho fixed\n";

/// What a server does with one request.
#[derive(Clone, Debug)]
enum Does {
    /// Writes this and closes.
    Says(Vec<u8>),
    /// Writes this and stays silent.
    Stalls(Vec<u8>),
    /// Writes this, then zeros for ever.
    Floods(Vec<u8>),
}

/// A server that does one thing after the other, whoever asks for what, and remembers what it was asked.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn of(does: Vec<Does>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (log, mut queue) = (Arc::clone(&asked), VecDeque::from(does));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Some(does) = queue.pop_front() else { continue };
                tokio::spawn(answer(stream, does, Arc::clone(&log)));
            }
        });
        Self { address, asked }
    }

    fn url(&self, host: &str) -> String {
        format!("http://{host}:{}/x/fix.sh", self.address.port())
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(stream: TcpStream, does: Does, log: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    log.lock().unwrap().push(head);
    match does {
        Does::Says(bytes) => drop(stream.write_all(&bytes).await),
        Does::Stalls(bytes) => {
            let _ = stream.write_all(&bytes).await;
            std::future::pending().await
        }
        Does::Floods(bytes) => {
            let _ = stream.write_all(&bytes).await;
            while stream.write_all(&[0; 65536]).await.is_ok() {}
        }
    }
}

fn ok(bytes: &[u8]) -> Does {
    Does::Says(whole(&format!("content-length: {}\r\n", bytes.len()), bytes))
}

fn whole(head: &str, bytes: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\n{head}\r\n").as_bytes(), bytes].concat()
}

fn status(status: &str) -> Does {
    Does::Says(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").into_bytes())
}

fn sends_on(to: &str) -> Does {
    Does::Says(format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes())
}

/// Names with their addresses, one answer after the other; the last one stays.
#[derive(Debug, Default)]
struct Fixed(Mutex<HashMap<String, VecDeque<Vec<&'static str>>>>, Mutex<u32>);

impl Fixed {
    fn of(names: &[(&str, &[&[&'static str]])]) -> Arc<Self> {
        let answers = names.iter().map(|(name, answers)| {
            ((*name).to_owned(), answers.iter().map(|answer| answer.to_vec()).collect())
        });
        Arc::new(Self(Mutex::new(answers.collect()), Mutex::default()))
    }

    fn count(&self) -> u32 {
        *self.1.lock().unwrap()
    }
}

impl Names for Fixed {
    fn addresses(&self, name: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        *self.1.lock().unwrap() += 1;
        let mut names = self.0.lock().unwrap();
        let found = names
            .get_mut(&name)
            .map(|answers| if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() });
        let found = found.ok_or_else(|| io::Error::other("no such name"));
        Box::pin(async move {
            Ok(found?.iter().map(|text| SocketAddr::new(text.parse().unwrap(), port)).collect())
        })
    }
}

struct Bench {
    _dir: tempfile::TempDir,
    programs: Programs,
    fetch: Fetch,
    names: Arc<Fixed>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let programs = Programs::open(dir.path()).unwrap();
        let fetch = Fetch {
            allow_http: true,
            networks: vec!["127.0.0.1/32".parse().unwrap()],
            attempts: NonZeroU32::MIN,
            connect_ms: 2_000,
            stall_ms: 200,
            whole_ms: 5_000,
            ..Fetch::default()
        };
        Self { _dir: dir, programs, fetch, names: Fixed::of(&[]) }
    }

    async fn run(&self, url: &str, bytes: &[u8]) -> Result<Arrived, String> {
        let fetcher = Fetcher::new(self.fetch.clone(), self.programs.clone()).with_names(self.names.clone());
        let errand = Errand { digest: digest(bytes), url: url.to_owned(), tenant: None };
        fetcher.run(&errand, &Semaphore::new(1), |_: Try<'_>| {}).await
    }

    async fn fails(&self, url: &str, part: &str) -> String {
        let text = self.run(url, BYTES).await.expect_err(url);
        assert!(text.contains(part), "{part:?} is not in {text:?}");
        assert_eq!(self.programs.len(digest(BYTES)).await, None, "{text}");
        text
    }
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}

#[tokio::test]
async fn a_program_is_fetched_once_and_named_by_its_content() {
    let bench = Bench::new();
    let server = Server::of(vec![ok(BYTES)]).await;
    let url = server.url("127.0.0.1");
    let arrived = bench.run(&format!("{url}?token=s3cret"), BYTES).await.unwrap();
    assert_eq!(arrived.len, BYTES.len() as u64);
    assert_eq!(arrived.how, format!("21 bytes from {url}?… ({})", server.address));
    assert_eq!(bench.programs.read(digest(BYTES), 0, 99).await.unwrap(), BYTES);
    let again = bench.run(&url, BYTES).await.unwrap();
    assert_eq!(again.how, "21 bytes, which were there");
    let asked = server.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    let head = asked[0].to_ascii_lowercase();
    assert!(head.starts_with("get /x/fix.sh?token=s3cret http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nhost: {}\r\n", server.address)), "{head}");
    assert!(head.contains("\r\naccept-encoding: identity\r\n"), "{head}");
}

#[tokio::test]
async fn a_name_is_resolved_once_and_what_was_checked_is_dialled() {
    let mut bench = Bench::new();
    let server = Server::of(vec![ok(BYTES)]).await;
    // Whoever asks a second time is led to the metadata service.
    bench.names = Fixed::of(&[("a.example", &[&["127.0.0.1"], &["169.254.169.254"]])]);
    let arrived = bench.run(&server.url("a.example"), BYTES).await.unwrap();
    assert!(arrived.how.ends_with(&format!("({})", server.address)), "{}", arrived.how);
    assert_eq!(bench.names.count(), 1);
}

#[tokio::test]
async fn a_name_with_a_forbidden_address_is_refused_before_anything_is_dialled() {
    let mut bench = Bench::new();
    let server = Server::of(vec![ok(BYTES)]).await;
    bench.names = Fixed::of(&[
        ("both.example", &[&["127.0.0.1", "10.0.0.1"]]),
        ("mapped.example", &[&["::ffff:127.0.0.1"]]),
        ("own.example", &[&["127.0.0.2"]]),
        ("none.example", &[&[]]),
    ]);
    for (host, part) in [
        ("both.example", "refused: 10.0.0.1 of both.example is a private address"),
        ("mapped.example", "refused: ::ffff:127.0.0.1 of mapped.example is an IPv4-mapped address"),
        ("own.example", "refused: 127.0.0.2 of own.example is a loopback address"),
        ("none.example", "there is no address of none.example"),
        ("unknown.example", "the name unknown.example cannot be resolved: no such name"),
        ("127.0.0.2", "refused: 127.0.0.2 is a loopback address"),
        ("0177.0.0.2", "refused: 127.0.0.2 is a loopback address"),
        ("[::1]", "refused: ::1 is a loopback address"),
        ("[::ffff:127.0.0.1]", "an IPv4-mapped address"),
        ("169.254.169.254", "a cloud's metadata service, and fetch.networks does not allow it"),
    ] {
        bench.fails(&server.url(host), part).await;
    }
    assert!(server.asked().is_empty(), "{:?}", server.asked());
}

#[tokio::test]
async fn a_server_sends_on_only_to_what_is_allowed_and_not_for_ever() {
    let mut bench = Bench::new();
    bench.names = Fixed::of(&[
        ("a.example", &[&["127.0.0.1"], &["127.0.0.1"], &["192.168.0.1"]]),
        ("evil.example", &[&["127.0.0.1"]]),
    ]);
    let metadata = "http://169.254.169.254/latest/meta-data/";
    for (to, part) in [
        (
            metadata,
            "it sends on to http://169.254.169.254/latest/meta-data/: refused: 169.254.169.254 is a cloud's",
        ),
        ("file:///etc/shadow", "refused: it sends on to file:///etc/shadow, a file"),
        (
            "https://root:hunter2@127.0.0.1/",
            "refused: it sends on to a URL, and it is not usable: it carries a user name",
        ),
        ("gopher://127.0.0.1/", "expected the scheme"),
        ("..%2f..%2fsecret", "another directory"),
    ] {
        let server = Server::of(vec![sends_on(to), ok(BYTES)]).await;
        let text = bench.fails(&server.url("127.0.0.1"), part).await;
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(server.asked().len(), 1);
    }
    // A name that means another address the second time.
    let server = Server::of(vec![]).await;
    let again = server.url("a.example");
    let sending = Server::of(vec![sends_on(&again)]).await;
    bench.run(&sending.url("a.example"), BYTES).await.unwrap_err();
    let sending = Server::of(vec![sends_on(&again)]).await;
    bench.fails(&sending.url("127.0.0.1"), "192.168.0.1 of a.example is a private address").await;

    bench.fetch.redirects = 2;
    let server = Server::of(vec![sends_on("a"), sends_on("b"), ok(BYTES)]).await;
    assert!(bench.run(&server.url("127.0.0.1"), BYTES).await.is_ok());
    let bench = Bench { fetch: Fetch { redirects: 2, ..bench.fetch }, ..Bench::new() };
    let server = Server::of(vec![sends_on("a"), sends_on("b"), sends_on("c"), ok(BYTES)]).await;
    bench.fails(&server.url("127.0.0.1"), "it sends on more than 2 times (fetch.redirects)").await;
}

#[tokio::test]
async fn the_prefixes_hold_for_the_first_step_and_for_each_that_follows() {
    let mut bench = Bench::new();
    let server = Server::of(vec![ok(BYTES)]).await;
    let sending = Server::of(vec![sends_on(&server.url("127.0.0.1"))]).await;
    let prefix = |url: String| url.try_into().unwrap();
    bench.fetch.allow = Some(vec![prefix(sending.url("127.0.0.1"))]);
    bench.fails(&server.url("127.0.0.1"), "refused: no prefix of fetch.allow covers it").await;
    bench.fails(&sending.url("127.0.0.1"), ": refused: no prefix of fetch.allow covers it").await;
    assert!(server.asked().is_empty());
    bench.fetch.allow_http = false;
    bench.fails(&sending.url("127.0.0.1"), "fetch.allow-http is not set").await;
}

#[tokio::test]
async fn what_is_wrong_with_an_answer_is_told() {
    let bench = Bench::new();
    let other = digest(b"other").to_string();
    let expected = digest(BYTES).to_string();
    let long = LEN_MAX + 1;
    for (does, part) in [
        (status("404 Not Found"), "HTTP status 404 Not Found where 200 was expected".to_owned()),
        (status("206 Partial Content"), "HTTP status 206".into()),
        (status("302 Found"), "it sends on, and says not where".into()),
        (status("503 Service Unavailable"), "HTTP status 503".into()),
        (ok(b"other"), format!("expected sha256 {expected}, got {other} (5 bytes)")),
        (Does::Says(whole("", &BYTES[..9])), format!("expected sha256 {expected}, got ")),
        (Does::Says(whole("content-length: 21\r\n", &BYTES[..9])), "its bytes broke off: ".into()),
        (Does::Says(whole(&format!("content-length: {long}\r\n"), b"")), format!("it has {long} bytes")),
        (Does::Says(b"SSH-2.0-x\r\n".to_vec()), "the connection failed".into()),
        (Does::Says(Vec::new()), "the connection failed".into()),
        (Does::Stalls(Vec::new()), "no byte came for 200 ms".into()),
        (Does::Stalls(whole("content-length: 21\r\n", &BYTES[..9])), "no byte came for 200 ms".into()),
        (
            Does::Says(whole("content-encoding: gzip\r\n", b"\x1f\x8bpacked")),
            "(8 bytes, packed with gzip, which is not undone)".into(),
        ),
    ] {
        let told = format!("{does:?}");
        let server = Server::of(vec![does]).await;
        let text = bench.run(&server.url("127.0.0.1"), BYTES).await.expect_err(&told);
        assert!(text.contains(&part), "{told}: {text}");
    }
    assert_eq!(bench.programs.len(digest(b"other")).await, None, "what nobody asked for was kept");
    // Packed bytes are a program like any other for whoever names them.
    let packed = b"\x1f\x8bpacked";
    let server = Server::of(vec![Does::Says(whole("content-encoding: gzip\r\n", packed))]).await;
    assert_eq!(bench.run(&server.url("127.0.0.1"), packed).await.unwrap().len, 8);
}

#[tokio::test]
async fn an_endless_answer_ends_at_the_longest_program() {
    let mut bench = Bench::new();
    bench.fetch.whole_ms = 60_000;
    let server = Server::of(vec![Does::Floods(whole("", b""))]).await;
    bench.fails(&server.url("127.0.0.1"), "the program has more than 67108864 bytes").await;
    // One that drips for longer than all may take.
    bench.fetch.whole_ms = 300;
    bench.fetch.stall_ms = 10_000;
    let server = Server::of(vec![Does::Stalls(whole("", b"x"))]).await;
    bench.fails(&server.url("127.0.0.1"), "it was not there whole within 300 ms").await;
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_will_not_is_not() {
    let mut bench = Bench::new();
    bench.fetch.attempts = NonZeroU32::MIN.saturating_add(1);
    let server = Server::of(vec![status("500 Internal Server Error"), ok(BYTES)]).await;
    assert!(bench.run(&server.url("127.0.0.1"), BYTES).await.is_ok());
    assert_eq!(server.asked().len(), 2);

    let mut bench = Bench::new();
    bench.fetch.attempts = NonZeroU32::MIN.saturating_add(1);
    let server = Server::of(vec![status("502 Bad Gateway"), Does::Stalls(Vec::new()), ok(BYTES)]).await;
    bench.fails(&server.url("127.0.0.1"), "no byte came for 200 ms; that was attempt 2 of 2").await;
    let server = Server::of(vec![status("404 Not Found"), ok(BYTES)]).await;
    let text = bench.fails(&server.url("127.0.0.1"), "HTTP status 404").await;
    assert!(!text.contains("attempt"), "{text}");
    assert_eq!(server.asked().len(), 1);

    // A port that nobody listens on.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let text = bench.fails(&format!("http://{gone}/x"), "no connection to ").await;
    assert!(text.ends_with("attempt 2 of 2"), "{text}");
}

#[tokio::test]
async fn a_file_is_a_program_where_the_configuration_has_a_directory_for_them() {
    let mut bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("fix.sh"), BYTES).unwrap();
    let url = format!("file://{}/fix.sh", dir.path().display());
    bench.fails(&url, "fetch.file-root is not set, so file: is off").await;
    bench.fetch.file_root = Some(dir.path().to_owned());
    bench.fetch.allow = Some(Vec::new());
    let arrived = bench.run(&url, BYTES).await.unwrap();
    assert_eq!(arrived.how, format!("21 bytes from {url}"));
    let text = bench.run(&url, b"other").await.unwrap_err();
    assert!(text.contains(&format!("got {}", digest(BYTES))), "{text}");
    std::fs::File::create(dir.path().join("long")).unwrap().set_len(LEN_MAX + 1).unwrap();
    bench.run(&format!("file://{}/long", dir.path().display()), b"x").await.expect_err("too long");
}

#[tokio::test]
async fn who_waits_for_a_turn_waits_and_who_waits_for_another_try_has_none() {
    let mut bench = Bench::new();
    bench.fetch.attempts = NonZeroU32::MIN.saturating_add(1);
    let broken = Server::of(vec![status("500 Oops"), ok(b"one")]).await;
    let good = Server::of(vec![ok(b"two")]).await;
    let fetcher = Fetcher::new(bench.fetch.clone(), bench.programs.clone());
    let turns = Semaphore::new(1);
    let errand = |server: &Server, bytes: &[u8]| Errand {
        digest: digest(bytes),
        url: server.url("127.0.0.1"),
        tenant: None,
    };
    let (one, two) = (errand(&broken, b"one"), errand(&good, b"two"));
    let first = fetcher.run(&one, &turns, |_| {});
    let second = async {
        let arrived = fetcher.run(&two, &turns, |_| {}).await;
        (arrived, broken.asked().len())
    };
    let (first, (second, asked_then)) =
        tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(first, second) }).await.unwrap();
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(asked_then, 1, "the pause of the first kept the second from its turn");
}
