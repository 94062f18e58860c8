//! The gate for what the compiler does not hold: lengths of files and functions, the first line of each file,
//! where a sleep may stand, what `wire/` may not know, words that do not belong, and promises without a test.
//!
//! Run by `qemu-scripts/test`. Looks at every file that git knows or would take. Prints each finding as
//! `file:line: what`, and ends with 1 when there is one.
#![allow(clippy::expect_used, clippy::print_stdout, reason = "a gate that cannot look says so and fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the checkout");
    let files = files(root);
    let mut findings = Vec::new();
    for file in &files {
        look_at_words(file, &mut findings);
        if file.name.ends_with(".rs") {
            look_at_source(file, &mut findings);
        }
    }
    look_at_promises(&files, &mut findings);
    findings.iter().for_each(|finding| println!("{finding}"));
    println!("{} files, {} findings", files.len(), findings.len());
    ExitCode::from(u8::from(!findings.is_empty()))
}

/// A text file of the checkout.
struct File {
    name: String,
    text: String,
}

fn files(root: &Path) -> Vec<File> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .expect("git lists the files");
    let names = String::from_utf8(output.stdout).expect("names that are text");
    let read = |name: &str| {
        let text = std::fs::read_to_string(PathBuf::from(root).join(name)).ok()?;
        Some(File { name: name.to_owned(), text })
    };
    names.split_terminator('\0').filter_map(read).collect()
}

fn look_at_source(file: &File, findings: &mut Vec<String>) {
    let name = &file.name;
    if !file.text.starts_with("//!") {
        findings.push(format!("{name}:1: does not begin with //!, what it is, who calls it, what it trusts"));
    }
    let code = code_of(&file.text);
    let product = product_lines(name, &file.text);
    let limit = if name.starts_with("wire/") || name.starts_with("guest/") { 300 } else { 400 };
    if product > limit {
        findings.push(format!("{name}:{product}: has {product} lines beside its tests, {limit} are allowed"));
    }
    for (line, length) in functions(&code).filter(|&(_, length)| length > FUNCTION_MAX) {
        findings.push(format!("{name}:{line}: function of {length} lines, {FUNCTION_MAX} are allowed"));
    }
    for (number, line) in (1..).zip(code.lines()) {
        if name.starts_with("tests/") && line.contains("sleep(") && name != "tests/src/wait.rs" {
            findings.push(format!("{name}:{number}: sleeps; wait for a condition with tests/src/wait.rs"));
        }
        if name.starts_with("wire/src/") && number <= product {
            let impure = IMPURE.iter().find(|word| line.contains(**word));
            findings
                .extend(impure.map(|word| format!("{name}:{number}: {word} has no place in a pure crate")));
        }
    }
}

/// Lines in front of the tests of a file; none of a file that is tests as a whole.
fn product_lines(name: &str, text: &str) -> usize {
    if name.contains("/tests/") || name.ends_with("/tests.rs") || name.contains("/fuzz/") {
        return 0;
    }
    let mut lines = text.lines().peekable();
    let mut count = 0;
    while let Some(line) = lines.next() {
        let tests_follow =
            lines.peek().is_some_and(|next| next.starts_with("mod ") || next.starts_with("pub(crate) mod "));
        if line == "#[cfg(test)]" && tests_follow {
            break;
        }
        count += 1;
    }
    count
}

fn look_at_words(file: &File, findings: &mut Vec<String>) {
    for (number, line) in (1..).zip(file.text.lines()) {
        let found = FOREIGN.iter().find(|word| line.contains(**word));
        findings.extend(found.map(|word| format!("{}:{number}: {word:?} is not of this project", file.name)));
    }
}

/// Each row of the guarantees and of the threats names a test that exists, or says that it is pending.
fn look_at_promises(files: &[File], findings: &mut Vec<String>) {
    for paper in files.iter().filter(|file| PROMISES.contains(&file.name.as_str())) {
        look_at_rows(paper, files, findings);
    }
}

fn look_at_rows(paper: &File, files: &[File], findings: &mut Vec<String>) {
    let exists = |test: &str| {
        let (module, name) = test.rsplit_once("::").unwrap_or_default();
        let is_in = |file: &&File| {
            file.name.contains(&format!("/{module}.rs")) || file.name.contains(&format!("/{module}/"))
        };
        files.iter().filter(is_in).any(|file| file.text.contains(&format!("fn {name}(")))
    };
    for (number, line) in (1..).zip(paper.text.lines()).filter(|(_, line)| is_promise(line)) {
        let tests: Vec<&str> =
            line.split('`').skip(1).step_by(2).filter(|word| word.contains("::")).collect();
        if tests.is_empty() && !line.contains("pending") {
            findings.push(format!("{}:{number}: names no test and is not pending", paper.name));
        }
        for test in tests.into_iter().filter(|test| !exists(test)) {
            findings.push(format!("{}:{number}: there is no test {test}", paper.name));
        }
    }
}

/// A row that begins with a letter and a number.
fn is_promise(line: &str) -> bool {
    let number = line.strip_prefix("| G").or_else(|| line.strip_prefix("| T"));
    number.is_some_and(|rest| rest.starts_with(|sign: char| sign.is_ascii_digit()))
}

