//! What the rooms cost inside, in instructions: `millstream-micro`.
//!
//! Every [`Case`] works through a room's public face. callgrind counts its instructions, which no other load on the
//! machine changes, so figures of different days and machines can be compared; they say nothing of caches, of system
//! calls, or of instructions that valgrind does not know (AVX-512).
//!
//! - [`case`]: what a case is; [`cases`]: all of them; [`meter`]: what of a case is counted.
//! - [`callgrind`]: runs a case under valgrind.
//! - [`history`]: a line for each landing, and what has moved since the last; [`table`]: figures for people.
//! - [`command`]: the command line.
//! - `batches`, `node`: what cases work on.
#![forbid(unsafe_code)]

mod batches;
pub mod callgrind;
pub mod case;
pub mod cases;
pub mod command;
pub mod history;
pub mod meter;
mod node;
pub mod table;

pub use case::{Case, Step};
pub use meter::Meter;

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_works_and_has_a_name_of_its_own() {
        let cases = super::cases::all();
        let mut names: Vec<&str> = cases.iter().map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cases.len());
        for case in cases {
            case.try_out();
        }
    }
}
