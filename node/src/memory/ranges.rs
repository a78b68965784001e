//! Ranges of lent memory, given out first fit.

/// A range of a lent slice; empty for those who hold none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct LentRange {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

impl LentRange {
    pub(crate) const EMPTY: LentRange = LentRange { start: 0, len: 0 };

    pub(crate) fn get<T>(self, all: &[T]) -> &[T] {
        let range = all.get(self.start as usize..(self.start + self.len) as usize);
        debug_assert!(range.is_some(), "what was lent is there");
        range.unwrap_or(&[])
    }

    pub(crate) fn get_mut<T>(self, all: &mut [T]) -> &mut [T] {
        let range = all.get_mut(self.start as usize..(self.start + self.len) as usize);
        debug_assert!(range.is_some(), "what was lent is there");
        range.unwrap_or(&mut [])
    }
}

/// The first gap of `len` between the ranges in use, below `end`.
pub(crate) fn reserve<I>(len: u32, end: usize, in_use: impl Fn() -> I) -> Option<LentRange>
where
    I: Iterator<Item = LentRange>,
{
    let overlaps = |start: u32| {
        let hit =
            move |r: &LentRange| r.start < start.saturating_add(len) && start < r.start + r.len;
        in_use().find(hit).map(|r| r.start + r.len)
    };
    let mut start = 0;
    while let Some(after) = overlaps(start) {
        start = after;
    }
    let last = start.checked_add(len)?;
    (last as usize <= end).then_some(LentRange { start, len })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_fit() {
        let r = |start, len| LentRange { start, len };
        let table = [
            (&[][..], 4, Some(r(0, 4))),
            (&[], 11, None),
            (&[r(0, 4)], 4, Some(r(4, 4))),
            (&[r(6, 4), r(0, 4)], 2, Some(r(4, 2))),
            (&[r(6, 4), r(0, 4)], 3, None),
            (&[r(2, 4), LentRange::EMPTY], 2, Some(r(0, 2))),
        ];
        for (used, len, expected) in table {
            let got = reserve(len, 10, || used.iter().copied());
            assert_eq!(got, expected, "{used:?} {len}");
        }
    }
}
