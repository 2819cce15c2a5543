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
//! of its own, by which the compiler's complaints are told apart.

use std::ops::Range;

use anyhow::{Context, Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::list::Mutant;

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
    /// Who is responsible for which lines.
    lines: Vec<(Range<usize>, Blame)>,
    /// Outside of all functions: these cannot be switched.
    pub(super) outside: Vec<usize>,
}

/// Whose fault it is if a line does not compile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Blame {
    /// The mutant's.
    Mutant(usize),
    /// The switch's: none of these mutants can be switched.
    Switch(Vec<usize>),
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
            let first = schema.line();
            schema.text += " match crate::mutant::on() {\n";
            for (number, mutant, _) in &mine {
                let changed = mutant.apply(text, body.clone()).context("it lies inside")?;
                let first = schema.line();
                schema.text += &format!("{number} => {{\n{changed}\n}}\n");
                schema.lines.push((first..schema.line(), Blame::Mutant(*number)));
            }
            schema.text += &format!("_ => {{\n{}\n}}\n}}\n", &text[body.clone()]);
            let numbers = mine.iter().map(|(number, _, _)| *number).collect();
            // Behind the mutants, which come first for their own lines.
            schema.lines.push((first..schema.line(), Blame::Switch(numbers)));
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

    /// Who made `line`; nobody if it is as in the tree.
    pub(super) fn blame(&self, line: usize) -> Option<&Blame> {
        self.lines.iter().find(|(lines, _)| lines.contains(&line)).map(|(_, blame)| blame)
    }
}

/// What stands between the braces of each function that lies in no other function, as bytes.
fn bodies(text: &str) -> Result<Vec<Range<usize>>> {
    let stream: TokenStream = text.parse().map_err(|error| anyhow!("not Rust: {error}"))?;
    let mut bodies = Vec::new();
    collect(stream, &mut bodies);
    Ok(bodies)
}

fn collect(stream: TokenStream, bodies: &mut Vec<Range<usize>>) {
    // After `fn name`, until its body, or the semicolon of one that has none.
    let mut head = false;
    let mut tokens = stream.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(word) if word == "fn" => {
                // `fn(` is a type.
                head |= matches!(tokens.peek(), Some(TokenTree::Ident(_)));
            }
            TokenTree::Punct(mark) if mark.as_char() == ';' => head = false,
            TokenTree::Group(group) if head && group.delimiter() == Delimiter::Brace => {
                let (open, close) = (group.span_open(), group.span_close());
                bodies.push(open.byte_range().end..close.byte_range().start);
                head = false;
            }
            TokenTree::Group(group) if !head => collect(group.stream(), bodies),
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
        assert_eq!(schema.blame(5), Some(&Blame::Mutant(4)));
        assert_eq!(schema.blame(8), Some(&Blame::Mutant(5)));
        assert_eq!(schema.blame(11), Some(&Blame::Switch(vec![4, 5])));
        assert_eq!(schema.blame(1), None);
    }

    #[test]
    fn what_is_in_no_function_cannot_be_switched() {
        let schema = Schema::new(TEXT, &[(1, &mutant(1, 18..19, "-"))]).unwrap();
        assert_eq!((schema.outside, schema.text.as_str()), (vec![1], TEXT));
    }

    #[test]
    fn a_function_in_a_function_belongs_to_it() {
        let text = "fn a() { fn b() { c() } b() }\ntrait T { fn d(); fn e() {} }";
        let found: Vec<_> = bodies(text).unwrap().into_iter().map(|body| &text[body]).collect();
        assert_eq!(found, [" fn b() { c() } b() ", ""]);
    }
}
