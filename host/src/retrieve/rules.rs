//! Which locations the configuration lets the manager ask for: scheme, and prefixes of URLs. Pure.
//!
//! Asked before every step of a fetch, redirects included. Trusts the operator who wrote the prefixes; a
//! location is matched part by part, never as a text: `https://a.example/x` is no prefix of
//! `https://a.example.evil/x` and none of `https://a.example/xy`.

use super::location::Location;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The beginning of URLs that may be asked for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix(Location);

/// Why a text is no prefix.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is no prefix of URLs: {why}")]
pub struct NoPrefix {
    text: String,
    why: String,
}

/// What may be asked for.
#[derive(Clone, Debug)]
pub struct Rules<'a> {
    /// Nothing else, where there are any prefixes given.
    pub allow: Option<&'a [Prefix]>,
    /// Whether plain HTTP is used.
    pub allow_http: bool,
    /// Whether files of this host are read.
    pub allow_files: bool,
}

impl Rules<'_> {
    /// Whether a location may be asked for; the rule that forbids it where not.
    ///
    /// # Errors
    /// The rule, by the name of its key.
    pub fn check(&self, location: &Location) -> Result<(), &'static str> {
        if location.is_file() {
            return self.allow_files.then_some(()).ok_or("fetch.file-root is not set, so file: is off");
        }
        if !location.is_https() && !self.allow_http {
            return Err("fetch.allow-http is not set, so only https is used");
        }
        match self.allow {
            None => Ok(()),
            Some([]) => Err("fetch.allow is empty, so nothing is fetched"),
            Some(prefixes) if prefixes.iter().any(|prefix| prefix.covers(location)) => Ok(()),
            Some(_) => Err("no prefix of fetch.allow covers it"),
        }
    }
}

impl Prefix {
    /// Whether a location begins with this prefix: the same scheme, host and port, and the same first parts of
    /// the path. A part that is spelt in another way is another one: that costs its writer a correction, where
    /// the contrary could cost the rule.
    #[must_use]
    pub fn covers(&self, location: &Location) -> bool {
        let (ours, theirs) = (self.0.url(), location.url());
        let mut parts = location.parts();
        ours.scheme() == theirs.scheme()
            && ours.host() == theirs.host()
            && ours.port_or_known_default() == theirs.port_or_known_default()
            && self.parts().all(|part| parts.next() == Some(part))
    }

    /// Its parts; a slash at its end is none.
    fn parts(&self) -> impl Iterator<Item = &str> {
        let path = self.0.url().path();
        let bare = path.strip_suffix('/').unwrap_or(path);
        bare.split('/').skip(1)
    }
}

impl TryFrom<String> for Prefix {
    type Error = NoPrefix;

