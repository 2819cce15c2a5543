//! Where a recording comes from: a file, packed or not, turned into lines of text.
//!
//! Flow:  path -> bytes -> (unpacked) bytes -> [`text`] -> logical lines.
//! Owns:  nothing; the caller keeps the text.

use std::borrow::Cow;
use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::TraceError;

/// How every gzip member starts (RFC 1952, 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// How much of a file must be free of NUL bytes to pass for text. strace escapes every byte that is
/// not printable, so the first page would be enough.
const TEXT_PROBE: usize = 4096;

/// What strace says in the middle of a line when a new task appears and its output is the terminal.
const ATTACHED_PREFIX: &str = "strace: Process ";
const ATTACHED_SUFFIX: &str = " attached";

/// Reads the recording at `path`, unpacks it if it is gzipped, and refuses what cannot be text.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, TraceError> {
    let raw = fs::read(path).map_err(|error| TraceError::Unreadable { why: error.to_string() })?;
    text(raw)
}

/// Unpacks `raw` if it is gzipped, and refuses what cannot be text.
pub(super) fn text(raw: Vec<u8>) -> Result<Vec<u8>, TraceError> {
    let bytes = if raw.starts_with(&GZIP_MAGIC) { unpack(&raw)? } else { raw };
    match bytes.iter().take(TEXT_PROBE).position(|byte| *byte == 0) {
        Some(offset) => Err(TraceError::Binary { offset }),
        None => Ok(bytes),
    }
}

fn unpack(raw: &[u8]) -> Result<Vec<u8>, TraceError> {
    let mut bytes = Vec::new();
    match MultiGzDecoder::new(raw).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => {
            Err(TraceError::Unpackable { why: error.to_string(), after: bytes.len() as u64 })
        }
    }
}

/// One line as strace meant it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Line<'a> {
    /// Number of the line of the file on which it starts, from 1.
    pub(super) number: u32,
    /// Number of the line on which it ends.
    pub(super) last: u32,
    /// Its text, without the line end and without notices that strace dropped into it.
    pub(super) text: Cow<'a, str>,
    /// Tasks that strace attached to in the middle of it.
    pub(super) attached: Vec<u32>,
}

/// Splits `bytes` into logical lines: where strace broke a line to say that it attached to a task,
/// the rest of that line is on the next one.
pub(super) fn lines(bytes: &[u8]) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    let mut open: Option<Line<'_>> = None;
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    for (index, raw) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
        let text = String::from_utf8_lossy(raw);
        let last = index as u32 + 1;
        let line = match open.take() {
            Some(mut start) => {
                start.text.to_mut().push_str(&text);
                Line { last, ..start }
            }
            None => Line { number: last, last, text, attached: Vec::new() },
        };
        match notice(&line.text) {
            Some((0, _)) | None => lines.push(line),
            Some((cut, pid)) => {
                let mut line = line;
                line.text.to_mut().truncate(cut);
                line.attached.push(pid);
                open = Some(line);
            }
        }
    }
    lines.extend(open);
    lines
}

/// Where in `text` a notice "strace: Process N attached" starts that reaches to its end, and N.
fn notice(text: &str) -> Option<(usize, u32)> {
    let body = text.strip_suffix(ATTACHED_SUFFIX)?;
    let cut = body.rfind(ATTACHED_PREFIX)?;
    let pid = body[cut + ATTACHED_PREFIX.len()..].parse().ok()?;
    Some((cut, pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_inside_a_line_is_taken_out_of_it() {
        let bytes = b"clone(flags=SIGCHLDstrace: Process 12 attached\n) = 12\nbrk(NULL) = 0x1000";
        let lines = lines(bytes);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].text, "clone(flags=SIGCHLD) = 12");
        assert_eq!(lines[0].attached, [12]);
        assert_eq!((lines[1].number, lines[1].text.as_ref()), (3, "brk(NULL) = 0x1000"));
    }

    #[test]
    fn a_notice_on_its_own_line_stays_a_line() {
        let lines = lines(b"strace: Process 12 attached\n");
        assert_eq!(lines[0].text, "strace: Process 12 attached");
        assert!(lines[0].attached.is_empty());
    }

    #[test]
    fn cut_gzip_and_binaries_are_refused() {
        let cut = vec![0x1f, 0x8b, 8, 0, 0, 0];
        assert!(matches!(text(cut), Err(TraceError::Unpackable { after: 0, .. })));
        assert_eq!(text(b"\x7fELF\0".to_vec()), Err(TraceError::Binary { offset: 4 }));
    }
}
