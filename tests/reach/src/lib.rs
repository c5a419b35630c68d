//! Which rare paths a run of the simulator took. `reach::mark!("log.torn_tail_cut")` stands where something seldom
//! happens, never on the way that every request goes; [`take`] tells how often each mark was passed,
//! [`declared()`] which marks the sources hold. A mark that a long run never passes is a fault or a workload
//! that the simulator lacks, or code that cannot be reached.
//!
//! Product rooms depend on this tests room, because a mark has to stand beside the path it watches. Without the
//! feature `count` a mark is an empty block: nothing of it is left in a build, and only the simulator asks for the
//! feature. With it a mark is a count of its own in each thread: no locks, no names compared.
//!
//! Not here: whether a mark ought to be reached. That is the simulator's list.
#![forbid(unsafe_code)]

mod counts;
mod declared;

pub use counts::take;
#[doc(hidden)]
pub use counts::{Site, passed};
pub use declared::{Place, declared};

/// Counts that this path was taken. The name is `room.what_happened`, once in the house. With a condition, where no
/// branch of its own tells the path: counts when it holds. It is not computed at all without the feature, so it must
/// change nothing.
#[cfg(feature = "count")]
#[macro_export]
macro_rules! mark {
    ($name:literal) => {{
        ::std::thread_local! {
            static SITE: $crate::Site = const { $crate::Site::new($name) };
        }
        $crate::passed(&SITE);
    }};
    ($name:literal, $when:expr) => {
        if $when {
            $crate::mark!($name);
        }
    };
}

/// Counts that this path was taken, in a build with the feature `count`: not in this one.
#[cfg(not(feature = "count"))]
#[macro_export]
macro_rules! mark {
    ($name:literal) => {{}};
    ($name:literal, $when:expr) => {{}};
}
