//! The executor of smol's futures: rare work that waits for the network (announces, lookups of names, clients of the
//! built-in tracker), on the session's own thread.
//!
//! It is polled only when its [`Alarm`] was rung, so serving blocks costs no scheduling. smol's reactor rings from
//! its own thread.

use std::future::{Future, pending};
use std::io;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use smol::{Async, LocalExecutor, Task};

use crate::alarm::Alarm;

/// An executor that is polled by hand.
pub(crate) struct AsyncTasks {
    executor: Rc<LocalExecutor<'static>>,
    run: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
}

/// Starts futures on the executor; given to code that does not poll it.
#[derive(Clone)]
pub(crate) struct Spawner(Rc<LocalExecutor<'static>>);

impl Spawner {
    /// Runs a future to its end.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.0.spawn(future).detach();
    }
}

impl AsyncTasks {
    /// A handle that starts futures from elsewhere.
    pub(crate) fn spawner(&self) -> Spawner {
        Spawner(Rc::clone(&self.executor))
    }

    /// An executor without tasks. It rings `alarm` when a task can go on.
    ///
    /// # Errors
    /// If smol's reactor cannot start. Otherwise it would start with the first socket or timer, and end the process
    /// if file descriptors are short at that moment.
    pub(crate) fn new(alarm: Arc<Alarm>) -> io::Result<AsyncTasks> {
        let (socket, _) = UnixStream::pair()?;
        drop(Async::new(socket)?);
        let executor = Rc::new(LocalExecutor::new());
        let runner = Rc::clone(&executor);
        Ok(AsyncTasks {
            executor,
            run: Box::pin(async move { runner.run(pending()).await }),
            waker: Waker::from(alarm),
        })
    }

    /// Runs a future to its end.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.begin(future).detach();
    }

    /// Runs a future to its end, or until the returned task is dropped.
    pub(crate) fn begin(&self, future: impl Future<Output = ()> + 'static) -> Task<()> {
        self.executor.spawn(future)
    }

    /// Runs every task that can go on.
    pub(crate) fn turn(&mut self) {
        // `pending` never ends: the executor runs until no task can go on.
        let _ = self
            .run
            .as_mut()
            .poll(&mut Context::from_waker(&self.waker));
    }
}
