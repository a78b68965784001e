//! [`broken`] reports that an invariant of this crate does not hold.

/// Names what should have been there. With debug assertions, as in tests and simulations, that is a panic. Without,
/// it is logged and the one thing at hand is left out: no peer may end the process.
#[cold]
#[track_caller]
pub(crate) fn broken(what: &str) {
    debug_assert!(false, "there should be {what}");
    let at = core::panic::Location::caller();
    log::error!("a mistake in everseed, at {at}: there should be {what}");
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "there should be a mistake"))]
    fn is_loud_in_tests() {
        super::broken("a mistake");
    }
}
