//! Fresh messages, in memory until they are delivered, as far as a number of bytes goes.
//!
//! When it is full newcomers stay out, since the oldest are wanted first.

use std::collections::HashMap;

use bytes::Bytes;

pub(super) struct Cache {
    messages: HashMap<u64, Cached>,
    bytes: usize,
    max: usize,
}

/// What a message takes beside its bytes: its record's header, an entry here, the allocator's own.
const OVERHEAD: usize = 256;

struct Cached {
    message: Bytes,
    /// Deliveries that still want it.
    wanted: usize,
}

impl Cache {
    pub fn new(max: usize) -> Cache {
        Cache { messages: HashMap::new(), bytes: 0, max }
    }

    pub fn put(&mut self, id: u64, message: &Bytes, wanted: usize) {
        if wanted > 0 && !self.messages.contains_key(&id) && self.bytes + message.len() + OVERHEAD <= self.max {
            self.bytes += message.len() + OVERHEAD;
            self.messages.insert(id, Cached { message: message.clone(), wanted });
        }
    }

    pub fn get(&self, id: u64) -> Option<Bytes> {
        self.messages.get(&id).map(|cached| cached.message.clone())
    }

    /// One delivery wants it no more.
    pub fn settled(&mut self, id: u64) {
        let Some(cached) = self.messages.get_mut(&id) else { return };
        cached.wanted -= 1;
        if cached.wanted == 0
            && let Some(gone) = self.messages.remove(&id)
        {
            self.bytes -= gone.message.len() + OVERHEAD;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_until_its_last_delivery_and_a_full_cache_takes_no_more() {
        let mut cache = Cache::new(10 + OVERHEAD);
        cache.put(1, &Bytes::from_static(b"12345678"), 2);
        cache.put(2, &Bytes::from_static(b"123"), 1);
        assert!(cache.get(2).is_none());
        cache.settled(1);
        assert!(cache.get(1).is_some());
        cache.settled(1);
        assert!(cache.get(1).is_none());
        cache.put(2, &Bytes::from_static(b"123"), 1);
        assert!(cache.get(2).is_some());
    }
}
