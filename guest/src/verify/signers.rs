//! Who may sign: OpenSSH's file of allowed signers.
//!
//! Called by the gate of signatures, anew for each one, so that a line that is taken out counts at once. Trusts the
//! file only where nobody but root can have written it; a line that is not understood whole lets nobody in.
//! Certificate authorities are not taken, and times only with a `Z`: which zone the guest is in must not decide.

mod time;

use super::owned::{self, NotRead};
use super::sshsig::is_taken;
use base64ct::{Base64, Encoding as _};
use doorbell_wire::ids::Fingerprint;
use doorbell_wire::message::outcome::SignatureFault;
use std::path::Path;
use time::time;

/// Who signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signer {
    /// Who that is, as the file has it: a list of patterns.
    pub principals: String,
    /// The key.
    pub key: Fingerprint,
}

impl Signer {
    /// Whether this may be the signer's name.
    #[must_use]
    pub fn is(&self, principal: &str) -> bool {
        in_list(&self.principals, principal)
    }
}

/// The lines of a file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Signers {
    lines: Vec<Line>,
    /// Lines that let nobody in, and why.
    pub refused: Vec<(usize, &'static str)>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Line {
    principals: String,
    key: Vec<u8>,
    options: Options,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Options {
    namespaces: Option<String>,
    valid_after_s: Option<u64>,
    valid_before_s: Option<u64>,
}

impl Signers {
    /// Reads a file that nobody but root can have written.
    ///
    /// # Errors
    /// What is wrong with it, in a few words.
    pub fn open(path: &Path) -> Result<Self, String> {
        let text = owned::read(path, FILE_LEN_MAX).map_err(NotRead::into_text)?;
        Ok(Self::read(&text))
    }

    /// Reads the text of such a file.
    #[must_use]
    pub fn read(text: &[u8]) -> Self {
        let mut signers = Self::default();
        for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let read = std::str::from_utf8(line).map_err(|_| "it is not UTF-8").and_then(line_of);
            match read {
                Ok(Some(line)) => signers.lines.push(line),
                Ok(None) => {}
                Err(why) => signers.refused.push((at.saturating_add(1), why)),
            }
        }
        signers
    }

    /// Who has this key, where it may sign in this namespace at this time.
    ///
    /// # Errors
    /// Why nobody has.
    pub fn find(&self, key: &[u8], namespace: &str, now_s: u64) -> Result<Signer, SignatureFault> {
        let fingerprint = Fingerprint::of_blob(key);
        let mut fault = SignatureFault::UnknownKey(fingerprint);
        for line in self.lines.iter().filter(|line| line.key == key) {
            let Options { namespaces, valid_after_s, valid_before_s } = &line.options;
            if namespaces.as_ref().is_some_and(|list| !in_list(list, namespace)) {
                fault = SignatureFault::KeyForOthers(fingerprint);
            } else if valid_after_s.is_some_and(|after| now_s < after)
                || valid_before_s.is_some_and(|before| now_s > before)
            {
                fault = SignatureFault::KeyOutOfTime(fingerprint);
            } else {
                return Ok(Signer { principals: line.principals.clone(), key: fingerprint });
            }
        }
        Err(fault)
    }
}

/// `principals [options] type key [comment]`; none where the line is empty or a comment.
fn line_of(line: &str) -> Result<Option<Line>, &'static str> {
    let line = line.trim_matches(BLANKS);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (principals, rest) = principals(line)?;
    let (options, key) = match key(rest) {
        Some(key) => (Options::default(), key),
        None => {
            let (options, rest) = rest.split_at(end_of_options(rest));
            (self::options(options)?, key(rest).ok_or("it has no key behind its options")?)
        }
    };
    if !is_taken(&key) {
        return Err(
            "its key is of another kind than ssh-ed25519, ecdsa-sha2-nistp256 and their sk- variants",
        );
    }
    Ok(Some(Line { principals, key, options }))
}

