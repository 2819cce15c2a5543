//! One source file as a list of facts: the paths it names, and where `unsafe` and `cfg(target_*)` stand.
//!
//! Works on tokens, not on the syntax tree, so that what stands in the body of a macro counts like
//! everything else and what stands in a comment or a string does not. Code under `#[cfg(test)]` is
//! left out: tests may look down from anywhere.

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// Something in a source file that a rule may object to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fact {
    /// Line, from 1.
    pub(crate) line: usize,
    /// What stands there.
    pub(crate) what: What,
}

/// See [`Fact`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum What {
    /// A path of at least two parts, `use` groups written out; `super` and `self` are resolved to
    /// `crate::...`.
    Path(Vec<String>),
    /// The keyword `unsafe`.
    Unsafe,
    /// A condition on the target, by its name.
    Target(String),
    /// `#![no_std]`.
    NoStd,
}

/// All facts of `text`, the source of module `module` (its path below the crate's root).
pub(crate) fn facts(text: &str, module: &[String]) -> Result<Vec<Fact>> {
    let stream: TokenStream = text.parse().map_err(|error| anyhow!("not Rust: {error}"))?;
    let mut reader = Reader { module: module.to_vec(), facts: Vec::new() };
    reader.stream(stream);
    Ok(reader.facts)
}

struct Reader {
    module: Vec<String>,
    facts: Vec<Fact>,
}

impl Reader {
    fn stream(&mut self, stream: TokenStream) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at = self.item(&tokens, at);
        }
    }

    /// Takes what starts at `tokens[at]` and returns where the next thing starts.
    fn item(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        match &tokens[at] {
            TokenTree::Punct(punct) if punct.as_char() == '#' => self.attribute(tokens, at),
            TokenTree::Group(group) => {
                self.stream(group.stream());
                at + 1
            }
            TokenTree::Ident(name) if name == "unsafe" => {
                self.add(name.span().start().line, What::Unsafe);
                at + 1
            }
            TokenTree::Ident(name) if name == "mod" => self.module(tokens, at),
            TokenTree::Ident(_) => self.path(tokens, at, &[]),
            _ => at + 1,
        }
    }

    fn add(&mut self, line: usize, what: What) {
        self.facts.push(Fact { line, what });
    }

    /// `#[...]` or `#![...]`; skips the item behind `#[cfg(test)]`.
    fn attribute(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        let inner = is_punct(tokens.get(at + 1), '!');
        let place = if inner { at + 2 } else { at + 1 };
        let Some(TokenTree::Group(group)) = tokens.get(place) else { return at + 1 };
        let text = group.stream().to_string().replace(' ', "");
        let line = group.span_open().start().line;
        if inner && text == "no_std" {
            self.add(line, What::NoStd);
        }
        if text.starts_with("cfg") {
            self.conditions(group);
        }
        self.stream(group.stream());
        if text == "cfg(test)" && !inner { end_of_item(tokens, place + 1) } else { place + 1 }
    }

    /// Every word `target_*` in a condition, however deep.
    fn conditions(&mut self, group: &Group) {
        for token in group.stream() {
            match token {
                TokenTree::Ident(name) if name.to_string().starts_with("target_") => {
                    self.add(name.span().start().line, What::Target(name.to_string()));
                }
                TokenTree::Group(inner) => self.conditions(&inner),
                _ => {}
            }
        }
    }

    /// `mod name { ... }`: the body belongs to a module of its own.
    fn module(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
            (tokens.get(at + 1), tokens.get(at + 2))
        else {
            return at + 1;
        };
        self.module.push(name.to_string());
        self.stream(body.stream());
        self.module.pop();
        at + 3
    }

    /// The path that starts at `tokens[at]`, behind `prefix`.
    fn path(&mut self, tokens: &[TokenTree], mut at: usize, prefix: &[String]) -> usize {
        let mut parts = prefix.to_vec();
        let mut line = 0;
        loop {
            match tokens.get(at) {
                Some(TokenTree::Ident(name)) => {
                    line = name.span().start().line;
                    parts.push(name.to_string());
                }
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    self.group(group, &parts);
                    return at + 1;
                }
                Some(TokenTree::Punct(punct)) if punct.as_char() == '*' && !parts.is_empty() => {
                    parts.push("*".into());
                }
                _ => break,
            }
            at += 1;
            if !(is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')) {
                break;
            }
            at += 2;
        }
        if parts == ["cfg"]
            && is_punct(tokens.get(at), '!')
            && let Some(TokenTree::Group(group)) = tokens.get(at + 1)
        {
            self.conditions(group);
        }
        if parts.len() > 1 {
            let resolved = self.resolve(parts);
            self.add(line, What::Path(resolved));
        }
        at
    }

    /// `{a, b::c as d, self}` behind `prefix::`.
    fn group(&mut self, group: &Group, prefix: &[String]) {
        let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
        for one in tokens.split(|token| is_punct(Some(token), ',')) {
            if !one.is_empty() {
                self.path(one, 0, prefix);
            }
        }
    }

    /// Turns leading `self` and `super` into the path from the crate's root.
    fn resolve(&self, parts: Vec<String>) -> Vec<String> {
        let mut from = self.module.clone();
        let mut left = parts.as_slice();
        if !matches!(left[0].as_str(), "self" | "super") {
            return parts;
        }
        while let Some((first, rest)) = left.split_first() {
            match first.as_str() {
                "self" => {}
                "super" => drop(from.pop()),
                _ => break,
            }
            left = rest;
        }
        let root = std::iter::once("crate".to_string());
        root.chain(from).chain(left.iter().cloned()).collect()
    }
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

