//! What the hypervisor says of a guest, and what its session does then.

use super::*;
use crate::events::Owned;
use doorbell_api::guest::PowerState;
use doorbell_wire::limits::HEARTBEAT_MS;
use futures_util::FutureExt as _;
use tokio::sync::broadcast;

impl Bench {
    fn power(&self, state: PowerState) {
        self.manager.powers.pretend(self.guest.id, state);
    }

    fn reset(&self) {
        self.manager.powers.pretend_reset(self.guest.id);
    }
}

impl Peer {
    /// Lets so much time pass, in which nothing may be heard.
    async fn hear_nothing_for(&mut self, time: Duration) {
        settle().await;
        tokio::time::pause();
        for _ in 0..60 {
            tokio::time::advance(time / 60).await;
            settle().await;
            let mut buffer = [0; 64];
            let read = self.stream.read(&mut buffer).now_or_never();
            assert!(read.is_none(), "{read:?} {:02x?}", buffer);
        }
        tokio::time::resume();
    }

    /// The end of the stream, with nothing in front of it.
    async fn hear_only_the_end(&mut self) {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await;
        read.expect("the manager closes the connection").unwrap();
        assert_eq!((rest, std::mem::take(&mut self.unread)), (Vec::new(), Vec::new()));
    }
}

/// Has every other task go as far as it goes by itself.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

async fn presence(events: &mut broadcast::Receiver<Owned>) -> Presence {
    loop {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await.expect("an event").unwrap().event;
        if let Change::Presence { presence, .. } = event.change {
            return presence;
        }
    }
}

#[tokio::test]
async fn to_a_guest_that_stands_still_nothing_is_written_and_then_all_goes_on_at_once() {
    let bench = Bench::new().await;
    bench.power(PowerState::Running);
    let (mut peer, _) = bench.enter(None).await;
    bench.power(PowerState::Paused);
    let request = bench.accept(false).await;
    bench.manager.registry.ring(bench.guest.id);
    bench.manager.cancel(&ROOT, bench.accept(false).await, None).await.unwrap();
    peer.hear_nothing_for(Duration::from_secs(3600)).await;
    assert_eq!(bench.manager.registry.count(), 1, "nor is it given up");
    bench.power(PowerState::Running);
    let heard = [peer.hear().await, peer.hear().await];
    assert_eq!(heard, [FromHost::Ping(1), FromHost::Ring]);
    peer.pull_offer(request).await;
}

#[tokio::test]
async fn what_a_guest_had_said_before_it_stood_still_is_taken_and_answered_later() {
    let bench = Bench::new().await;
    bench.power(PowerState::Running);
    let request = bench.accept(false).await;
    let (mut peer, _) = bench.enter(None).await;
    peer.pull_offer(request).await;
    peer.say_started(request).await;
    // Its answer is behind all that was said: while the store is at work, the clock that is stopped below would run.
    peer.say(&FromGuest::Pull).await;
    assert_eq!(peer.hear().await, FromHost::Nothing);
    bench.power(PowerState::Paused);
    settle().await;
    let output = Output { request, stream: Stream::Stdout, offset: 0, bytes: b"said".to_vec() };
    let all = bytes(&FromGuest::Output(output));
    let (first, rest) = all.split_at(20);
    peer.stream.write_all(first).await.unwrap();
    // Half a frame may stay half for as long as it takes.
    peer.hear_nothing_for(Duration::from_secs(3600)).await;
    peer.stream.write_all(rest).await.unwrap();
    until(async || bench.printed(request).await == b"said").await;
    peer.hear_nothing_for(Duration::from_secs(60)).await;
    bench.power(PowerState::Running);
    assert!(matches!(peer.hear().await, FromHost::OutputCredit(_)));
    assert_eq!(peer.hear().await, FromHost::Ping(1));
    peer.say_succeeded(request).await;
}

#[tokio::test]
async fn a_stop_that_is_over_before_it_is_looked_at_has_the_connection_tried() {
    let bench = Bench::new().await;
    bench.power(PowerState::Running);
    let (mut peer, _) = bench.enter(None).await;
    bench.power(PowerState::Paused);
    bench.power(PowerState::Running);
    assert_eq!(peer.hear().await, FromHost::Ping(1));
}

#[tokio::test]
async fn a_guest_that_stands_still_in_the_handshake_is_greeted_when_it_goes_on() {
    let bench = Bench::new().await;
    bench.power(PowerState::Paused);
    let (ours, theirs) = tokio::io::duplex(PIPE_LEN);
    let entry = bench.manager.doors.enter("cid 7").unwrap();
    tokio::spawn(serve(Arc::clone(&bench.manager), theirs, bench.guest.clone(), "cid 7".into(), entry));
    let mut peer = Peer { stream: ours, deframer: Deframer::new(), unread: Vec::new() };
    peer.hear_nothing_for(Duration::from_secs(3600)).await;
    bench.power(PowerState::Running);
    assert!(matches!(peer.hear().await, FromHost::Greeting(_)));
}

