//! The counts of this thread.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::thread::LocalKey;

/// One mark's count in one thread.
#[derive(Debug)]
pub struct Site {
    name: &'static str,
    count: Cell<u64>,
}

impl Site {
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, count: Cell::new(0) }
    }
}

thread_local! {
    /// Sites passed since the last `take`: at most one entry for each mark in the program.
    static PASSED: RefCell<Vec<&'static LocalKey<Site>>> = const { RefCell::new(Vec::new()) };
}

/// What a mark calls.
pub fn passed(site: &'static LocalKey<Site>) {
    let before = site.with(|site| site.count.replace(site.count.get() + 1));
    if before == 0 {
        PASSED.with_borrow_mut(|passed| passed.push(site));
    }
}

/// How often this thread passed each mark since it last asked; marks not passed are absent.
#[must_use]
pub fn take() -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    for site in PASSED.take() {
        let (name, count) = site.with(|site| (site.name, site.count.replace(0)));
        *counts.entry(name).or_insert(0) += count;
    }
    counts
}

#[cfg(all(test, feature = "count"))]
mod tests {
    use super::*;

    fn pass(often: bool) {
        crate::mark!("reach.came_by");
        crate::mark!("reach.came_often", often);
    }

    #[test]
    fn marks_passed_are_counted_once_and_in_order_of_their_names() {
        assert!(take().is_empty());
        for _ in 0..3 {
            pass(false);
        }
        pass(true);
        let counts: Vec<_> = take().into_iter().collect();
        assert_eq!(counts, [("reach.came_by", 4), ("reach.came_often", 1)]);
        assert!(take().is_empty());
        pass(false);
        assert_eq!(take().len(), 1);
    }

    #[test]
    fn a_thread_counts_for_itself() {
        pass(true);
        let others = std::thread::scope(|scope| scope.spawn(take).join().expect("counts"));
        assert!(others.is_empty());
        assert_eq!(take().len(), 2);
    }
}

#[cfg(all(test, not(feature = "count")))]
mod tests {
    use super::*;

    // What runs in a constant calls nothing and keeps nothing.
    const NOTHING: () = {
        crate::mark!("reach.never_counted");
        crate::mark!("reach.never_asked", there_is_no_such_function());
    };

    #[test]
    fn nothing_is_left_of_a_mark_without_the_feature() {
        let () = NOTHING;
        crate::mark!("reach.not_counted");
        assert!(take().is_empty());
    }
}
