//! Where a program lives: a URL that reads one way only. Pure.
//!
//! Made by the API from what a caller wrote and by a fetch from where a server sends it on. Trusts neither:
//! the rules of the configuration are matched on the parts of what is parsed here, so a spelling that a server
//! could read as something else, and one that carries a secret, is refused before any rule is asked.

use percent_encoding::percent_decode_str;
use std::fmt;
use url::{Host, Url};

/// A URL of scheme `http`, `https` or `file` that can be asked for.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Location(Url);

/// Why a text is no location.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it is not usable: {0}")]
pub struct Unusable(&'static str);

impl Location {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`Unusable`], with a text that does not repeat the URL: it can hold a password.
    pub fn parse(text: &str) -> Result<Self, Unusable> {
        if text.len() > URL_LEN_MAX {
            return Err(Unusable("it has more than 2048 bytes"));
        }
        if text.contains(unwritten) {
            return Err(UNWRITTEN);
        }
        let (_, behind) = text.split_once("://").ok_or(Unusable("expected https://HOST/PATH"))?;
        let authority = behind.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(CREDENTIALS);
        }
        let url = Url::parse(text).map_err(|_| Unusable("expected https://HOST/PATH"))?;
        if authority.is_empty() != (url.scheme() == FILE) {
            return Err(Unusable("expected https://HOST/PATH, or file:///PATH without a host"));
        }
        Self::checked(url)
    }

    /// Where a server sends on whoever asks here.
    ///
    /// # Errors
    /// As [`Location::parse`].
    pub fn join(&self, text: &str) -> Result<Self, Unusable> {
        if Url::parse(text).is_ok() {
            return Self::parse(text);
        }
        if text.contains(unwritten) {
            return Err(UNWRITTEN);
        }
        let url = self.0.join(text).map_err(|_| Unusable("expected https://HOST/PATH"))?;
        // `//host/path` takes the scheme along, and is a whole URL in all else.
        Self::parse(url.as_str()).and_then(|_| Self::checked(url))
    }

    fn checked(mut url: Url) -> Result<Self, Unusable> {
        if !matches!(url.scheme(), HTTP | HTTPS | FILE) {
            return Err(Unusable("expected the scheme https, http or file"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(CREDENTIALS);
        }
        if url.port() == Some(0) {
            return Err(Unusable("nothing listens on port 0"));
        }
        if let Some(Host::Domain(name)) = url.host()
            && (name.ends_with('.') || name.split('.').any(str::is_empty))
        {
            return Err(Unusable("its host has an empty label; write the name without a dot at its end"));
        }
        if url.path().split('/').any(is_ambiguous) {
            return Err(Unusable(
                "a part of its path is, or hides, a step to another directory: write the path as it is meant",
            ));
        }
        // Never sent, so it says nothing about the program.
        url.set_fragment(None);
        Ok(Self(url))
    }

    /// The whole URL, as it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The parsed URL.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.0
    }

    /// Whether it is a file of this host.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.0.scheme() == FILE
    }

    /// Whether the way there is encrypted.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme() == HTTPS
    }

    /// The parts of its path, as they are spelt.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.path_segments().into_iter().flatten()
    }

    /// What people call the program when nobody says: the last part of the path.
    #[must_use]
    pub fn name(&self) -> String {
        let last = self.parts().filter(|part| !part.is_empty()).last().unwrap_or("program");
        percent_decode_str(last).decode_utf8_lossy().into_owned()
    }
}

/// For the audit trail, receipts and the log: without the query, which can hold a token.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0.as_str();
        match whole.split_once('?') {
            None => f.write_str(whole),
            Some((front, _)) => write!(f, "{front}?…"),
        }
    }
}

/// What a parser removes, or takes for something else.
fn unwritten(sign: char) -> bool {
    sign.is_control() || sign.is_whitespace() || sign == '\\'
}

/// Whether a server could take a part of a path for another one than it seems: dots and slashes behind one or
/// more layers of percent-encoding, and dots in front of a parameter.
fn is_ambiguous(part: &str) -> bool {
    let mut text = part.to_owned();
    for _ in 0..LAYERS_MAX {
        let name = text.split(';').next().unwrap_or_default();
        let hides = |sign: char| matches!(sign, '/' | '\\') || sign.is_control();
        if matches!(name, "." | "..") || text.contains(hides) {
            return true;
        }
        let decoded = percent_decode_str(&text).decode_utf8_lossy().into_owned();
        if decoded == text {
            return false;
        }
        text = decoded;
    }
    true
}

const HTTP: &str = "http";
const HTTPS: &str = "https";
const FILE: &str = "file";
const UNWRITTEN: Unusable = Unusable("a blank, a control character or a backslash must be percent-encoded");
const CREDENTIALS: Unusable =
    Unusable("it carries a user name or a password, which would end in the audit trail; leave them out");
