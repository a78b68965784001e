//! Look-ups on other threads that may wait for a disk: those of trackers' URLs.
//!
//! Invariant: at most [`PLACES`] threads look something up, whatever hangs. If a disk does not answer, its look-up fails,
//! and the thread keeps its place until the disk does. While all places are kept like that, other look-ups fail at once.

use std::cell::Cell;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use smol::Timer;
use smol::future::FutureExt;
use smol::lock::{Semaphore, SemaphoreGuardArc};

/// The places for look-ups.
#[derive(Clone, Debug)]
pub(super) struct Lookups {
    places: Arc<Semaphore>,
    /// The number of places that are kept by threads for which nobody waits any more.
    hung: Arc<AtomicUsize>,
}

impl Default for Lookups {
    fn default() -> Lookups {
        Lookups {
            places: Arc::new(Semaphore::new(PLACES)),
            hung: Arc::default(),
        }
    }
}

impl Lookups {
    /// Carries out `find` on another thread. `None` if `patience` ends first.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        find: impl FnOnce() -> T + Send + 'static,
        patience: impl Future<Output = ()>,
    ) -> Option<T> {
        if self.hung.load(Ordering::Relaxed) == PLACES {
            return None;
        }
        let taken = Cell::new(None);
        let found = async {
            let place = Arc::new(Place {
                _guard: self.places.acquire_arc().await,
                hung: Arc::clone(&self.hung),
                is_late: AtomicBool::new(false),
            });
            taken.set(Some(Arc::clone(&place)));
            let find = move || {
                let found = find();
                drop(place);
                found
            };
            Some(smol::unblock(find).await)
        };
        let late = async {
            patience.await;
            None
        };
        let found = found.or(late).await;
        if let (None, Some(place)) = (&found, taken.take()) {
            self.hung.fetch_add(1, Ordering::Relaxed);
            place.is_late.store(true, Ordering::Relaxed);
        }
        found
    }
}

/// The time that a disk has to answer. It may have to spin up first.
pub(super) async fn patience() {
    Timer::after(PATIENCE).await;
}

/// A place that is taken, by the thread and by whoever waits for it.
struct Place {
    _guard: SemaphoreGuardArc,
    hung: Arc<AtomicUsize>,
    /// Whether nobody waits any more.
    is_late: AtomicBool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if *self.is_late.get_mut() {
            self.hung.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The number of places.
const PLACES: usize = 2;

const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::mpsc::{Sender, channel};
    use std::thread;

    use super::*;

    /// A disk does not answer until `Sender` is dropped.
    fn hang(lookups: &Lookups) -> Sender<()> {
        let ((begun, begins), (answer, answers)) = (channel(), channel::<()>());
        let find = move || {
            begun.send(()).unwrap();
            let _ = answers.recv();
        };
        let until_it_hangs = async { begins.recv().unwrap() };
        assert_eq!(smol::block_on(lookups.run(find, until_it_hangs)), None);
        answer
    }

    #[test]
    fn a_disk_that_hangs_takes_two_threads() {
        let lookups = Lookups::default();
        let hung = |lookups: &Lookups| lookups.hung.load(Ordering::Relaxed);
        let look = || smol::block_on(lookups.run(|| 1, pending()));
        let first = hang(&lookups);
        assert_eq!((hung(&lookups), look()), (1, Some(1)));
        let second = hang(&lookups);
        assert_eq!((hung(&lookups), look()), (2, None));
        drop((first, second));
        while hung(&lookups) > 0 {
            thread::yield_now();
        }
        assert_eq!(look(), Some(1));
    }
}
