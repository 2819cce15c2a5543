//! A source file with all its mutants in it: each function has one body for each mutant, and a switch.
//!
//! ```text
//! fn double(x: u32) -> u32 {
//!     match crate::mutant::on() {
//!         1 => { 0 }
//!         2 => { x + x }
//!         _ => { x * 2 }
//!     }
//! }
//! ```
//!
//! So every kind of mutant is the same: a change of text. Works on tokens, as the layers do. Each body has lines
//! of its own, by which the compiler's complaints are told apart. Bodies of a function that returns `impl Iterator` have
//! a type each, so there each is one side of an `Either`, and all that follow are the other side.

use std::ops::Range;

use anyhow::{Context, Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::list::{Mutant, Returns};

/// The module `mutant` of the copy: reads once which mutant is on.
pub(super) const SWITCH: &str = r#"//! Which mutant is on.

extern crate std;

use core::sync::atomic::{AtomicU32, Ordering};

const UNREAD: u32 = u32::MAX;
static ON: AtomicU32 = AtomicU32::new(UNREAD);

#[inline]
pub(crate) fn on() -> u32 {
    match ON.load(Ordering::Relaxed) {
        UNREAD => read(),
        on => on,
    }
}

pub(crate) enum Either<A, B> {
    One(A),
    Other(B),
}

impl<A: Iterator, B: Iterator<Item = A::Item>> Iterator for Either<A, B> {
    type Item = A::Item;
    fn next(&mut self) -> Option<A::Item> {
        match self {
            Self::One(one) => one.next(),
            Self::Other(other) => other.next(),
        }
    }
}

#[cold]
fn read() -> u32 {
    let on = std::env::var("RUMPVM_MUTANT").map_or(0, |text| text.parse().unwrap());
    ON.store(on, Ordering::Relaxed);
    on
}
"#;

/// Says to `SWITCH` which mutant is on.
pub(super) const VARIABLE: &str = "RUMPVM_MUTANT";

/// A file with its mutants.
pub(super) struct Schema {
    pub(super) text: String,
    /// Lines of each mutant.
    lines: Vec<(Range<usize>, usize)>,
    /// In no function, or in one that the compiler runs: these cannot be switched.
    pub(super) outside: Vec<usize>,
}

impl Schema {
    /// Puts `mutants`, each with its number, into `text`.
    pub(super) fn new(text: &str, mutants: &[(usize, &Mutant)]) -> Result<Self> {
        let mut schema = Self { text: String::new(), lines: Vec::new(), outside: Vec::new() };
        let spans = mutants.iter().map(|(number, mutant)| {
            let span = mutant.span(text).with_context(|| format!("no such place: {}", mutant.name));
            Ok((*number, *mutant, span?))
        });
        let mut left = spans.collect::<Result<Vec<_>>>()?;
        let mut done = 0;
        for body in bodies(text)? {
            let inside = |span: &Range<usize>| body.start <= span.start && span.end <= body.end;
            let mine: Vec<_> = left.extract_if(.., |(_, _, span)| inside(span)).collect();
            if mine.is_empty() {
                continue;
            }
            schema.text += &text[done..body.start];
            schema.text += " match crate::mutant::on() {\n";
            for (before, (number, mutant, _)) in mine.iter().enumerate() {
                let changed = mutant.apply(text, body.clone()).context("it lies inside")?;
                let first = schema.line();
                schema.text += &arm(&number.to_string(), mutant.returns, before, true, &changed);
                schema.lines.push((first..schema.line(), *number));
            }
            let returns = mine[0].1.returns;
            schema.text += &arm("_", returns, mine.len(), false, &text[body.clone()]);
            schema.text += "}\n";
            done = body.end;
        }
        schema.text += &text[done..];
        schema.outside = left.iter().map(|(number, _, _)| *number).collect();
        Ok(schema)
    }

    /// The line that is written next.
    fn line(&self) -> usize {
        self.text.matches('\n').count() + 1
    }

    /// The mutant that `line` belongs to; none if it is as in the tree.
    pub(super) fn blame(&self, line: usize) -> Option<usize> {
        let found = self.lines.iter().find(|(lines, _)| lines.contains(&line));
        found.map(|(_, number)| *number)
    }
}

/// One arm of a switch, behind `before` others; `more` follow.
fn arm(pattern: &str, returns: Returns, before: usize, more: bool, body: &str) -> String {
    let Returns::Iterator = returns else { return format!("{pattern} => {{\n{body}\n}}\n") };
    let mut open = "crate::mutant::Either::Other(".repeat(before);
    if more {
        open += "crate::mutant::Either::One(";
    }
    let close = ")".repeat(before + usize::from(more));
    format!("{pattern} => {open}{{\n{body}\n}}{close},\n")
}

/// What stands between the braces of each function that lies in no other function and is not `const`, as bytes.
fn bodies(text: &str) -> Result<Vec<Range<usize>>> {
    let stream: TokenStream = text.parse().map_err(|error| anyhow!("not Rust: {error}"))?;
    let mut bodies = Vec::new();
    collect(stream, &mut bodies);
    Ok(bodies)
}

fn collect(stream: TokenStream, bodies: &mut Vec<Range<usize>>) {
    // After `fn name`, until its body, or the semicolon of one that has none.
    let mut head = false;
    let (mut fixed, mut word_before) = (false, String::new());
    let mut tokens = stream.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(word) if word == "fn" => {
                // `fn(` is a type.
                if matches!(tokens.peek(), Some(TokenTree::Ident(_))) {
                    (head, fixed) = (true, word_before == "const");
                }
            }
            TokenTree::Punct(mark) if mark.as_char() == ';' => head = false,
            TokenTree::Group(group) if head && group.delimiter() == Delimiter::Brace => {
                let (open, close) = (group.span_open(), group.span_close());
                if !fixed {
                    bodies.push(open.byte_range().end..close.byte_range().start);
                }
                head = false;
            }
            TokenTree::Group(group) if !head => collect(group.stream(), bodies),
            // `const unsafe fn` is a constant function too.
            TokenTree::Ident(word) if word != "unsafe" => word_before = word.to_string(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::list::tests::mutant;
    use super::*;

    const TEXT: &str =
        "const A: u32 = 1 + 1;\nimpl X {\n    fn f(g: fn(u32)) -> u32 { 1 + 2 }\n}\n";

    #[test]
    fn each_mutant_of_a_function_gets_a_body_and_the_old_one_stays() {
        let (minus, none) = (mutant(3, 33..34, "-"), mutant(3, 31..36, "0"));
        let schema = Schema::new(TEXT, &[(4, &minus), (5, &none)]).unwrap();
        let body = " match crate::mutant::on() {\n4 => {\n 1 - 2 \n}\n5 => {\n 0 \n}\n_ => {\n 1 + 2 \n}\n}\n";
        assert_eq!(schema.text, TEXT.replace(" 1 + 2 ", body));
        assert_eq!([1, 5, 8, 11].map(|line| schema.blame(line)), [None, Some(4), Some(5), None]);
    }

    #[test]
    fn bodies_that_have_a_type_each_are_sides_of_an_either() {
        let arm = |before, more| arm("1", Returns::Iterator, before, more, "x");
        let (one, other) = ("crate::mutant::Either::One(", "crate::mutant::Either::Other(");
        assert_eq!(arm(0, true), format!("1 => {one}{{\nx\n}}),\n"));
        assert_eq!(arm(1, true), format!("1 => {other}{one}{{\nx\n}})),\n"));
        assert_eq!(arm(2, false), format!("1 => {other}{other}{{\nx\n}})),\n"));
    }

    #[test]
    fn what_is_in_no_function_cannot_be_switched() {
        let schema = Schema::new(TEXT, &[(1, &mutant(1, 18..19, "-"))]).unwrap();
        assert_eq!((schema.outside, schema.text.as_str()), (vec![1], TEXT));
    }

    #[test]
    fn a_function_in_a_function_belongs_to_it_and_a_constant_one_to_the_compiler() {
        let text = "fn a() { fn b() { c() } b() }\ntrait T { fn d(); fn e() {} }\n\
            const fn f() { 0 }\nconst unsafe fn g() { 0 } unsafe fn h() { 1 }";
        let found: Vec<_> = bodies(text).unwrap().into_iter().map(|body| &text[body]).collect();
        assert_eq!(found, [" fn b() { c() } b() ", "", " 1 "]);
    }
}