#[tokio::test]
async fn a_reset_ends_the_session_at_once_behind_the_guests_last_words() {
    let bench = Bench::new().await;
    bench.power(PowerState::Running);
    let request = bench.accept(false).await;
    let (mut peer, token) = bench.enter(None).await;
    peer.pull_offer(request).await;
    peer.say_started(request).await;
    let ack = Acknowledgement {
        request,
        outcome: Outcome::Succeeded,
        evidence: Evidence::None,
        output: OutputTotals::default(),
        ran: None,
    };
    peer.say(&FromGuest::Acknowledge(Box::new(ack))).await;
    bench.reset();
    let mut events = bench.manager.events.subscribe();
    assert_eq!(presence(&mut events).await, Presence::Gone);
    assert_eq!(bench.manager.store.request(request).await.unwrap().state, State::Succeeded);
    // The machine starts again with the same key, and nothing of the old session is in its way.
    let _ = bench.enter(Some(token)).await;
}

#[tokio::test]
async fn an_end_of_the_machine_ends_the_session_without_a_word() {
    for state in [PowerState::Running, PowerState::Paused] {
        let bench = Bench::new().await;
        bench.power(state);
        bench.power(PowerState::Running);
        let (mut peer, _) = bench.enter(None).await;
        bench.power(state);
        settle().await;
        bench.power(PowerState::Off);
        let mut events = bench.manager.events.subscribe();
        if state == PowerState::Running {
            peer.hear_only_the_end().await;
        }
        assert_eq!(presence(&mut events).await, Presence::Off);
    }
}

#[tokio::test]
async fn no_goodbye_is_said_to_a_guest_that_stands_still() {
    let bench = Bench::new().await;
    bench.power(PowerState::Running);
    let (mut peer, _) = bench.enter(None).await;
    bench.power(PowerState::Paused);
    settle().await;
    bench.manager.registry.close_all(Reason::GOODBYE);
    peer.hear_only_the_end().await;
}

#[tokio::test]
async fn a_monitor_that_is_named_later_concerns_the_open_session() {
    let bench = Bench::new().await;
    let (mut peer, _) = bench.enter(None).await;
    bench.power(PowerState::Paused);
    bench.manager.registry.ring(bench.guest.id);
    peer.hear_nothing_for(Duration::from_secs(3600)).await;
    // And one that is let go of holds nothing up.
    bench.manager.powers.end();
    assert_eq!([peer.hear().await, peer.hear().await], [FromHost::Ring, FromHost::Ping(1)]);
}

#[tokio::test]
async fn a_guest_that_says_nothing_for_more_than_a_heartbeat_is_silent_until_it_does() {
    let bench = Bench::new().await;
    let (mut peer, _) = bench.enter(None).await;
    let mut events = bench.manager.events.subscribe();
    let row = async || bench.manager.store.guest(&bench.guest.name).await.unwrap();
    assert_eq!(bench.manager.presence(&row().await), Presence::Connected);
    let seen = bench.manager.last_seen_ms(&row().await).unwrap();
    settle().await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_millis(HEARTBEAT_MS)).await;
    settle().await;
    tokio::time::advance(Duration::from_millis(6_000)).await;
    settle().await;
    tokio::time::resume();
    assert_eq!(presence(&mut events).await, Presence::Silent);
    assert_eq!(bench.manager.presence(&row().await), Presence::Silent);
    assert_eq!(peer.hear().await, FromHost::Ping(1));
    peer.say(&FromGuest::Pong(1)).await;
    assert_eq!(presence(&mut events).await, Presence::Connected);
    assert!(bench.manager.last_seen_ms(&row().await).unwrap() >= seen);
}

#[tokio::test]
async fn the_store_is_told_now_and_then_and_at_the_end_when_a_guest_was_heard() {
    let bench = Bench::new().await;
    let (mut peer, _) = bench.enter(None).await;
    let row = async || bench.manager.store.guest(&bench.guest.name).await.unwrap();
    let admitted = row().await.last_seen_ms.unwrap();
    until(async || crate::time::unix_ms() > admitted).await;
    peer.say(&FromGuest::Pull).await;
    assert_eq!(peer.hear().await, FromHost::Nothing);
    assert_eq!(row().await.last_seen_ms, Some(admitted), "not for every byte");
    let heard = bench.manager.last_seen_ms(&row().await).unwrap();
    assert!(heard > admitted);
    drop(peer);
    until(async || bench.manager.registry.count() == 0).await;
    assert_eq!(row().await.last_seen_ms, Some(heard), "when a byte was heard, not when the session ended");
}

async fn until(condition: impl AsyncFn() -> bool) {
    let reached = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("it comes to that");
}