/// Where the item that starts at `at` ends: behind its braces, or behind its semicolon.
fn end_of_item(tokens: &[TokenTree], at: usize) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        other => is_punct(Some(other), ';'),
    };
    let length = tokens[at..].iter().position(ends).map_or(tokens.len() - at, |found| found + 1);
    at + length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str, module: &[&str]) -> Vec<String> {
        let module: Vec<String> = module.iter().map(|part| part.to_string()).collect();
        let all = facts(text, &module).expect("the test's source is Rust");
        let path = |fact: Fact| match fact.what {
            What::Path(parts) => Some(parts.join("::")),
            _ => None,
        };
        all.into_iter().filter_map(path).collect()
    }

    #[test]
    fn a_use_group_is_written_out() {
        let text = "use crate::{map::{Map, Entry as E}, phys::*};";
        assert_eq!(paths(text, &[]), ["crate::map::Map", "crate::map::Entry", "crate::phys::*"]);
    }

    #[test]
    fn super_is_resolved_from_the_module_that_says_it() {
        let text = "use super::super::map::Map; mod inner { fn f() { super::g::h() } }";
        assert_eq!(
            paths(text, &["fault", "copy"]),
            ["crate::map::Map", "crate::fault::copy::g::h"]
        );
    }

    #[test]
    fn macros_count_and_comments_strings_and_tests_do_not() {
        let text = r#"
            // crate::a::b
            /// [crate::c::d]
            fn f() { log!("crate::e::f", crate::g::h()); }
            #[cfg(test)] mod tests { use crate::i::j; }
            fn g() { crate::k::l() }
        "#;
        assert_eq!(paths(text, &[]), ["crate::g::h", "crate::k::l"]);
    }

    #[test]
    fn lines_and_keywords_are_found() {
        let text = "#![no_std]\nfn f() {\n unsafe { g() }\n}\n#[cfg(any(test, target_os = \"x\"))]\nfn h() {}";
        let all = facts(text, &[]).expect("the test's source is Rust");
        let expected = [
            Fact { line: 1, what: What::NoStd },
            Fact { line: 3, what: What::Unsafe },
            Fact { line: 5, what: What::Target("target_os".into()) },
        ];
        assert_eq!(all, expected);
    }
}
