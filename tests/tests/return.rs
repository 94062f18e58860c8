//! After the manager's return a guest is back within one second when the manager was away for less than ten,
//! and within six seconds after longer.

use doorbell_api::guest::Presence;
use doorbell_tests::daemon::Daemon;
use doorbell_tests::guest::Machine;
use doorbell_tests::place::Place;
use doorbell_tests::wait::{comes_within, until};
use std::time::{Duration, Instant};

#[test]
fn a_guest_is_back_within_one_second_of_a_short_absence_and_within_six_of_a_long_one() {
    let place = Place::new();
    let mut daemon = Daemon::start(&place);
    let _guest = daemon.boot(&place, "web-3", &Machine::default());
    for (away, limit) in [(0, 1), (3, 1), (8, 1), (14, 6), (31, 6)] {
        daemon.kill();
        be_away(Duration::from_secs(away));
        let back = return_of(&mut daemon);
        doorbell_tests::skip::tell(&format!(
            "away {away} s: back {} ms after the manager listened",
            back.as_millis()
        ));
        assert!(back <= Duration::from_secs(limit), "away {away} s: back after {back:?}");
    }
}

/// The absence is the condition here, and only time makes it.
fn be_away(away: Duration) {
    assert!(!comes_within(away, || false));
}

/// From the moment the manager listens for its guest to the guest's session.
fn return_of(daemon: &mut Daemon) -> Duration {
    let from = daemon.log().len();
    daemon.launch();
    until("the manager to listen for its guest", || {
        daemon
            .log()
            .get(from..)
            .is_some_and(|log| log.contains("waiting for the guest's agent"))
            .then_some(())
    });
    let listening = Instant::now();
    daemon.await_listening();
    daemon.await_presence("web-3", Presence::Connected);
    listening.elapsed()
}
