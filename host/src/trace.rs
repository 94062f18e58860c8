//! Where the time of a request goes: stations, both clocks, and how long the way to each station takes.
//!
//! Stations are stamped by sessions and store and kept by the store; histograms live in memory, from the
//! manager's start on. Trusts the guest's clock for the guest's own stations only, moved to the host's by the
//! handshake: the guest read its clock between our greeting and its hello.

use crate::access::{Scope, TenantName};
use doorbell_api::trace::{Bucket, Histogram, Passed, Station, Stations};
use doorbell_wire::ids::BootId;
use doorbell_wire::message::Stage;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// All stations, in their usual order.
pub const STATIONS: [Station; 13] = [
    Station::Accepted,
    Station::Durable,
    Station::Rung,
    Station::Pulled,
    Station::Offered,
    Station::Fetched,
    Station::Verified,
    Station::Journalled,
    Station::Started,
    Station::FirstOutput,
    Station::Exited,
    Station::Acknowledged,
    Station::Stored,
];

/// The number of a station in the data base.
#[must_use]
pub fn number(station: Station) -> u8 {
    let found = STATIONS.iter().position(|one| *one == station);
    found.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX)
}

/// The station with this number.
#[must_use]
pub fn from_number(number: u8) -> Option<Station> {
    STATIONS.get(usize::from(number)).copied()
}

/// The station that a guest's report is about; a reboot is none of its own.
#[must_use]
pub const fn station_of(stage: Stage) -> Option<Station> {
    match stage {
        Stage::Fetched => Some(Station::Fetched),
        Stage::Verified => Some(Station::Verified),
        Stage::Journalled => Some(Station::Journalled),
        Stage::Started => Some(Station::Started),
        Stage::Rebooting => None,
    }
}

/// One station of one request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    /// Which.
    pub station: Station,
    /// When, microseconds since the Unix epoch.
    pub at_us: u64,
    /// The guest's own time of it, and how far the two can be apart.
    pub guest: Option<GuestTime>,
}

/// A time of a guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GuestTime {
    /// Microseconds since its boot.
    pub us: u64,
    /// Microseconds by which its place on the host's clock can be wrong.
    pub error_us: u64,
}

impl Stamp {
    /// A station that the host itself saw.
    #[must_use]
    pub const fn host(station: Station, at_us: u64) -> Self {
        Self { station, at_us, guest: None }
    }
}

/// A guest's clock as one handshake showed it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The run of the guest's kernel that it counts from.
    pub boot: BootId,
    at_host_us: u64,
    at_guest_us: u64,
    error_us: u64,
}

impl Clock {
    /// The clock that stood at `guest_us` at some moment of the `took_us` microseconds since `greeted_us`.
    #[must_use]
    pub const fn aligned(boot: BootId, greeted_us: u64, took_us: u64, guest_us: u64) -> Self {
        let half = took_us.div_ceil(2);
        Self { boot, at_host_us: greeted_us.saturating_add(half), at_guest_us: guest_us, error_us: half }
    }

    /// A time that the guest tells at `now_us` of the host's clock, as far as it can have come by then.
    #[must_use]
    pub fn bounded(&self, guest_us: u64, now_us: u64) -> u64 {
        let passed = now_us.saturating_sub(self.at_host_us).saturating_add(self.error_us);
        guest_us.min(self.at_guest_us.saturating_add(passed))
    }

    /// A station of the guest on the host's clock.
    #[must_use]
    pub fn stamp(&self, station: Station, guest_us: u64) -> Stamp {
        let at_us = if guest_us >= self.at_guest_us {
            self.at_host_us.saturating_add(guest_us.saturating_sub(self.at_guest_us))
        } else {
            self.at_host_us.saturating_sub(self.at_guest_us.saturating_sub(guest_us))
        };
        let bounded = |number: u64| number.min(i64::MAX as u64);
        let guest = Some(GuestTime { us: bounded(guest_us), error_us: bounded(self.error_us) });
        Stamp { station, at_us: bounded(at_us), guest }
    }
}

/// How long requests took to each station from the one before it.
#[derive(Debug, Default)]
pub struct Histograms {
    // By owner. A tenant is a row of the data base, so there are no more of them than somebody has added.
    owners: Mutex<HashMap<Option<TenantName>, [Count; STATIONS.len()]>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    sum_us: u64,
    // One more than there are bounds: the last has none.
    buckets: [u64; BOUNDS_US.len() + 1],
}

