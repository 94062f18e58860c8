//! Links on parsed messages, and on real devices in a network namespace of their own where root allows it.

use super::netlink::link_state;
use super::*;
use doorbell_wire::ids::{LinkName, MacAddress};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use nix::sched::{CloneFlags, unshare};

fn link(index: u32, name: &str, mac: u8, flags: u32) -> LinkState {
    let mac = Some(MacAddress::new([mac; 6]));
    LinkState { index, name: name.parse().unwrap(), mac, flags, carrier: Some(true), mtu: 1500 }
}

fn by_name(name: &str) -> LinkSelector {
    LinkSelector::Name(name.parse().unwrap())
}

fn by_mac(mac: u8) -> LinkSelector {
    LinkSelector::Mac(MacAddress::new([mac; 6]))
}

#[test]
fn a_link_is_found_by_name_or_address_and_never_guessed() {
    let links = vec![link(1, "lo", 0, IFF_LOOPBACK), link(2, "eth0", 2, 1), link(3, "br0", 2, 0)];
    let pick = |wanted: &LinkSelector| select(links.clone(), wanted).map(|link| link.index);
    assert_eq!(pick(&by_name("eth0")), Ok(2));
    assert_eq!(pick(&by_name("lo")), Ok(1));
    assert_eq!(pick(&by_name("eth")), Err(Refusal::NoSuchLink));
    assert_eq!(pick(&by_mac(2)), Err(Refusal::AmbiguousLink(2)));
    assert_eq!(pick(&by_mac(0)), Err(Refusal::NoSuchLink));
}

#[test]
fn a_message_becomes_a_state() {
    let mut message = LinkMessage::default();
    message.header.index = 4;
    message.header.flags = LinkFlags::Up | LinkFlags::Running;
    let address = LinkAttribute::Address(vec![1, 2, 3, 4, 5, 6]);
    message.attributes = vec![LinkAttribute::IfName("eth7".into()), address, LinkAttribute::Mtu(9000)];
    let state = link_state(&message).unwrap();
    assert_eq!((state.index, state.mtu, state.is_up(), state.carrier), (4, 9000, true, None));
    assert_eq!(state.mac, Some(MacAddress::new([1, 2, 3, 4, 5, 6])));
    message.attributes = vec![LinkAttribute::Address(vec![1; 20])];
    assert_eq!(link_state(&message), None);
}

#[test]
fn a_real_device_goes_down_and_up_and_is_read_back() {
    // A thread has a network namespace of its own, so that no other test and no device of the machine is met.
    let in_namespace = std::thread::spawn(|| {
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
            eprintln!("skipped: no network namespace: {errno}");
            return;
        }
        let lo: LinkName = "lo".parse().unwrap();
        let all = list().unwrap();
        let before = all.list().iter().find(|link| link.name == lo).unwrap();
        assert!(!before.is_up() && all.left_out() == 0);
        for up in [true, false, false] {
            let prepared = Prepared::new(&LinkSet { link: by_name("lo"), up }).unwrap();
            let done = prepared.set();
            assert_eq!(done.outcome, Outcome::Succeeded);
            let Evidence::LinkChange(change) = done.evidence else { panic!("no evidence") };
            assert_eq!(change.after.is_up(), up);
        }
        let missing = LinkSet { link: by_name("eth99"), up: true };
        assert_eq!(Prepared::new(&missing).unwrap_err(), Refusal::NoSuchLink);
    });
    in_namespace.join().unwrap();
}
