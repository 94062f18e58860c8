//! How often somebody may call: a bucket that fills by itself, for each token, user and unknown address.
//!
//! Asked by the API's gate, for unknown callers behind the look for what they show. In memory and bounded:
//! when there are more callers than buckets, those that are full are forgotten, and who comes then shares one.

use super::Counted;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The buckets of all callers.
#[derive(Debug)]
pub struct Rates {
    known: Fill,
    buckets: Mutex<HashMap<Counted, Bucket>>,
}

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    /// Calls each second.
    pub per_second: NonZeroU32,
    /// Calls at once.
    pub burst: NonZeroU32,
}

/// A call too many.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TooMany {
    /// When the next one is taken.
    pub again_in: Duration,
    /// Whether it is the first of a row: the others need not be told of.
    pub is_first: bool,
}

/// What is left, in calls that were used and not forgiven yet.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    used: Duration,
    at: Instant,
    told: bool,
}

impl Fill {
    /// The time in which one call is forgiven.
    fn each(self) -> Duration {
        Duration::from_secs(1).checked_div(self.per_second.get()).unwrap_or_default()
    }

    fn whole(self) -> Duration {
        self.each().saturating_mul(self.burst.get())
    }
}

impl Rates {
    /// Buckets of this kind for callers that are known.
    #[must_use]
    pub fn new(known: Fill) -> Self {
        Self { known, buckets: Mutex::default() }
    }

    /// Counts a call.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn take(&self, whose: &Counted) -> Result<(), TooMany> {
        self.take_at(whose, Instant::now())
    }

    fn take_at(&self, whose: &Counted, now: Instant) -> Result<(), TooMany> {
        if *whose == Counted::Not {
            return Ok(());
        }
        let fill = self.fill(whose);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let key = place(&mut buckets, coarse(whose), now);
        let bucket = buckets.entry(key).or_insert(Bucket { used: Duration::ZERO, at: now, told: false });
        bucket.used = bucket.used.saturating_sub(now.saturating_duration_since(bucket.at));
        bucket.at = now;
        let used = bucket.used.saturating_add(fill.each());
        if used > fill.whole() {
            let is_first = !std::mem::replace(&mut bucket.told, true);
            return Err(TooMany { again_in: used.saturating_sub(fill.whole()), is_first });
        }
        (bucket.used, bucket.told) = (used, false);
        Ok(())
    }

    fn fill(&self, whose: &Counted) -> Fill {
        match whose {
            Counted::Not | Counted::Uid(_) | Counted::Principal(_) => self.known,
            Counted::Stranger(_) | Counted::Others => STRANGERS,
        }
    }
}

/// Where a caller is counted: in its own bucket, or in that of all the others.
fn place(buckets: &mut HashMap<Counted, Bucket>, whose: Counted, now: Instant) -> Counted {
    if buckets.len() < BUCKETS_MAX || buckets.contains_key(&whose) {
        return whose;
    }
    buckets.retain(|_, bucket| bucket.used > now.saturating_duration_since(bucket.at));
    if buckets.len() < BUCKETS_MAX { whose } else { Counted::Others }
}

/// An address as it is counted: whoever has one of a network of IPv6 has all of them.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

fn coarse(whose: &Counted) -> Counted {
    match whose {
        Counted::Stranger(address) => Counted::Stranger(network(*address)),
        Counted::Not | Counted::Uid(_) | Counted::Principal(_) | Counted::Others => whose.clone(),
    }
}

/// Calls that are not recognised: enough for a slip, too few for a search.
const STRANGERS: Fill =
    Fill { per_second: NonZeroU32::MIN.saturating_add(4), burst: NonZeroU32::MIN.saturating_add(49) };
/// Callers that are told apart: about a hundred bytes each.
const BUCKETS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn rates() -> Rates {
        let number = |number| NonZeroU32::new(number).unwrap();
        Rates::new(Fill { per_second: number(10), burst: number(20) })
    }

    fn token(number: usize) -> Counted {
        Counted::Principal(number.to_string())
    }

    #[test]
    fn a_caller_may_call_in_a_burst_and_then_as_fast_as_its_bucket_fills() {
        let (rates, begin) = (rates(), Instant::now());
        let taken = |whose: &Counted, at: Instant, tries: usize| {
            (0..tries).filter(|_| rates.take_at(whose, at).is_ok()).count()
        };
        assert_eq!(taken(&token(1), begin, 100), 20);
        assert_eq!(taken(&token(2), begin, 1), 1, "a neighbour waits for it");
        let refused = rates.take_at(&token(1), begin).unwrap_err();
        assert_eq!((refused.again_in, refused.is_first), (Duration::from_millis(100), false));
        assert_eq!(taken(&token(1), begin + Duration::from_secs(1), 100), 10);
        assert_eq!(taken(&token(1), begin + Duration::from_secs(3600), 100), 20, "no more than it holds");
        assert_eq!(taken(&Counted::Not, begin, 1000), 1000);
    }

    #[test]
    fn a_row_of_refusals_is_told_of_once() {
        let (rates, begin) = (rates(), Instant::now());
        let first =
            |at| (0..100).filter_map(|_| rates.take_at(&token(1), at).err()).filter(|no| no.is_first).count();
        assert_eq!(first(begin), 1);
        assert_eq!(first(begin + Duration::from_secs(1)), 1);
    }

    #[test]
    fn the_memory_is_bounded_and_who_is_quiet_is_forgotten() {
        let (rates, begin) = (rates(), Instant::now());
        for number in 0..2 * BUCKETS_MAX {
            let _ = rates.take_at(&token(number), begin);
        }
        assert_eq!(rates.buckets.lock().unwrap().len(), BUCKETS_MAX + 1, "who came late shares one");
        rates.take_at(&token(usize::MAX), begin + Duration::from_secs(60)).unwrap();
        assert_eq!(rates.buckets.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_whole_network_of_ipv6_is_one_stranger() {
        let (rates, begin) = (rates(), Instant::now());
        let stranger =
            |last: u16| Counted::Stranger(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, last).into());
        let taken = (0..1000).filter(|last| rates.take_at(&stranger(*last), begin).is_ok()).count();
        assert_eq!(taken, 50);
    }
}