fn principals(line: &str) -> Result<(String, &str), &'static str> {
    let (principals, rest) = match line.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or("a quote is not closed")?,
        None => line.split_once(BLANKS).ok_or("it ends behind its principals")?,
    };
    if principals.is_empty() {
        return Err("it has no principals");
    }
    Ok((principals.to_owned(), rest.trim_start_matches(BLANKS)))
}

/// The bytes of a key that stands here.
fn key(text: &str) -> Option<Vec<u8>> {
    let mut words = text.split(BLANKS).filter(|word| !word.is_empty());
    let (kind, digits) = (words.next()?, words.next()?);
    let key = Base64::decode_vec(digits).ok()?;
    let name = u32::try_from(kind.len()).ok()?.to_be_bytes();
    let is_of_kind = key.strip_prefix(&name).is_some_and(|rest| rest.starts_with(kind.as_bytes()));
    is_of_kind.then_some(key)
}

/// Where options end: at the first blank that is not within quotes.
fn end_of_options(text: &str) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, sign) in text.char_indices() {
        match sign {
            '"' if !escaped => quoted = !quoted,
            ' ' | '\t' if !quoted => return at,
            _ => {}
        }
        escaped = sign == '\\' && !escaped;
    }
    text.len()
}

fn options(mut text: &str) -> Result<Options, &'static str> {
    let mut options = Options::default();
    while !text.is_empty() {
        let (name, rest) = text.split_once('=').unwrap_or((text, ""));
        if name.split(',').any(|name| name.eq_ignore_ascii_case("cert-authority")) {
            return Err("cert-authority: certificates are not taken here");
        }
        let (value, rest) = quoted(rest)?;
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let is_new = if is("namespaces") {
            options.namespaces.replace(value).is_none()
        } else if is("valid-after") {
            options.valid_after_s.replace(time(&value)?).is_none()
        } else if is("valid-before") {
            options.valid_before_s.replace(time(&value)?).is_none()
        } else {
            return Err("an option is not known");
        };
        if !is_new {
            return Err("an option is given twice");
        }
        text = match rest.strip_prefix(',') {
            Some("") => return Err("a comma ends its options"),
            Some(rest) => rest,
            None if rest.is_empty() => rest,
            None => return Err("an option goes on behind its quotes"),
        };
    }
    match (options.valid_after_s, options.valid_before_s) {
        (Some(after), Some(before)) if before <= after => Err("it ends before it begins to be valid"),
        _ => Ok(options),
    }
}

fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    let text = text.strip_prefix('"').ok_or("an option has no value in quotes")?;
    let (mut value, mut escaped) = (String::new(), false);
    for (at, sign) in text.char_indices() {
        match sign {
            '"' if escaped => {
                value.pop();
                value.push('"');
            }
            '"' => return Ok((value, text.get(at.saturating_add(1)..).unwrap_or_default())),
            _ => value.push(sign),
        }
        escaped = sign == '\\';
    }
    Err("a quote is not closed")
}

/// Whether a list of patterns has a text: one of them fits, and none that begins with `!` does.
fn in_list(list: &str, text: &str) -> bool {
    let mut found = false;
    for pattern in list.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if fits(pattern.as_bytes(), text.as_bytes()) => return false,
            Some(_) => {}
            None => found |= fits(pattern.as_bytes(), text.as_bytes()),
        }
    }
    found
}

/// `*` is any bytes, `?` any one. Goes back to the last `*` only, so a long pattern costs no more than its length
/// times that of the text.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read, mut star) = (0, 0, None);
    while read < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(sign) if *sign == b'?' || Some(sign) == text.get(read) => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((star_at, from)) = star else { return false };
                star = Some((star_at, from + 1));
                at = star_at + 1;
                read = from + 1;
            }
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|sign| *sign == b'*'))
}

const BLANKS: [char; 3] = [' ', '\t', '\r'];
const FILE_LEN_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests;
