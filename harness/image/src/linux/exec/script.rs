//! Scripts: files that name, after `#!`, the program that understands them.

use alloc::vec::Vec;

use rumpvm::sync::try_push;
use rumpvm_bare::Bare;
use rumpvm_files::Errno;

use super::{Words, clone};

/// The first line of a script.
pub(super) struct Script<'h> {
    interpreter: &'h [u8],
    /// The rest of the line, as one word.
    argument: Option<&'h [u8]>,
}

impl<'h> Script<'h> {
    /// The first line of a file that begins with `head`; `None` if it is no script.
    pub(super) fn parse(head: &'h [u8]) -> Result<Option<Self>, Errno> {
        /// Linux looks at so much (`BINPRM_BUF_SIZE`).
        const LOOKED_AT: usize = 256;
        let Some(line) = head.strip_prefix(b"#!") else { return Ok(None) };
        let line = &line[..line.len().min(LOOKED_AT - 2)];
        let end = line.iter().position(|byte| *byte == b'\n').unwrap_or(line.len());
        let line = line[..end].trim_ascii();
        let cut = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
        let (interpreter, argument) = line.split_at(cut);
        if interpreter.is_empty() {
            return Err(Errno::ENOEXEC);
        }
        let argument = Some(argument.trim_ascii()).filter(|argument| !argument.is_empty());
        Ok(Some(Self { interpreter, argument }))
    }

    /// The interpreter's path; its words are the line's, the script's path, and what the script was given.
    pub(super) fn rewrite(&self, path: Vec<u8>, words: &mut Words) -> Result<Vec<u8>, Errno> {
        let mut arguments = Vec::new();
        for word in [Some(self.interpreter), self.argument].into_iter().flatten() {
            try_push::<_, Bare>(&mut arguments, clone(word)?)?;
        }
        try_push::<_, Bare>(&mut arguments, path)?;
        for word in words.arguments.drain(..).skip(1) {
            try_push::<_, Bare>(&mut arguments, word)?;
        }
        words.arguments = arguments;
        clone(self.interpreter)
    }
}
