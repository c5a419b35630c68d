//! A Rust file as the rules see it: tokens and paths, without comments, literals and test code.

/// Words (identifiers, keywords, numbers) and single punctuation characters; `::` is one token.
pub type Tokens = Vec<String>;

/// Tokens of the whole file.
pub fn tokens(text: &str) -> Tokens {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let skipped = comment_bytes(rest).or_else(|| literal_bytes(rest));
        if let Some(bytes) = skipped {
            at += bytes;
        } else if is_word(rest[0]) {
            let bytes = rest.iter().take_while(|b| is_word(**b)).count();
            out.push(text[at..at + bytes].to_string());
            at += bytes;
        } else if rest.starts_with(b"::") {
            out.push("::".to_string());
            at += 2;
        } else {
            if rest[0].is_ascii_punctuation() {
                out.push(char::from(rest[0]).to_string());
            }
            at += 1;
        }
    }
    out
}

/// The same without items under `#[cfg(test)]` and functions under `#[test]`.
pub fn without_tests(tokens: &[String]) -> Tokens {
    let mut out = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let rest = &tokens[at..];
        if let Some(attribute) = test_attribute(rest) {
            at += attribute + item_tokens(&rest[attribute..]);
        } else {
            out.push(tokens[at].clone());
            at += 1;
        }
    }
    out
}

/// Modules declared as `#[cfg(test)] mod name;`: their files are test code.
pub fn test_modules(tokens: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    for at in 0..tokens.len() {
        let Some(attribute) = test_attribute(&tokens[at..]) else { continue };
        let rest = &tokens[at + attribute..];
        if let [word, name, end, ..] = rest
            && word == "mod"
            && end == ";"
        {
            out.push(name.clone());
        }
    }
    out
}

/// Every path of the text, trees of `use` taken apart: `std::{fs, net::{IpAddr}}` gives `std::fs` and
/// `std::net::IpAddr`. Single words count as paths of one segment.
pub fn paths(tokens: &[String]) -> Vec<Vec<String>> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let continues = at > 0 && tokens[at - 1] == "::";
        if is_word(tokens[at].as_bytes()[0]) && !continues {
            at += path_tree(&tokens[at..], &[], &mut out);
        } else {
            at += 1;
        }
    }
    out
}

/// Reads one path with its branches; returns the tokens it took.
fn path_tree(tokens: &[String], before: &[String], out: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    let mut at = 0;
    loop {
        match tokens.get(at) {
            Some(token) if is_word(token.as_bytes()[0]) || token == "*" => path.push(token.clone()),
            Some(token) if token == "{" && at > 0 => {
                return at + branches(&tokens[at..], &path, out);
            }
            Some(_) | None => break,
        }
        at += 1;
        if tokens.get(at).is_some_and(|token| token == "::") {
            at += 1;
        } else {
            break;
        }
    }
    out.push(path);
    at.max(1)
}

fn branches(tokens: &[String], path: &[String], out: &mut Vec<Vec<String>>) -> usize {
    let mut at = 1;
    while let Some(token) = tokens.get(at) {
        if token == "}" {
            return at + 1;
        }
        at += if token == "," { 1 } else { path_tree(&tokens[at..], path, out) };
    }
    at
}

/// Tokens of a `#[cfg(test)]` or `#[test]` at the start, or nothing.
fn test_attribute(tokens: &[String]) -> Option<usize> {
    const FORMS: &[&[&str]] = &[
        &["#", "[", "cfg", "(", "test", ")", "]"],
        &["#", "[", "test", "]"],
        &["#", "[", "cfg", "(", "all", "(", "test"],
    ];
    let form = FORMS.iter().find(|form| starts_with(tokens, form))?;
    Some(if form.last() == Some(&"]") { form.len() } else { group_tokens(&tokens[1..], "[", "]") + 1 })
}

