//! The arguments of one call: a bracket's text, cut at its commas, and what a piece can mean.
//!
//! Flow:  "(a, b|c, {d=1}) = 0" -> ["a", "b|c", "{d=1}"] and " = 0" -> numbers, flags, fields.
//!
//! Nothing is built for what nobody asks: a string or a structure is skipped as it stands, and only
//! the piece that a call needs is read.

use super::event::Reason;
use super::names::{self, Names};

/// The pieces of one bracket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Args<'a> {
    pieces: Vec<&'a str>,
}

/// Cuts `text`, which starts with a bracket, at the commas of that bracket's own level. Returns the
/// pieces and what follows the closing bracket, or `None` for that if it never closes.
pub(super) fn split(text: &str) -> (Args<'_>, Option<&str>) {
    let mut cursor = Cursor { text, at: 0 };
    let mut pieces = Vec::new();
    cursor.at = text.find(OPENING).map_or(text.len(), |open| open + 1);
    let mut depth = 0_usize;
    let mut start = cursor.at;
    while let Some(byte) = cursor.next() {
        match byte {
            b'"' => cursor.skip_string(),
            b'/' if cursor.peek() == Some(b'*') => cursor.skip_past("*/"),
            b'<' if cursor.opens_annotation() => cursor.skip_annotation(),
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' if depth > 0 => depth -= 1,
            b')' | b']' | b'}' => {
                push(&mut pieces, &text[start..cursor.at - 1]);
                return (Args { pieces }, Some(&text[cursor.at..]));
            }
            b',' if depth == 0 => {
                pieces.push(text[start..cursor.at - 1].trim());
                start = cursor.at;
            }
            _ => {}
        }
    }
    push(&mut pieces, &text[start.min(text.len())..]);
    (Args { pieces }, None)
}

const OPENING: [char; 3] = ['(', '[', '{'];

/// Adds the last piece, which is none at all if it is blank.
fn push<'a>(pieces: &mut Vec<&'a str>, last: &'a str) {
    let last = last.trim();
    if !last.is_empty() {
        pieces.push(last);
    }
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// Goes past the closing quote.
    fn skip_string(&mut self) {
        while let Some(byte) = self.next() {
            match byte {
                b'\\' => self.at += 1,
                b'"' => return,
                _ => {}
            }
        }
    }

    fn skip_past(&mut self, end: &str) {
        let rest = self.text.get(self.at..).unwrap_or("");
        self.at = rest.find(end).map_or(self.text.len(), |found| self.at + found + end.len());
    }

    /// Whether the `<` just read starts what `-y` appends to a descriptor (`3</lib/x.so>`), and is
    /// not part of a shift (`21<<MAP_HUGE_SHIFT`).
    fn opens_annotation(&self) -> bool {
        let before = self.text.as_bytes()[..self.at - 1].last();
        before.is_some_and(|byte| byte.is_ascii_alphanumeric()) && self.peek() != Some(b'<')
    }

    /// Goes past the `>` that ends an annotation. strace escapes one in a path; the one of `->`
    /// between the ends of a socket is not the end.
    fn skip_annotation(&mut self) {
        while let Some(byte) = self.next() {
            if byte == b'>' && self.text.as_bytes()[self.at - 2] != b'-' {
                return;
            }
        }
    }
}

impl<'a> Args<'a> {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.pieces.len()
    }

    /// Argument `index`, as it stands.
    pub(super) fn piece(&self, index: usize) -> Result<&'a str, Reason> {
        self.pieces.get(index).copied().ok_or(Reason::MissingArgument { index })
    }

    /// Argument `index`, a number or an address (`NULL` is 0).
    pub(super) fn number(&self, index: usize) -> Result<u64, Reason> {
        number(self.piece(index)?)
    }

    /// Argument `index`, names of `names` joined by `|`, or a number.
    pub(super) fn flags(&self, index: usize, names: &Names) -> Result<u64, Reason> {
        flags(self.piece(index)?, names)
    }

    /// The piece of the form `name=value`, if there is one.
    pub(super) fn field(&self, name: &str) -> Option<&'a str> {
        self.pieces.iter().find_map(|piece| piece.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Reads `12`, `-1`, `0x1f`, `017` or `NULL`, with or without a comment behind it.
pub(super) fn number(text: &str) -> Result<u64, Reason> {
    let text = without_comment(text);
    parse_number(text).ok_or_else(|| Reason::NotANumber { text: text.to_owned() })
}

fn parse_number(text: &str) -> Option<u64> {
    if text == "NULL" {
        return Some(0);
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok();
    }
    if let Some(negative) = text.strip_prefix('-') {
        return negative.parse::<u64>().ok().map(u64::wrapping_neg);
    }
    match text.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => u64::from_str_radix(octal, 8).ok(),
        _ => text.parse().ok(),
    }
}

