//! Where smol runs: everything that is rare and waits for the network (announces, names, the
//! built-in tracker's clients), as futures on the engine's own thread.
//!
//! The engine polls this executor when its [`Alarm`] was rung and never else, so that serving
//! blocks costs no scheduling. smol's reactor rings from its own thread.

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

/// Where futures are begun, for whoever does not poll them.
#[derive(Clone)]
pub(crate) struct Spawner(Rc<LocalExecutor<'static>>);

impl Spawner {
    /// Runs a future to its end, some time.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.0.spawn(future).detach();
    }
}

impl AsyncTasks {
    /// To begin futures elsewhere.
    pub(crate) fn spawner(&self) -> Spawner {
        Spawner(Rc::clone(&self.executor))
    }

    /// An executor without tasks that rings `alarm` when a task can go on.
    ///
    /// # Errors
    /// When smol's reactor cannot start. It would start with the first socket or timer otherwise, and
    /// end the process if descriptors are short just then.
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

    /// Runs a future to its end, some time.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.begin(future).detach();
    }

    /// Runs a future until its end or until the task is dropped.
    pub(crate) fn begin(&self, future: impl Future<Output = ()> + 'static) -> Task<()> {
        self.executor.spawn(future)
    }

    /// Lets every task that can go on do so.
    pub(crate) fn turn(&mut self) {
        // It never ends: `pending` is what it waits for.
        let _ = self
            .run
            .as_mut()
            .poll(&mut Context::from_waker(&self.waker));
    }
}
