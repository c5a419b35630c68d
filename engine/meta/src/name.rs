//! Kafka's rule for topic names: 1 to 249 of `a-z A-Z 0-9 . _ -`, not `.` or `..`.
//!
//! Kafka also warns when two names differ by `.` and `_` only, because its metric names would collide; ours do
//! not, so there is nothing to warn of.

/// The longest name, from Kafka: its file names append `-<partition>` and end within 255.
pub const NAME_BYTES_MAX: usize = 249;

/// Why `name` is not allowed, for people; `None` when it is.
#[must_use]
pub fn name_fault(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("it is empty".into());
    }
    if name == "." || name == ".." {
        return Some("'.' and '..' mean directories".into());
    }
    if let Some(odd) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
        return Some(format!("{odd:?} is not one of a-z A-Z 0-9 . _ -"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Some(format!("it has {} characters, at most {NAME_BYTES_MAX} are allowed", name.len()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rule() {
        for good in ["a", "orders.v1", "A_b-9", "...", &"x".repeat(249)] {
            assert_eq!(name_fault(good), None, "{good}");
        }
        for bad in ["", ".", "..", "a b", "naïve", "a/b", "a\0", &"x".repeat(250)] {
            assert!(name_fault(bad).is_some(), "{bad}");
        }
    }
}
