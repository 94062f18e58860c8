//! Corners of when a rule fits; from the text on it is shown by the policy's own tests.

use super::super::asked::{Asked, What};
use super::super::tests::{put, rules, run};
use super::*;

fn rule(more: &str) -> Rule {
    rules(&format!("[[rule]]\neffect = \"allow\"\nactions = [\"*\"]\n{more}\n")).rules.remove(0)
}

#[test]
fn a_condition_is_met_by_nothing_that_has_no_such_thing() {
    let (run, put) = (Asked::of(&run(&["x"])), Asked::of(&put("/srv/x")));
    let list = Asked { action: "link-list", what: What::Nothing };
    let link = Asked { action: "link-up", what: What::Link(vec!["eth0".into()]) };
    let fits = |more: &str| [&run, &put, &link, &list].map(|asked| rule(more).fits(asked));
    assert_eq!(fits(""), [true; 4]);
    assert_eq!(fits("command = [\"**\"]"), [true, false, false, false]);
    assert_eq!(fits("path = [\"/**\"]"), [false, true, false, false]);
    assert_eq!(fits("link = [\"*\"]"), [false, false, true, false]);
    assert_eq!(fits("user = [\"*\"]"), [true, false, false, false]);
}
