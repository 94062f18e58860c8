//! Reads the tables, blocks and pictures of `docs/protocol.md`.

use std::collections::BTreeMap;

/// The paper itself.
pub const PAPER: &str = include_str!("../../../docs/protocol.md");

/// The rows of the one table whose header starts with these cells.
pub fn table(header: &[&str]) -> Vec<Vec<String>> {
    let mut lines = PAPER.lines();
    let starts = |line: &str| line.starts_with('|') && cells(line).starts_with(&owned(header));
    let found = lines.by_ref().find(|line| starts(line));
    assert!(found.is_some(), "docs/protocol.md has no table that starts with {header:?}");
    let rows: Vec<Vec<String>> =
        lines.by_ref().skip(1).take_while(|line| line.starts_with('|')).map(cells).collect();
    assert!(!lines.any(starts), "docs/protocol.md has two tables that start with {header:?}");
    rows
}

/// The header of the table that starts with these cells.
pub fn header(start: &[&str]) -> Vec<String> {
    let line = PAPER.lines().find(|line| line.starts_with('|') && cells(line).starts_with(&owned(start)));
    cells(line.unwrap())
}

/// One fenced block of bytes.
#[derive(Debug)]
pub struct Vector {
    pub attributes: BTreeMap<String, String>,
    pub bytes: Vec<u8>,
}

impl Vector {
    pub fn get(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

/// Every `vector` block.
pub fn vectors() -> Vec<Vector> {
    blocks("vector").into_iter().map(|(attributes, body)| Vector { attributes, bytes: hex(&body) }).collect()
}

/// The lines of every `mermaid` block.
pub fn pictures() -> Vec<Vec<String>> {
    let lines = |body: Vec<String>| body.iter().map(|line| line.trim().to_owned()).collect();
    blocks("mermaid").into_iter().map(|(_, body)| lines(body)).collect()
}

fn blocks(language: &str) -> Vec<(BTreeMap<String, String>, Vec<String>)> {
    let mut blocks = Vec::new();
    let mut lines = PAPER.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```").filter(|info| !info.is_empty()) else { continue };
        let body: Vec<String> = lines.by_ref().take_while(|line| *line != "```").map(str::to_owned).collect();
        if info.split_whitespace().next() == Some(language) {
            let pairs = info.split_whitespace().skip(1).map(|pair| pair.split_once('=').unwrap());
            blocks.push((pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(), body));
        }
    }
    blocks
}

fn hex(lines: &[String]) -> Vec<u8> {
    let codes = lines.iter().flat_map(|line| line.split('#').next().unwrap().split_whitespace());
    codes
        .map(|code| u8::from_str_radix(code, 16).unwrap_or_else(|_| panic!("{code:?} is not a byte")))
        .collect()
}

fn cells(line: &str) -> Vec<String> {
    line.trim().trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