impl Count {
    fn add(&mut self, other: &Self) {
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        for (sum, count) in self.buckets.iter_mut().zip(other.buckets) {
            *sum = sum.saturating_add(count);
        }
    }
}

impl Histograms {
    /// Counts the stations of a request that is over, given in the order of their times.
    pub fn count(&self, owner: Option<&TenantName>, passed: &[Passed]) {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let stations = owners.entry(owner.cloned()).or_default();
        for (before, here) in passed.iter().zip(passed.iter().skip(1)) {
            let took = here.at_us.saturating_sub(before.at_us);
            let bucket = BOUNDS_US.iter().position(|bound| took <= *bound).unwrap_or(BOUNDS_US.len());
            let Some(count) = stations.get_mut(usize::from(number(here.station))) else { continue };
            count.sum_us = count.sum_us.saturating_add(took);
            if let Some(bucket) = count.buckets.get_mut(bucket) {
                *bucket = bucket.saturating_add(1);
            }
        }
    }

    /// Those that the scope covers, cumulative.
    #[must_use]
    pub fn show(&self, scope: &Scope) -> Stations {
        let mut stations = [Count::default(); STATIONS.len()];
        let owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, counts) in owners.iter().filter(|(owner, _)| scope.covers(owner.as_ref())) {
            stations.iter_mut().zip(counts).for_each(|(sum, count)| sum.add(count));
        }
        drop(owners);
        let shown = STATIONS.into_iter().zip(stations).map(|(station, count)| show(station, &count));
        Stations { stations: shown.filter(|histogram| histogram.count > 0).collect() }
    }
}

fn show(station: Station, count: &Count) -> Histogram {
    let mut sum = 0_u64;
    let bounds = BOUNDS_US.iter().copied().map(Some).chain([None]);
    let buckets: Vec<_> = bounds
        .zip(count.buckets)
        .map(|(le_us, here)| {
            sum = sum.saturating_add(here);
            Bucket { le_us, count: sum }
        })
        .collect();
    Histogram { station, count: sum, sum_us: count.sum_us, buckets }
}

/// Upper bounds of the buckets, from what a wake-up takes to what a program may run.
const BOUNDS_US: [u64; 19] = [
    50,
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    10_000_000,
    60_000_000,
    600_000_000,
    3_600_000_000,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_station_has_a_number_of_its_own() {
        for station in STATIONS {
            assert_eq!(from_number(number(station)), Some(station));
        }
        assert_eq!(from_number(13), None);
    }

    #[test]
    fn a_guests_time_is_moved_by_the_midpoint_and_says_how_far_it_can_be_off() {
        let clock = Clock::aligned(BootId::new([1; 16]), 1_000_000, 501, 70);
        assert_eq!(clock.stamp(Station::Started, 70).at_us, 1_000_251);
        assert_eq!(clock.stamp(Station::Started, 100).at_us, 1_000_281);
        assert_eq!(clock.stamp(Station::Started, 0).at_us, 1_000_181, "before the handshake");
        assert_eq!(clock.stamp(Station::Started, 100).guest, Some(GuestTime { us: 100, error_us: 251 }));
        let far = clock.stamp(Station::Exited, u64::MAX);
        assert_eq!((far.at_us, far.guest.unwrap().us), (i64::MAX as u64, i64::MAX as u64));
    }

    #[test]
    fn histograms_are_cumulative_and_count_the_way_from_the_station_before() {
        let histograms = Histograms::default();
        let passed = |at: [u64; 3]| {
            [Station::Accepted, Station::Durable, Station::Pulled]
                .into_iter()
                .zip(at)
                .map(|(station, at_us)| Passed { station, at_us, guest_us: None })
                .collect::<Vec<_>>()
        };
        histograms.count(None, &passed([1_000, 1_050, 1_111]));
        histograms.count(None, &passed([1_000, 1_051, u64::MAX]));
        let shown = histograms.show(&Scope::All).stations;
        assert_eq!(
            shown.iter().map(|one| one.station).collect::<Vec<_>>(),
            [Station::Durable, Station::Pulled]
        );
        let durable = &shown[0];
        assert_eq!((durable.count, durable.sum_us), (2, 101));
        assert_eq!(durable.buckets[0], Bucket { le_us: Some(50), count: 1 });
        assert_eq!(durable.buckets[1], Bucket { le_us: Some(100), count: 2 });
        let last = shown[1].buckets.last().unwrap();
        assert_eq!((last.le_us, last.count), (None, 2));
        assert_eq!(shown[1].buckets[BOUNDS_US.len() - 1].count, 1);
    }
}
