//! How something is shared by those who need different amounts of it: equally, but for what some do not need, which
//! the others have.

/// The most that each may have of `total`, so that all together have no more, and nothing is left over while
/// somebody needs more; [`u64::MAX`] if everybody may have what it needs.
pub fn level<I: Iterator<Item = u64>>(total: u64, needs: impl Fn() -> I) -> u64 {
    let mut level = 0;
    loop {
        let (mut left, mut more) = (total, 0_u64);
        for need in needs() {
            match need <= level {
                true => left = left.saturating_sub(need),
                false => more = more.saturating_add(1),
            }
        }
        // Those who need less than an equal part leave more for the others each time.
        let Some(next) = left.checked_div(more) else {
            return u64::MAX;
        };
        if next <= level {
            return level;
        }
        level = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_some_do_not_need_the_others_have() {
        for (total, needs, most) in [
            (100, &[][..], u64::MAX),
            (100, &[0], u64::MAX),
            (100, &[100], u64::MAX),
            (100, &[101], 100),
            (100, &[50, 50], u64::MAX),
            (100, &[60, 50], 50),
            (100, &[1000, 10], 90),
            (100, &[1000, 1000, 10], 45),
            (100, &[30, 40, 1000], 35),
            (100, &[1000, 1, 20, 30], 49),
            (3, &[5, 5, 5, 5], 0),
            (0, &[5], 0),
            (u64::MAX, &[u64::MAX, u64::MAX], u64::MAX / 2),
        ] {
            assert_eq!(
                level(total, || needs.iter().copied()),
                most,
                "{total} for {needs:?}"
            );
        }
    }

    /// Whatever they need: all is used, or everybody has enough.
    #[test]
    fn all_is_used_and_no_more() {
        let mut seed = 1_u64;
        for _ in 0..2000 {
            let mut next = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                seed >> 40
            };
            let needs: [u64; 8] = core::array::from_fn(|_| next() >> (next() % 20));
            let total = next();
            let most = level(total, || needs.iter().copied());
            let all: u64 = needs.iter().map(|need| need.min(&most)).sum();
            assert!(all <= total, "{total} for {needs:?}");
            let enough = needs.iter().all(|need| *need <= most);
            assert!(enough || total - all < 8, "{total} for {needs:?}");
        }
    }
}