/// Tokens up to the end of the item: its closing brace, or `;` before any brace.
fn item_tokens(tokens: &[String]) -> usize {
    for (at, token) in tokens.iter().enumerate() {
        if token == ";" {
            return at + 1;
        }
        if token == "{" {
            return at + group_tokens(&tokens[at..], "{", "}");
        }
    }
    tokens.len()
}

fn group_tokens(tokens: &[String], open: &str, close: &str) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        if token == open {
            depth += 1;
        } else if token == close {
            depth -= 1;
            if depth == 0 {
                return at + 1;
            }
        }
    }
    tokens.len()
}

pub fn starts_with(tokens: &[String], form: &[&str]) -> bool {
    tokens.len() >= form.len() && tokens.iter().zip(form).all(|(token, want)| token == want)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Bytes of a comment at the start; block comments nest.
fn comment_bytes(text: &[u8]) -> Option<usize> {
    if text.starts_with(b"//") {
        return Some(text.iter().position(|b| *b == b'\n').unwrap_or(text.len()));
    }
    if !text.starts_with(b"/*") {
        return None;
    }
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        if text[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += 1;
        }
    }
    Some(text.len())
}

/// Bytes of a string, raw string, byte string or character at the start. A lifetime is not a literal.
fn literal_bytes(text: &[u8]) -> Option<usize> {
    let prefix = [&b"br"[..], b"cr", b"b", b"c", b"r", b""].into_iter().find(|p| {
        let rest = &text[p.len().min(text.len())..];
        text.starts_with(p) && matches!(rest.first(), Some(b'"' | b'#' | b'\''))
    })?;
    let rest = &text[prefix.len()..];
    if prefix.ends_with(b"r") {
        return raw_string_bytes(rest).map(|bytes| prefix.len() + bytes);
    }
    match rest[0] {
        b'"' => Some(prefix.len() + quoted_bytes(rest, b'"')),
        b'\'' if is_char(rest) => Some(prefix.len() + quoted_bytes(rest, b'\'')),
        b'\'' => Some(prefix.len() + 1),
        _ => None,
    }
}

fn is_char(text: &[u8]) -> bool {
    let multi_byte = text.get(1).is_some_and(|b| !b.is_ascii());
    text.get(1) == Some(&b'\\') || text.get(2) == Some(&b'\'') || multi_byte
}

fn quoted_bytes(text: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

fn raw_string_bytes(text: &[u8]) -> Option<usize> {
    let hashes = text.iter().take_while(|b| **b == b'#').count();
    if text.get(hashes) != Some(&b'"') {
        return None;
    }
    let end: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = &text[hashes + 1..];
    let close = body.windows(end.len()).position(|w| w == end).unwrap_or(body.len());
    Some((hashes + 1 + close + end.len()).min(text.len()))
}

#[cfg(test)]
mod tests {
    use super::{paths, test_modules, tokens, without_tests};

    fn joined(text: &str) -> Vec<String> {
        paths(&tokens(text)).into_iter().map(|path| path.join("::")).collect()
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        let text = "// std::fs\n/* a /* std::fs */ b */ let x = \"std::fs \\\" y\"; let c = '\"'; r#\"tokio \" z\"# <'a> '{' b'{' q";
        assert_eq!(joined(text), ["let", "x", "let", "c", "a", "q"]);
    }

    #[test]
    fn trees_of_use_are_taken_apart() {
        let text = "use std::{fs, net::{IpAddr, UdpSocket}, io::*};";
        assert_eq!(joined(text), ["use", "std::fs", "std::net::IpAddr", "std::net::UdpSocket", "std::io::*"]);
    }

    #[test]
    fn test_items_are_left_out() {
        let text = "fn a() {} #[cfg(test)] mod tests { fn b() { x(); } } #[test] fn c() {} #[cfg(test)] mod d; fn e() {}";
        let kept = without_tests(&tokens(text)).join(" ");
        assert_eq!(kept, "fn a ( ) { } fn e ( ) { }");
        assert_eq!(test_modules(&tokens(text)), ["d"]);
    }
}