/// Bytes of a URL: bounds what a request and an audit record can carry.
const URL_LEN_MAX: usize = 2048;
/// Layers of percent-encoding that are taken off; who has more hides something.
const LAYERS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_url_is_taken_and_written_one_way() {
        for (text, stored) in [
            ("https://a.example/x/fix.sh", "https://a.example/x/fix.sh"),
            ("HTTPS://A.Example:443/x", "https://a.example/x"),
            ("http://a.example:8080", "http://a.example:8080/"),
            ("https://a.example/x?version=1&b#part", "https://a.example/x?version=1&b"),
            ("https://a.example/x?user@host", "https://a.example/x?user@host"),
            ("https://bücher.example/grün", "https://xn--bcher-kva.example/gr%C3%BCn"),
            ("https://0x7f.1/x", "https://127.0.0.1/x"),
            ("https://[::1]:8443/x", "https://[::1]:8443/x"),
            ("https://a.example/1.2..3/v%2B1", "https://a.example/1.2..3/v%2B1"),
            ("https://a.example/x/../y", "https://a.example/y"),
            ("file:///srv/programs/fix.sh", "file:///srv/programs/fix.sh"),
        ] {
            assert_eq!(
                Location::parse(text).map(|at| at.as_str().to_owned()),
                Ok(stored.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_reads_two_ways_or_holds_a_secret_is_refused() {
        for (text, part) in [
            ("", "expected https"),
            ("fix.sh", "expected https"),
            ("/srv/fix.sh", "expected https"),
            ("https:a.example/x", "expected https"),
            ("https:///a.example/x", "without a host"),
            ("https://", "expected https"),
            ("https://?x", "expected https"),
            ("ftp://a.example/x", "scheme"),
            ("data://a.example/x", "scheme"),
            ("https://root:secret@a.example/x", "user name"),
            ("https://root@a.example/x", "user name"),
            ("https://@a.example/x", "user name"),
            ("https://:@a.example/x", "user name"),
            ("https://a.example@evil.example/x", "user name"),
            ("https://a.example%40evil.example/x", "expected https"),
            ("https://a.example\\@evil.example/x", "backslash"),
            ("https://a.example\t.evil.example/x", "control"),
            ("https://a.example/x\n", "control"),
            (" https://a.example/x", "blank"),
            ("https://a.example./x", "label"),
            ("https://a..example/x", "label"),
            ("https://./x", "label"),
            ("https://a.example:0/x", "port 0"),
            ("https://a.example:99999/x", "expected https"),
            ("https://a.example/x/..%2fsecret", "another directory"),
            ("https://a.example/x/..%5csecret", "another directory"),
            ("https://a.example/x/%252e%252e/secret", "another directory"),
            ("https://a.example/x/%25252e%25252e/secret", "another directory"),
            ("https://a.example/x/%2525252525252e/secret", "another directory"),
            ("https://a.example/x/..;a=b/secret", "another directory"),
            ("https://a.example/x/%2e%2e;/secret", "another directory"),
            ("https://a.example/x%00.sh", "another directory"),
            ("https://a.example/x%0d%0aHost:%20evil", "another directory"),
            ("file://a.example/srv/fix.sh", "without a host"),
            ("file:/srv/fix.sh", "expected https"),
            ("file:///srv/%2e%2e%2fetc/shadow", "another directory"),
        ] {
            let error = Location::parse(text).expect_err(text);
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
        assert!(Location::parse(&format!("https://a.example/{}", "x".repeat(URL_LEN_MAX))).is_err());
    }

    #[test]
    fn a_refusal_does_not_repeat_what_it_refuses() {
        let error = Location::parse("https://root:hunter2@a.example/x").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let shown = Location::parse("https://a.example/x?token=hunter2").unwrap().to_string();
        assert_eq!(shown, "https://a.example/x?…");
    }

    #[test]
    fn a_server_sends_on_to_a_location_or_nowhere() {
        let here = Location::parse("https://a.example/x/fix.sh?old").unwrap();
        for (text, there) in [
            ("other.sh", "https://a.example/x/other.sh"),
            ("/y/other.sh?new", "https://a.example/y/other.sh?new"),
            ("//b.example/z", "https://b.example/z"),
            ("/y?from=http://b.example/", "https://a.example/y?from=http://b.example/"),
            ("http://b.example/z", "http://b.example/z"),
            ("file:///etc/shadow", "file:///etc/shadow"),
        ] {
            assert_eq!(here.join(text).unwrap().as_str(), there);
        }
        for text in [
            "//root@b.example/z",
            "https://root@b.example/z",
            "..%2fz",
            "ftp://b.example/z",
            "javascript:x",
            "a b",
        ] {
            assert!(here.join(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_program_is_called_by_the_last_part_of_its_path() {
        for (text, name) in [
            ("https://a.example/x/fix%20it.sh?x=/y", "fix it.sh"),
            ("https://a.example/x/", "x"),
            ("https://a.example", "program"),
        ] {
            assert_eq!(Location::parse(text).unwrap().name(), name);
        }
    }
}
