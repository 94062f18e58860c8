//! How many connections over TLS there may be at once, in all and from one address.
//!
//! Asked by the TLS listener before a handshake: whoever connects and says nothing takes the places of one address, and
//! leaves the others theirs.

use crate::access::rates::network;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All places. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of them; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    address: IpAddr,
}

impl Places {
    /// A place for a connection from an address, if there is one.
    pub(super) fn take(&self, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let mut taken = self.lock();
        if taken.values().sum::<usize>() >= PLACES_MAX {
            return None;
        }
        let own = taken.entry(address).or_default();
        if *own >= ADDRESS_MAX {
            return None;
        }
        *own = own.saturating_add(1);
        drop(taken);
        Some(Place { places: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(own) = taken.get_mut(&self.address) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

/// Connections at once: each costs about 40 KiB and a descriptor. Those on the host's socket are not counted here.
const PLACES_MAX: usize = 512;
/// Of these, from one address.
const ADDRESS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn one_address_leaves_places_to_others_and_what_is_left_is_free_again() {
        let places = Places::default();
        let mut held: Vec<Place> = (0..200).filter_map(|_| places.take(address(1))).collect();
        assert_eq!(held.len(), ADDRESS_MAX);
        held.extend(
            (2..10)
                .flat_map(|last| (0..200).map(move |_| last))
                .filter_map(|last| places.take(address(last))),
        );
        assert_eq!(held.len(), PLACES_MAX);
        assert!(places.take(address(99)).is_none());
        drop(held);
        assert!(places.take(address(99)).is_some());
        assert!(places.lock().is_empty(), "who has gone is remembered");
    }
}
