//! What is read at every address; on machines that cannot read a number at any, too.
#![allow(missing_docs)]

#[path = "offsets/mod.rs"]
mod offsets;

#[test]
fn bytes_are_read_at_every_offset() {
    offsets::all();
}