    fn try_from(text: String) -> Result<Self, NoPrefix> {
        let why = match Location::parse(&text) {
            Err(error) => error.to_string(),
            Ok(location) if location.is_file() => "files have fetch.file-root".to_owned(),
            Ok(_) if text.contains(['?', '#']) => "a prefix has no query and no fragment".to_owned(),
            Ok(location) if location.url().host_str().is_some_and(|host| host.contains('*')) => {
                "there are no wildcards; give a prefix for each host".to_owned()
            }
            Ok(location) => return Ok(Self(location)),
        };
        Err(NoPrefix { text, why })
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.0.as_str().to_owned()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Location {
        Location::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn prefix(text: &str) -> Prefix {
        Prefix::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn a_prefix_covers_what_is_below_it_and_nothing_that_looks_so() {
        for (text, covered, others) in COVERED {
            let prefix = prefix(text);
            for url in *covered {
                assert!(prefix.covers(&at(url)), "{text} does not cover {url}");
            }
            for url in *others {
                assert!(!prefix.covers(&at(url)), "{text} covers {url}");
            }
        }
    }

    #[test]
    fn what_would_allow_another_thing_than_it_seems_is_no_prefix() {
        for text in [
            "",
            "a.example",
            "https://",
            "https://*.example/",
            "https://root@a.example/",
            "https://a.example./",
            "https://a.example/?x",
            "https://a.example/#x",
            "https://a.example/..%2fx",
            "ftp://a.example/",
            "file:///srv",
        ] {
            let error = Prefix::try_from(text.to_owned()).expect_err(text);
            assert!(error.to_string().contains("is no prefix of URLs: "), "{error}");
        }
    }

    #[test]
    fn each_rule_that_forbids_says_its_key() {
        let prefixes = [prefix("https://a.example/x")];
        let open = Rules { allow: None, allow_http: false, allow_files: false };
        let some = Rules { allow: Some(&prefixes), allow_http: true, allow_files: true };
        let none = Rules { allow: Some(&[]), ..open };
        for (rules, url, key) in [
            (&open, "https://any.example/", None),
            (&open, "http://any.example/", Some("fetch.allow-http")),
            (&open, "file:///x", Some("fetch.file-root")),
            (&some, "https://a.example/x/y", None),
            (&some, "http://a.example/x/y", Some("fetch.allow ")),
            (&some, "https://a.example/y", Some("fetch.allow ")),
            (&some, "file:///x", None),
            (&none, "https://a.example/x", Some("fetch.allow is empty")),
        ] {
            let said = rules.check(&at(url)).err();
            assert_eq!(said.is_some(), key.is_some(), "{url}: {said:?}");
            assert!(said.unwrap_or_default().contains(key.unwrap_or_default()), "{url}: {said:?}");
        }
    }

    /// A prefix, what it covers, and what it does not.
    const COVERED: &[(&str, &[&str], &[&str])] = &[
        (
            "https://a.example/x",
            &[
                "https://a.example/x",
                "https://a.example/x/",
                "https://a.example/x/y",
                "https://a.example/x//y",
                "https://a.example/x?y",
                "https://A.EXAMPLE/x/y",
                "https://a.example:443/x/y",
                "https://a.example/y/../x/z",
                "https://a.example/x/../x/z",
                "https://a.example/%2e/x/z",
            ],
            &[
                "https://a.example/",
                "https://a.example/xy",
                "https://a.example/X/y",
                "https://a.example/x%2E/y",
                "https://a.example/%78/y",
                "https://a.example//x/y",
                "https://a.example/x/../y",
                "https://a.example/x/%2e%2e/y",
                "https://a.example/x/.%2E/y",
                "https://a.example/y/x",
                "https://a.example/x;y",
                "https://a.example/y?/x",
                "https://a.example/y#/x",
                "http://a.example/x",
                "http://a.example:443/x",
                "https://a.example:8443/x",
                "https://a.example:80/x",
                "https://a.example.evil/x",
                "https://evil-a.example/x",
                "https://b.a.example/x",
                "https://a.exampl/x",
                "https://evil.example/https://a.example/x",
                "https://evil.example/x?https://a.example/x",
                "https://xn--bcher-kva.example/x",
                "https://a\u{0430}.example/x",
                "file:///x",
            ],
        ),
        (
            "https://a.example",
            &["https://a.example/", "https://a.example/any/thing", "https://a.example//"],
            &["https://a.example.evil/", "https://a.example:444/"],
        ),
        (
            "https://a.example/x/",
            &["https://a.example/x/y", "https://a.example/x"],
            &["https://a.example/xy"],
        ),
        (
            "http://10.0.0.1:8080/p",
            &["http://10.0.0.1:8080/p/q", "http://0x0a.0.0.1:8080/p", "http://167772161:8080/p"],
            &["http://10.0.0.1/p", "http://10.0.0.11:8080/p", "http://10.0.0.1.example:8080/p"],
        ),
        (
            "https://[2001:db8::1]/x",
            &["https://[2001:DB8:0::1]/x/y"],
            &["https://[2001:db8::11]/x", "https://[::ffff:32.1.13.184]/x"],
        ),
        ("https://a.example/x%20y", &["https://a.example/x%20y/z"], &["https://a.example/x+y/z"]),
    ];
}
