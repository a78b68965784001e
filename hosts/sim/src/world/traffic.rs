//! Connections between hosts: how they begin and end, and the transfer of bytes.

use everseed_core::geometry::{BLOCK, PieceIndex};
use everseed_core::time::Instant;
use everseed_node::{BodySource, ConnId, Event, Have};

use super::{Happening, JITTER, LATENCY, SEND_BUFFER, World};
use crate::link::{End, Link, Pipe};
use crate::router::Nat;

impl World {
    pub(super) fn reach(&mut self, from: usize, conn: ConnId, to: usize) {
        if !self.hosts[from].alive {
            return;
        }
        let there = self
            .hosts
            .get(to)
            .is_some_and(|h| h.alive && h.profile.nat == Nat::Open);
        let now = Instant::from_micros(self.now);
        let accepted = if there && !self.apart(from, to) {
            let caller = self.hosts[from].addr;
            self.hosts[to].node.accept(now, caller)
        } else {
            None
        };
        let Some(accepted) = accepted else {
            return self.tell(from, Event::Closed(conn));
        };
        let end = |host, conn| End {
            host,
            conn,
            open: true,
            out: Pipe::default(),
            into: Pipe::default(),
            wants_to_send: false,
            queued: false,
        };
        let link = Link {
            ends: [end(from, conn), end(to, accepted)],
            latency: LATENCY + u64::from(self.rng.below(JITTER)),
        };
        let at = match self.free_links.pop() {
            Some(at) => at,
            None => {
                self.links.push(None);
                self.links.len() - 1
            }
        };
        self.links[at] = Some(link);
        self.hosts[from].reached.peer.get_or_insert(self.now);
        self.hosts[from].links.insert(conn.slot, (at, 0));
        self.hosts[to].links.insert(accepted.slot, (at, 1));
        self.drive(to);
        self.tell(from, Event::Connected(conn));
    }

    /// One end is closed. The other end notices it later.
    pub(super) fn cut(&mut self, link: usize, side: usize) {
        let Some(this) = self.links[link].as_mut() else {
            return;
        };
        this.ends[side].open = false;
        if this.ends[1 - side].open {
            let at = self.now + this.latency;
            self.at(at, Happening::HungUp(link, 1 - side));
        }
    }

    /// Reports to a node that a connection broke.
    pub(super) fn hang_up(&mut self, link: usize, side: usize) {
        let Some(this) = self.links[link].as_mut() else {
            return;
        };
        if !std::mem::take(&mut this.ends[side].open) {
            return;
        }
        let (host, conn) = (this.ends[side].host, this.ends[side].conn);
        self.hosts[host].links.remove(&conn.slot);
        if self.hosts[host].alive {
            self.tell(host, Event::Closed(conn));
        }
    }

    /// Moves a node's output into the send buffer of the socket, as much as fits.
    pub(super) fn transmit(&mut self, link: usize, side: usize) {
        let now = Instant::from_micros(self.now);
        loop {
            let Some(this) = self.links[link].as_mut() else {
                return;
            };
            let end = &mut this.ends[side];
            let room = SEND_BUFFER.saturating_sub(end.out.len());
            end.wants_to_send = room == 0;
            if !end.open || room == 0 {
                return;
            }
            let host = &mut self.hosts[end.host];
            let buffer = &mut self.buffer[..room];
            let len = host.node.transmit(now, end.conn, buffer, &mut self.bodies);
            if len == 0 {
                return;
            }
            for body in self
                .bodies
                .iter()
                .filter(|b| b.source == BodySource::Content)
            {
                let offset = body.span.offset;
                let piece = self.geometry.piece_at(offset).map_or(0, PieceIndex::get);
                let verified = match host.node.good(host.torrent) {
                    Have::All => true,
                    Have::Some(bits) => everseed_core::bits::get(bits, piece),
                    _ => false,
                };
                let good = verified && host.storage.is_good(offset);
                assert!(good, "seed {}: what was not verified is sent", self.seed);
            }
            let lies = host.profile.lies;
            let corrupt = lies > 0 && self.rng.below(lies) == 0;
            end.out.fill(&self.buffer, &self.bodies, len, corrupt);
            host.node.transmitted(now, end.conn, len);
            if !std::mem::replace(&mut end.queued, true) {
                host.row.push_back((link, side));
            }
            let host = end.host;
            self.send_next(host);
        }
    }

    /// Sends the next part from the end whose turn it is.
    pub(super) fn send_next(&mut self, host: usize) {
        if self.hosts[host].sending {
            return;
        }
        while let Some((link, side)) = self.hosts[host].row.pop_front() {
            let Some(this) = self.links[link].as_mut().filter(|l| l.ends[side].open) else {
                continue;
            };
            let latency = this.latency;
            let end = &mut this.ends[side];
            if end.host != host {
                continue;
            }
            let mut packet = Pipe::default();
            end.out.pass(&mut packet, BLOCK as usize + 13);
            end.queued = !end.out.is_empty();
            if end.queued {
                self.hosts[host].row.push_back((link, side));
            }
            let more = end.wants_to_send;
            let to = self.links[link]
                .as_ref()
                .map_or(0, |l| l.ends[1 - side].host);
            let len = packet.len() as u64;
            if len == 0 {
                continue;
            }
            let gone = self.now + len * 1_000_000 / self.hosts[host].profile.up;
            let took = len * 1_000_000 / self.hosts[to].profile.down;
            let arrived = (gone + latency).max(self.hosts[to].down_free + took);
            self.hosts[to].down_free = arrived;
            self.hosts[host].sending = true;
            self.at(gone, Happening::Sent(host));
            self.at(arrived, Happening::Arrive(link, 1 - side, packet));
            if more {
                self.transmit(link, side);
            }
            return;
        }
    }

    /// Gives a node the bytes that have arrived, and carries out its outputs.
    pub(super) fn read(&mut self, link: usize, side: usize) {
        let Some(this) = self.links[link].as_ref() else {
            return;
        };
        let host = this.ends[side].host;
        self.read_into(link, side);
        self.drive(host);
    }

    pub(super) fn read_into(&mut self, link: usize, side: usize) {
        let now = Instant::from_micros(self.now);
        while let Some(this) = self.links[link].as_mut() {
            let end = &mut this.ends[side];
            if !end.open || end.into.is_empty() {
                return;
            }
            let node = &mut self.hosts[end.host].node;
            let Some(space) = node.recv_space(end.conn) else {
                return;
            };
            let len = end.into.read(space);
            node.received(now, end.conn, len);
        }
    }
}
