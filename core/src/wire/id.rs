//! The ids of messages on the wire (BEP 3, 5, 6, 10).

pub(super) const CHOKE: u8 = 0;
pub(super) const UNCHOKE: u8 = 1;
pub(super) const INTERESTED: u8 = 2;
pub(super) const NOT_INTERESTED: u8 = 3;
pub(super) const HAVE: u8 = 4;
pub(super) const BITFIELD: u8 = 5;
pub(super) const REQUEST: u8 = 6;
pub(super) const PIECE: u8 = 7;
pub(super) const CANCEL: u8 = 8;
pub(super) const PORT: u8 = 9;
pub(super) const SUGGEST: u8 = 13;
pub(super) const HAVE_ALL: u8 = 14;
pub(super) const HAVE_NONE: u8 = 15;
pub(super) const REJECT: u8 = 16;
pub(super) const ALLOWED_FAST: u8 = 17;
pub(super) const EXTENDED: u8 = 20;

pub(super) fn is_known(id: u8) -> bool {
    matches!(id, CHOKE..=PORT | SUGGEST..=ALLOWED_FAST | EXTENDED)
}

/// Bytes between a message's id and its payload.
pub(super) fn fixed_len(id: u8) -> u32 {
    match id {
        HAVE | SUGGEST | ALLOWED_FAST => 4,
        REQUEST | CANCEL | REJECT => 12,
        PIECE => 8,
        PORT => 2,
        EXTENDED => 1,
        _ => 0,
    }
}
