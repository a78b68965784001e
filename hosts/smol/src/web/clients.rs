//! The HTTP clients that are being served, limited in number.
//!
//! Invariant: at most `most` connections. Beyond that the oldest connection of the address with the most is closed,
//! so an address that opens many idle connections displaces only its own.

use std::net::IpAddr;

use smol::Task;

/// The connections that are being served, the oldest first.
pub(crate) struct Clients {
    clients: Vec<(IpAddr, Task<()>)>,
    most: usize,
}

impl Clients {
    pub(crate) fn new(most: usize) -> Clients {
        Clients {
            clients: Vec::with_capacity(most),
            most,
        }
    }

    /// Adds a connection, which is dropped with its task.
    pub(crate) fn admit(&mut self, from: IpAddr, task: Task<()>) {
        self.clients.retain(|(_, task)| !task.is_finished());
        if self.clients.len() >= self.most
            && let Some(at) = self.least_useful()
        {
            let (from, _) = self.clients.remove(at);
            log::debug!("{from}: too many HTTP connections");
        }
        self.clients.push((from, task));
    }

    fn least_useful(&self) -> Option<usize> {
        let of_same = |ip: IpAddr| {
            self.clients
                .iter()
                .filter(|(other, _)| *other == ip)
                .count()
        };
        let all = self.clients.iter().enumerate();
        // Of equal ones `max_by_key` takes the last, which in reverse order is the oldest.
        all.rev()
            .max_by_key(|(_, (ip, _))| of_same(*ip))
            .map(|(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smol::LocalExecutor;
    use std::future::pending;

    #[test]
    fn a_crowd_makes_room_for_others() {
        let executor = LocalExecutor::new();
        let ip = |n: u8| IpAddr::from([192, 0, 2, n]);
        let mut web = Clients::new(32);
        let idle = || executor.spawn(pending());
        web.admit(ip(1), idle());
        for _ in 0..1000 {
            web.admit(ip(2), idle());
            assert!(web.clients.len() <= 32);
        }
        web.admit(ip(3), idle());
        let held = |n| web.clients.iter().filter(|(of, _)| *of == ip(n)).count();
        assert_eq!((held(1), held(2), held(3)), (1, 32 - 2, 1));
    }

    #[test]
    fn those_that_are_done_need_no_place() {
        let executor = LocalExecutor::new();
        let mut web = Clients::new(32);
        for _ in 0..2 * 32 {
            web.admit(IpAddr::from([192, 0, 2, 1]), executor.spawn(async {}));
            while executor.try_tick() {}
        }
        assert_eq!(web.clients.len(), 1);
    }
}
