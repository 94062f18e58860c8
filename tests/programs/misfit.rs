//! A static program that goes wrong in the way it is asked to, for guests that have no other.
//!
//! Compiled by `doorbell_tests::misfit` with the compiler alone, uploaded and run by suites. It trusts its arguments.

use std::hint::black_box;
use std::io::Write as _;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["segv"] => break_memory(),
        ["eat", mib] => eat(number(mib)),
        ["burn", ms] => burn(Duration::from_millis(number(ms))),
        ["bomb", mark] => bomb(mark),
        ["flood", mib] => return flood(number(mib)),
        ["exit", status] => return ExitCode::from(u8::try_from(number(status)).unwrap_or(255)),
        _ => return ExitCode::from(64),
    }
    ExitCode::SUCCESS
}

fn number(word: &str) -> u64 {
    word.parse().expect("a number")
}

fn break_memory() {
    // SAFETY: none; the fault is what was asked for.
    unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) }
}

/// Takes memory and uses each page of it, so that the kernel has to give it.
fn eat(mib: u64) {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for _ in 0..mib {
        all.push(black_box(vec![1; 1 << 20]));
    }
    println!("ate {} MiB", black_box(&all).len());
}

fn burn(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        black_box(start);
    }
}

/// Every process of it makes more of its kind, for as long as there is room.
fn bomb(mark: &str) -> ! {
    let own = std::env::current_exe().expect("a name of its own");
    println!("ticking");
    loop {
        let _ = Command::new(&own).args(["bomb", mark]).spawn();
    }
}

/// Bytes that are told apart by their place: what is lost, doubled or swapped shows in their digest.
fn flood(mib: u64) -> ExitCode {
    let mut piece = vec![b'.'; PIECE];
    let mut out = std::io::stdout().lock();
    for at in 0..mib * (1 << 20) / PIECE as u64 {
        let head = format!("piece {at}\n");
        piece[..head.len()].copy_from_slice(head.as_bytes());
        if out.write_all(&piece).is_err() {
            return ExitCode::from(65);
        }
    }
    ExitCode::SUCCESS
}

const PIECE: usize = 64 * 1024;