/// Reads `A|B|0x80`, each name looked up in `names`; `2<<MAP_HUGE_SHIFT` is a shifted number.
pub(super) fn flags(text: &str, names: &Names) -> Result<u64, Reason> {
    without_comment(text).split('|').try_fold(0, |bits, part| {
        let part = part.trim();
        if let Some(bit) = names.value(part).or_else(|| parse_number(part)) {
            return Ok(bits | bit);
        }
        let shifted = part.split_once("<<").and_then(|(value, shift)| {
            let shift = u32::try_from(names::SHIFTS.value(shift)?).ok()?;
            parse_number(value)?.checked_shl(shift)
        });
        match shifted {
            Some(bit) => Ok(bits | bit),
            None => Err(Reason::UnknownName { name: part.to_owned() }),
        }
    })
}

/// `0x3e7 /* MADV_??? */` -> `0x3e7`.
fn without_comment(text: &str) -> &str {
    text.split_once("/*").map_or(text, |(value, _)| value).trim()
}

/// Takes a descriptor apart: its number, and the path that `-y` printed behind it.
pub(super) fn descriptor(text: &str) -> Result<(i32, Option<&str>), Reason> {
    let (value, name) = match text.split_once('<') {
        Some((value, rest)) => (value, rest.rsplit_once('>').map(|(name, _)| name)),
        None => (text, None),
    };
    Ok((number(value)? as i32, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> (Vec<&str>, Option<&str>) {
        let (args, rest) = split(text);
        (args.pieces, rest)
    }

    #[test]
    fn commas_cut_only_at_the_outer_level() {
        for (text, wanted, rest) in [
            ("() = 5", vec![], Some(" = 5")),
            ("(1, NULL) = 0", vec!["1", "NULL"], Some(" = 0")),
            (
                r#"("a\"b, ) = 5", ["x", "y"...], 0x7 /* 3 vars, 1 */) = 0"#,
                vec![r#""a\"b, ) = 5""#, r#"["x", "y"...]"#, "0x7 /* 3 vars, 1 */"],
                Some(" = 0"),
            ),
            (
                "({a=1, b=[2, 3]} => {c=[4]}, 88) = 9",
                vec!["{a=1, b=[2, 3]} => {c=[4]}", "88"],
                Some(" = 9"),
            ),
            ("(3</a, (b)>(deleted), 1) = 0", vec!["3</a, (b)>(deleted)", "1"], Some(" = 0")),
            (
                "(4<TCP:[1.2.3.4:5->6.7.8.9:10]>, 2<<MAP_HUGE_SHIFT) = 0",
                vec!["4<TCP:[1.2.3.4:5->6.7.8.9:10]>", "2<<MAP_HUGE_SHIFT"],
                Some(" = 0"),
            ),
            ("(3 ", vec!["3"], None),
            ("(\"never closed", vec!["\"never closed"], None),
        ] {
            assert_eq!(pieces(text), (wanted, rest), "{text}");
        }
    }

    #[test]
    fn numbers_and_flags_are_read_as_strace_prints_them() {
        assert_eq!(number("NULL"), Ok(0));
        assert_eq!(number("-1"), Ok(u64::MAX));
        assert_eq!(number("0x10 /* 35 vars */"), Ok(16));
        assert_eq!(number("0600"), Ok(0o600));
        assert!(number("xyz").is_err());
        assert_eq!(flags("PROT_READ|PROT_WRITE|0x80", &names::PROT), Ok(0x83));
        assert_eq!(flags("MAP_PRIVATE|21<<MAP_HUGE_SHIFT", &names::MAP), Ok(21 << 26 | 2));
        assert_eq!(flags("0x3e7 /* MADV_??? */", &names::ADVICE), Ok(999));
        assert_eq!(
            flags("PROT_READ|PROT_NEW", &names::PROT),
            Err(Reason::UnknownName { name: "PROT_NEW".into() })
        );
        assert_eq!(descriptor("3</memfd:x>(deleted)"), Ok((3, Some("/memfd:x"))));
        assert_eq!(descriptor("-1"), Ok((-1, None)));
    }
}
