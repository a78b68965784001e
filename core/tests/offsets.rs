//! All formats are decoded at every offset. `tests/bare` does the same on a machine that needs aligned numbers.
#![allow(missing_docs)]

#[path = "offsets/mod.rs"]
mod offsets;

#[test]
fn bytes_are_read_at_every_offset() {
    offsets::all();
}
