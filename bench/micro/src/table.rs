//! Counts as people read them.

use crate::callgrind::Cost;
use crate::history::{Landing, Move};

const HEAD: [&str; 3] = ["case", "instructions", "a record"];

/// One row; behind it how it stands to `last`, if that is given.
pub fn row(cost: &Cost, last: Option<&Landing>) -> String {
    let record = match cost.records {
        0 | 1 => String::new(),
        records => grouped(cost.instructions / u64::from(records)),
    };
    let moved = match last.map(|last| last.compare(cost)) {
        None => String::new(),
        Some(Move::New) => "new".to_owned(),
        Some(Move::Same { percent }) => format!("{percent:+.1} %"),
        Some(Move::Worse { percent }) => format!("{percent:+.1} %  WORSE"),
        Some(Move::Better { percent }) => format!("{percent:+.1} %  better"),
    };
    line([cost.name, &grouped(cost.instructions), &record], &moved)
}

pub fn head(last: Option<&Landing>) -> String {
    let against = last.map_or(String::new(), |last| format!("against {} of {}", last.commit, last.date));
    line(HEAD, &against)
}

fn line([name, instructions, record]: [&str; 3], behind: &str) -> String {
    format!("{name:<50}{instructions:>14}{record:>10}  {behind}").trim_end().to_owned()
}

/// 1234567 as 1 234 567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_shared_out_among_records() {
        let cost = Cost { name: "a/b", instructions: 1_234_567, records: 1000 };
        let row = row(&cost, None);
        assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["a/b", "1", "234", "567", "1", "234"]);
        assert_eq!([0, 12, 123, 1234].map(grouped), ["0", "12", "123", "1 234"]);
    }
}
