//! Replays the trace of a real host to a new node, whose answers have to be those in the trace.

use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::time::Duration;

use everseed_core::time::Instant;
use everseed_heap::Heap;
use everseed_node::memory::{SCRATCH_MIN, Sizes};
use everseed_node::trace::{Call, Head, Input, Output, Player, VERSION};
use everseed_node::{Identity, Memory, Node};

/// The result of a replay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replay {
    /// The number of calls that were repeated.
    pub entries: u64,
    /// The number of bytes that peers sent.
    pub received: u64,
    /// The number of bytes that were sent to peers.
    pub sent: u64,
    /// The time from the first call to the last.
    pub span: Duration,
    /// Whether the last entry is incomplete, as in the trace of a host that was killed.
    pub cut_off: bool,
    /// The first answer that differs from the trace, and the calls before it.
    pub difference: Option<String>,
}

impl Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (entries, seconds) = (self.entries, self.span.as_secs_f64());
        let (received, sent) = (self.received, self.sent);
        writeln!(
            f,
            "{entries} calls in {seconds:.3} s, {received} bytes received, {sent} sent"
        )?;
        if self.cut_off {
            writeln!(f, "the trace ends within a call")?;
        }
        match &self.difference {
            None => writeln!(f, "the same answers"),
            Some(text) => f.write_str(text),
        }
    }
}

/// Repeats all calls in `trace` on a new node, up to the first answer that differs.
pub fn replay(trace: &[u8]) -> Result<Replay, String> {
    let head = postcard::take_from_bytes::<Head<'_>>(trace);
    let (head, mut rest) = head.map_err(|_| "this is no trace".to_owned())?;
    if head.version != VERSION {
        let version = head.version;
        return Err(format!("a trace of version {version}; this is {VERSION}"));
    }
    let identity = Identity {
        peer_id: head.peer_id,
        port: head.port,
        client: head.client.to_owned().leak(),
    };
    let mut node = Node::new(memory(head.sizes)?, identity, head.limits, head.seed);
    let mut away: Vec<_> = (0..head.sizes.blocks).map(|_| None).collect();
    let mut buffer = vec![0; LONGEST_TRANSMIT];
    let mut player = Player {
        away: &mut away,
        buffer: &mut buffer,
    };
    let mut replay = Replay {
        entries: 0,
        received: 0,
        sent: 0,
        span: Duration::ZERO,
        cut_off: false,
        difference: None,
    };
    let mut last = VecDeque::new();
    let mut first = None;
    while !rest.is_empty() {
        let entry: Call<'_> = match postcard::take_from_bytes(rest) {
            Ok((entry, tail)) => {
                rest = tail;
                entry
            }
            Err(postcard::Error::DeserializeUnexpectedEnd) => {
                replay.cut_off = true;
                break;
            }
            Err(error) => return Err(format!("call {}: {error}", replay.entries)),
        };
        replay.span = entry.at.since(*first.get_or_insert(entry.at));
        match entry.input {
            Input::Received(_, bytes) => replay.received += bytes.len() as u64,
            Input::Transmitted(_, len) => replay.sent += u64::from(len),
            _ => {}
        }
        last.push_back(line(replay.entries, entry.at, &entry.input, &entry.output));
        if last.len() > SHOWN {
            last.pop_front();
        }
        let output = player.play(&mut node, entry.at, &entry.input);
        replay.entries += 1;
        if output != entry.output {
            let shown: String = last.into_iter().collect();
            replay.difference = Some(format!("{shown}but here: {output:?}\n"));
            break;
        }
    }
    Ok(replay)
}

fn line(number: u64, at: Instant, input: &Input<'_>, output: &Output) -> String {
    let input: String = format!("{input:?}").chars().take(200).collect();
    let us = at.as_micros();
    format!("{number} at {us} us: {input} -> {output:?}\n")
}

/// Memory for the node, with the sizes in the trace. An error if they are not those of a real node.
fn memory(sizes: Sizes) -> Result<Memory<'static>, String> {
    if sizes.largest() > MOST || (sizes.scratch as usize) < SCRATCH_MIN {
        return Err("this is no trace: it is of a node that cannot be".to_owned());
    }
    Ok(Memory::lend(&sizes, &mut Heap))
}

/// The number of entries that are shown before a difference.
const SHOWN: usize = 10;

/// The most elements of one slice.
const MOST: u32 = 1 << 26;

/// The most bytes that a host gives at a time.
const LONGEST_TRANSMIT: usize = 1 << 20;
