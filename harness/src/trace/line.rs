//! One line: whose it is, and what kind of thing it reports.
//!
//! Flow:  text -> task, stamps, body -> [`Line`]. Arguments stay text; `call` reads them.
//!
//! The grammar of a line has no depth (brackets inside arguments are only skipped), so a cursor of
//! `strip_prefix` steps shows it more plainly than a set of parser combinators would.

use super::event::Bits;

/// What one line says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Line<'a> {
    /// The task, where the line names it.
    pub(super) pid: Option<u32>,
    /// What it did.
    pub(super) body: Body<'a>,
}

/// The kinds of line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Body<'a> {
    /// Nothing, a signal, or a remark of strace's that changes nothing.
    Idle,
    /// `name(args) = result`; `text` is what follows the name, its bracket included.
    Whole { name: &'a str, text: &'a str },
    /// `name(args <unfinished ...>`.
    Begun { name: &'a str, text: &'a str },
    /// `<... name resumed>rest) = result`.
    Resumed { name: &'a str, text: &'a str },
    /// `+++ exited with N +++`.
    Exited { status: i32 },
    /// `+++ killed by SIGX +++`.
    Killed { signal: &'a str },
    /// `+++ superseded by execve in pid N +++`.
    Superseded { by: u32 },
    /// `strace: Process N attached`.
    Attached { pid: u32 },
    /// `strace: Process N detached`.
    Detached { pid: u32 },
    /// `[ Process PID=N runs in 32 bit mode. ]`.
    Mode { pid: u32, bits: Bits },
    /// None of these.
    Foreign,
}

const UNFINISHED: &str = "<unfinished ...>";

/// Reads one line.
pub(super) fn read(text: &str) -> Line<'_> {
    if let Some(body) = remark(text.trim()) {
        return Line { pid: None, body };
    }
    let (pid, rest) = split_pid(text);
    Line { pid, body: body(skip_stamps(rest)) }
}

/// `[pid  123] `, `123  ` or, with `--decode-pids=comm`, `123<sort> `.
fn split_pid(text: &str) -> (Option<u32>, &str) {
    let (digits, bracketed) = match text.strip_prefix("[pid") {
        Some(rest) => (rest.trim_start(), true),
        None => (text.trim_start(), false),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let Ok(pid) = digits[..end].parse() else { return (None, text) };
    let rest = skip_name(&digits[end..]);
    match (bracketed, rest.strip_prefix(']'), rest.strip_prefix(' ')) {
        (true, Some(rest), _) | (false, _, Some(rest)) => (Some(pid), rest),
        _ => (None, text),
    }
}

/// Drops `<name>` in front of `text`.
fn skip_name(text: &str) -> &str {
    match text.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        Some((_, rest)) => rest,
        None => text,
    }
}

/// Drops what `-t`, `-r`, `-n` and `-i` print in front of a call.
fn skip_stamps(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        let stamp = if let Some(rest) = text.strip_prefix("(+") {
            rest.find(')').map(|end| "(+".len() + end + 1)
        } else if text.starts_with('[') {
            text.find(']').filter(|end| is_pointer(&text[1..*end])).map(|end| end + 1)
        } else {
            text.find(' ').filter(|end| is_time(&text[..*end]))
        };
        match stamp {
            Some(end) => text = &text[end..],
            None => return text,
        }
    }
}

/// `12:00:01`, `12:00:01.123456`, `0.000123`.
fn is_time(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_digit())
        && token.contains([':', '.'])
        && token.chars().all(|c| c.is_ascii_digit() || c == ':' || c == '.')
}

/// ` 59` (`-n`), `00007ff334d2cad7` or `????` (`-i`).
fn is_pointer(inside: &str) -> bool {
    let inside = inside.trim_start();
    !inside.is_empty() && inside.chars().all(|c| c.is_ascii_hexdigit() || c == '?')
}

fn body(text: &str) -> Body<'_> {
    if text.is_empty() || (text.starts_with("--- ") && text.ends_with(" ---")) {
        return Body::Idle;
    }
    // With `-k`, each call is followed by its stack, one ` > frame` a line.
    if text.starts_with("> ") {
        return Body::Idle;
    }
    if let Some(inside) = text.strip_prefix("+++ ").and_then(|rest| rest.strip_suffix(" +++")) {
        return end(inside);
    }
    if let Some(rest) = text.strip_prefix("<... ") {
        return resumed(rest);
    }
    remark(text).unwrap_or_else(|| call(text))
}

fn end(inside: &str) -> Body<'_> {
    if let Some(status) = inside.strip_prefix("exited with ") {
        return status.parse().map_or(Body::Foreign, |status| Body::Exited { status });
    }
    if let Some(rest) = inside.strip_prefix("killed by ") {
        let signal = rest.split(' ').next().unwrap_or(rest);
        return Body::Killed { signal };
    }
    match inside.strip_prefix("superseded by execve in pid ").map(str::parse) {
        Some(Ok(by)) => Body::Superseded { by },
        _ => Body::Foreign,
    }
}

