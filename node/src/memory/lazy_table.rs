//! A table whose slots are initialised one by one, when each is needed for the first time. The memory of the others is
//! not touched, so that an operating system does not provide it.

use core::mem::MaybeUninit;
use core::ops::{Index, IndexMut};

use crate::memory::ids::NONE;

/// Lent memory for a number of `T`s.
///
/// Invariant: the first `len` of `places` are made, and `spare` is for the others.
#[derive(Debug)]
pub(crate) struct LazyTable<'m, T> {
    places: &'m mut [Option<&'m mut T>],
    len: usize,
    spare: &'m mut [MaybeUninit<T>],
}

impl<'m, T> LazyTable<'m, T> {
    /// A table in `spare`, and in as many `places`, which say where each `T` is once there is one.
    /// At most 65,535 are used.
    pub(crate) fn new(
        spare: &'m mut [MaybeUninit<T>],
        places: &'m mut [Option<&'m mut T>],
    ) -> LazyTable<'m, T> {
        let len = spare.len().min(places.len()).min(usize::from(NONE));
        let (places, _) = places.split_at_mut(len);
        places.fill_with(|| None);
        LazyTable {
            places,
            len: 0,
            spare,
        }
    }

    /// Places that there can be.
    pub(crate) fn capacity(&self) -> usize {
        self.places.len()
    }

    /// Places that there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// One place more, if there is memory for it.
    pub(crate) fn push(&mut self, value: T) -> Option<usize> {
        let at = self.len;
        let place = self.places.get_mut(at)?;
        let (first, rest) = core::mem::take(&mut self.spare).split_first_mut()?;
        self.spare = rest;
        *place = Some(first.write(value));
        self.len += 1;
        Some(at)
    }

    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        self.places.get(at)?.as_deref()
    }

    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.places.get_mut(at)?.as_deref_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().map_while(Option::as_deref)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().map_while(Option::as_deref_mut)
    }
}

/// Bytes of a place.
pub(crate) const fn bytes_each<T>() -> usize {
    size_of::<T>() + size_of::<Option<&mut T>>()
}

impl<T> Index<usize> for LazyTable<'_, T> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        self.get(at).expect(NO_PLACE)
    }
}

impl<T> IndexMut<usize> for LazyTable<'_, T> {
    fn index_mut(&mut self, at: usize) -> &mut T {
        self.get_mut(at).expect(NO_PLACE)
    }
}

const NO_PLACE: &str = "a place that there is";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_made_one_by_one() {
        let mut spare = [const { MaybeUninit::uninit() }; 3];
        let mut places = [const { None }; 3];
        let mut table = LazyTable::new(&mut spare, &mut places);
        assert_eq!((table.len(), table.capacity()), (0, 3));
        assert!(table.get(0).is_none() && table.iter().next().is_none());
        for at in 0..3 {
            assert_eq!(table.push(10 * at), Some(at));
            assert_eq!(table.len(), at + 1);
        }
        assert_eq!(table.push(30), None);
        table[1] += 1;
        table.iter_mut().for_each(|value| *value += 1);
        assert!(table.iter().eq(&[1, 12, 21]));
        assert_eq!((table[2], table.get(3)), (21, None));
    }

    #[test]
    fn what_is_lent_less_of_is_the_limit() {
        for (spares, lent) in [(2, 5), (5, 2), (2, 2)] {
            let mut spare = [const { MaybeUninit::uninit() }; 5];
            let mut places = [const { None }; 5];
            let mut table = LazyTable::new(&mut spare[..spares], &mut places[..lent]);
            assert_eq!(table.capacity(), 2);
            while table.push(0).is_some() {}
            assert_eq!(table.len(), 2);
        }
    }
}
