//! The memory of a transfer: so many buffers, made once and used again and again. Whoever has none
//! waits, which bounds both the memory and the number of parts that are read at once.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The buffers of one transfer.
#[derive(Clone, Debug)]
pub struct Buffers {
    turns: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A buffer in use; it goes back when it is dropped.
#[derive(Debug)]
pub struct Buffer {
    /// What it holds.
    pub bytes: Vec<u8>,
    idle: Arc<Mutex<Vec<Vec<u8>>>>,
    _turn: OwnedSemaphorePermit,
}

impl Buffers {
    /// So many.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self { turns: Arc::new(Semaphore::new(count)), idle: Arc::default() }
    }

    /// An empty buffer with room for so many bytes; who asks first has the first that is free. None
    /// when all is over.
    pub async fn take(&self, room: usize) -> Option<Buffer> {
        let turn = self.turns.clone().acquire_owned().await.ok()?;
        let mut bytes =
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        bytes.clear();
        bytes.reserve_exact(room);
        Some(Buffer { bytes, idle: self.idle.clone(), _turn: turn })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Before the turn is given back, so that the next finds it.
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_buffer_is_used_again_and_who_has_none_waits() {
        let buffers = Buffers::new(1);
        let mut first = buffers.take(8).await.unwrap();
        first.bytes.extend_from_slice(b"used");
        let place = first.bytes.as_ptr();
        let waiting = tokio::spawn({
            let buffers = buffers.clone();
            async move { buffers.take(4).await.unwrap() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        let second = waiting.await.unwrap();
        assert_eq!((second.bytes.as_ptr(), second.bytes.len()), (place, 0));
    }
}
