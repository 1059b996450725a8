//! What was unpacked last is kept unpacked: a rollout is planned several times within seconds, from
//! the same spec, the same Deployment and the same two stored revisions.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, Weak},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{kinds::Packed, memory::lock};

/// The most packed bytes whose values are kept unpacked, which takes three to four times as much:
/// the specs, Deployments or revisions of some two hundred rollouts at once, or one of the largest.
const KEPT_MAX: usize = 1 << 20;

/// A packed value that everyone who reads it shares unpacked, as long as anyone keeps it.
pub struct Shareable<T> {
    packed: Packed<T>,
    unpacked: Mutex<Weak<T>>,
}

impl<T: Serialize + DeserializeOwned> Shareable<T> {
    /// Packs.
    ///
    /// # Errors
    /// When the value does not serialize.
    pub fn pack(value: &T) -> Result<Self, serde_json::Error> {
        Ok(Self { packed: Packed::pack(value)?, unpacked: Mutex::default() })
    }

    /// A hash of the value.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.packed.hash()
    }
}

/// The values that were unpacked last, the oldest first, with their packed sizes in bytes.
pub struct Recent<T>(Mutex<VecDeque<(Arc<T>, usize)>>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Serialize + DeserializeOwned> Recent<T> {
    /// The value, unpacked if nobody keeps it so.
    ///
    /// # Errors
    /// When what was packed does not come out again.
    pub fn unpack(&self, value: &Shareable<T>) -> Result<Arc<T>, serde_json::Error> {
        let mut shared = lock(&value.unpacked);
        if let Some(unpacked) = shared.upgrade() {
            return Ok(unpacked);
        }
        let unpacked = Arc::new(value.packed.unpack()?);
        *shared = Arc::downgrade(&unpacked);
        self.keep(unpacked.clone(), value.packed.size());
        Ok(unpacked)
    }

    fn keep(&self, value: Arc<T>, size: usize) {
        let mut kept = lock(&self.0);
        kept.push_back((value, size));
        let mut all: usize = kept.iter().map(|(_, size)| size).sum();
        while all > KEPT_MAX {
            all -= kept.pop_front().map_or(all, |(_, size)| size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_unpacked_lately_is_shared_and_large_values_push_each_other_out() {
        let recent = Recent::default();
        let [first, second] =
            ["a", "b"].map(|text| Shareable::pack(&text.repeat(KEPT_MAX * 2 / 3)).unwrap());
        let unpack = |value| recent.unpack(value).unwrap();
        let before = Arc::downgrade(&unpack(&first));
        assert!(Weak::ptr_eq(&before, &Arc::downgrade(&unpack(&first))));
        assert!(unpack(&second).starts_with('b'));
        assert!(before.upgrade().is_none(), "there is room for one of them");
        assert!(unpack(&first).starts_with('a'), "it is unpacked again");
    }

    #[test]
    fn a_value_that_is_larger_than_all_the_room_is_not_kept() {
        let recent = Recent::default();
        let large = Shareable::pack(&"a".repeat(KEPT_MAX + 1)).unwrap();
        let unpacked = Arc::downgrade(&recent.unpack(&large).unwrap());
        assert!(unpacked.upgrade().is_none());
    }
}