fn resumed(rest: &str) -> Body<'_> {
    // Old releases put a blank before the bracket: `<... brk resumed> )`.
    match rest.split_once(" resumed>") {
        Some((name, text)) if is_call_name(name) => Body::Resumed { name, text },
        _ => Body::Foreign,
    }
}

fn call(text: &str) -> Body<'_> {
    let Some(open) = text.find('(') else { return Body::Foreign };
    let (name, rest) = text.split_at(open);
    if !is_call_name(name) {
        return Body::Foreign;
    }
    match rest.strip_suffix(UNFINISHED) {
        Some(text) => Body::Begun { name, text },
        None => Body::Whole { name, text: rest },
    }
}

fn is_call_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Remarks of strace's own.
fn remark(text: &str) -> Option<Body<'_>> {
    if let Some(inside) = text.strip_prefix("[ Process PID=") {
        return mode(inside);
    }
    let inside = text.strip_prefix("strace: ").unwrap_or(text);
    if let Some((pid, what)) = inside.strip_prefix("Process ").and_then(|rest| rest.split_once(' '))
        && let Ok(pid) = pid.parse()
    {
        return Some(match what.split(' ').next() {
            Some("attached") => Body::Attached { pid },
            Some("detached") => Body::Detached { pid },
            _ => Body::Idle,
        });
    }
    text.starts_with("strace: ").then_some(Body::Idle)
}

fn mode(inside: &str) -> Option<Body<'_>> {
    let (pid, what) = inside.split_once(" runs in ")?;
    let pid = pid.parse().ok()?;
    let bits = match what.split(' ').next()? {
        "32" => Bits::B32,
        _ => Bits::B64,
    };
    Some(Body::Mode { pid, bits })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRK: Body<'static> = Body::Whole { name: "brk", text: "(NULL) = 0x1000" };

    #[test]
    fn every_form_of_prefix_is_skipped() {
        for (text, pid) in [
            ("brk(NULL) = 0x1000", None),
            ("1234  brk(NULL) = 0x1000", Some(1234)),
            ("[pid  1234] brk(NULL) = 0x1000", Some(1234)),
            ("1234<sort> brk(NULL) = 0x1000", Some(1234)),
            ("23:46:06 brk(NULL) = 0x1000", None),
            ("[pid 7] 23:46:06.259262 brk(NULL) = 0x1000", Some(7)),
            ("1234  23:46:06.278343 (+     0.000000) brk(NULL) = 0x1000", Some(1234)),
            ("1234       0.000129 brk(NULL) = 0x1000", Some(1234)),
            ("     0.000129 brk(NULL) = 0x1000", None),
            ("1700000000.123456 brk(NULL) = 0x1000", None),
            ("23:46:06 [  59] [00007ff334d2cad7] brk(NULL) = 0x1000", None),
        ] {
            assert_eq!(read(text), Line { pid, body: BRK }, "{text}");
        }
    }

    #[test]
    fn every_kind_of_line_is_told_from_the_others() {
        for (text, body) in [
            ("", Body::Idle),
            ("--- SIGCHLD {si_signo=SIGCHLD, si_pid=5} ---", Body::Idle),
            ("--- stopped by SIGSTOP ---", Body::Idle),
            (" > /usr/lib/libc.so.6(brk+0xb) [0x10b]", Body::Idle),
            ("+++ exited with 3 +++", Body::Exited { status: 3 }),
            ("+++ killed by SIGSEGV +++", Body::Killed { signal: "SIGSEGV" }),
            ("+++ killed by SIGABRT (core dumped) +++", Body::Killed { signal: "SIGABRT" }),
            ("+++ superseded by execve in pid 9 +++", Body::Superseded { by: 9 }),
            ("strace: Process 12 attached", Body::Attached { pid: 12 }),
            ("Process 12 attached (waiting for parent)", Body::Attached { pid: 12 }),
            ("strace: Process 12 detached", Body::Detached { pid: 12 }),
            ("strace: exec: No such file", Body::Idle),
            ("[ Process PID=5 runs in 32 bit mode. ]", Body::Mode { pid: 5, bits: Bits::B32 }),
            ("fork( <unfinished ...>", Body::Begun { name: "fork", text: "( " }),
            ("<... fork resumed>) = 5", Body::Resumed { name: "fork", text: ") = 5" }),
            ("<... fork resumed> ) = 5", Body::Resumed { name: "fork", text: " ) = 5" }),
            ("hello, world", Body::Foreign),
            ("Error (code 3)", Body::Foreign),
            ("+++ exited with", Body::Foreign),
        ] {
            assert_eq!(read(text).body, body, "{text}");
        }
    }
}