/// First line and length of every function with a body.
fn functions(code: &str) -> impl Iterator<Item = (usize, usize)> {
    let starts = code.match_indices("fn ").filter(|(at, _)| {
        let before = code.get(..*at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|sign| sign.is_alphanumeric() || sign == '_')
    });
    starts.filter_map(|(at, _)| {
        let body = body_of(code.get(at..)?)?;
        let line = code.get(..at)?.matches('\n').count() + 1;
        Some((line, body.matches('\n').count() + 1))
    })
}

/// The text from a `fn` to the end of its body; `None` where a declaration has none.
fn body_of(code: &str) -> Option<&str> {
    let (mut round, mut curly) = (0_i32, 0_i32);
    for (at, sign) in code.char_indices() {
        match sign {
            '(' | '[' => round += 1,
            ')' | ']' => round -= 1,
            '{' => curly += 1,
            '}' => curly -= 1,
            _ => {}
        }
        if curly == 0 && sign == '}' {
            return code.get(..=at);
        }
        // A type without a body, `fn(…)`, ends before anything of its own begins.
        if curly == 0 && round <= 0 && (sign == ';' || round < 0 || sign == ',') {
            return None;
        }
    }
    None
}

/// The source with comments, texts and characters blanked, line by line as before.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = passed_over(rest);
        let (taken, behind) = rest.split_at(length.unwrap_or_else(|| first.len_utf8()));
        if length.is_some() {
            code.extend(taken.chars().map(|sign| if sign == '\n' { '\n' } else { ' ' }));
        } else {
            code.push_str(taken);
        }
        rest = behind;
    }
    code
}

/// How long the comment, text or character is that `rest` begins with, if it begins with one.
fn passed_over(rest: &str) -> Option<usize> {
    let end_of = |end: &str, from: usize| {
        rest.get(from..).and_then(|behind| behind.find(end)).map_or(rest.len(), |at| from + at + end.len())
    };
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(end_of("*/", 2));
    }
    if let Some(raw) = rest.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw.get(hashes..).is_some_and(|text| text.starts_with('"')) {
            return Some(end_of(&format!("\"{}", "#".repeat(hashes)), hashes + 2));
        }
    }
    match rest.chars().next()? {
        '"' => Some(quoted(rest, '"')),
        // A lifetime is no character: it has no quote behind its first letter.
        '\'' if rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'') => Some(quoted(rest, '\'')),
        _ => None,
    }
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, sign) in rest.char_indices().skip(1) {
        if sign == quote && !escaped {
            return at + sign.len_utf8();
        }
        escaped = sign == '\\' && !escaped;
    }
    rest.len()
}

const PROMISES: &[&str] = &["docs/guarantees.md", "docs/security.md"];
const FUNCTION_MAX: usize = 70;
const IMPURE: &[&str] = &[
    "std::net",
    "std::io",
    "std::os",
    "std::time",
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "tokio",
    "nix::",
];
// Put together here, so that this file does not hold what it looks for.
const FOREIGN: &[&str] =
    &[concat!("/wo", "rk/"), concat!("lab", ".md"), concat!("sha", "red/"), concat!("anch", "ors/")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_comments_and_characters_are_no_code() {
        let text =
            "let a = \"fn x() {\"; // {\nlet b = '{'; let c: &'static str = r#\"}\"#; /* { */ fn y() {}\n";
        let code = code_of(text);
        assert_eq!(code.lines().count(), text.lines().count());
        assert_eq!(code.matches(['{', '}']).count(), 2);
        assert_eq!(functions(&code).collect::<Vec<_>>(), [(2, 1)]);
    }

    #[test]
    fn a_function_is_as_long_as_its_lines() {
        let code = "trait T { fn a(&self, b: [u8; 3]); }\nfn long()\nwhere\n{\n    if x { y }\n}\nlet f: fn(u8) = g;\n";
        assert_eq!(functions(code).collect::<Vec<_>>(), [(2, 5)]);
    }

    #[test]
    fn tests_do_not_count_as_product() {
        let text = "//! a\nfn x() {}\n#[cfg(test)]\nfn only_for_tests() {}\n#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(product_lines("host/src/a.rs", text), 4);
        assert_eq!(product_lines("guest/src/journal/tests.rs", text), 0);
    }

    #[test]
    fn a_promise_without_a_test_is_found() {
        let file = |name: &str, text: &str| File { name: name.into(), text: text.into() };
        let paper =
            "| G1 | x | `crash::kept` |\n| G2 | y | `crash::lost` |\n| G3 | z | pending |\n| G4 | w | |\n";
        let threats = "| T1 | x | `crash::kept` |\n| T2 | y | `crash::lost` |\n| The | word | |\n";
        let code = file("tests/crash.rs", "fn kept() {}");
        let files = [file("docs/guarantees.md", paper), file("docs/security.md", threats), code];
        let mut findings = Vec::new();
        look_at_promises(&files, &mut findings);
        assert_eq!(findings.len(), 3, "{findings:?}");
    }
}
