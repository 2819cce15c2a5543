//! Which file a recorded descriptor means. Opens are not recorded, so this is a guess that affects
//! what is shared, and no result.
//!
//! Flow:  descriptor -> its name (`-y`), or its number among those of its process -> file.
//! Owns:  the files that the recording names.

use std::collections::HashMap;
use std::sync::Arc;

use super::endless::EndlessFile;
use crate::trace::Descriptor;

/// The files that the recording names.
#[derive(Default)]
pub(super) struct Files {
    named: HashMap<Box<str>, Arc<EndlessFile>>,
}

/// The files that a process has open under numbers only; a forked child inherits them.
#[derive(Clone, Default)]
pub(super) struct Descriptors {
    open: HashMap<i32, Arc<EndlessFile>>,
}

/// Whether a mapping looks like the first one after an open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Opening {
    /// Private, from the start of the file, anywhere: how loaders begin with a file. The number has
    /// been reused for another file, most likely.
    Fresh,
    /// Anything else goes on with what the number meant before.
    Same,
}

impl Files {
    /// The file behind `descriptor`.
    pub(super) fn file(
        &mut self,
        open: &mut Descriptors,
        descriptor: &Descriptor,
        opening: Opening,
    ) -> Arc<EndlessFile> {
        let fresh = || Arc::new(EndlessFile::new());
        if let Some(name) = &descriptor.name {
            return self.named.entry(name.clone()).or_insert_with(fresh).clone();
        }
        if opening == Opening::Fresh {
            open.open.remove(&descriptor.number);
        }
        open.open.entry(descriptor.number).or_insert_with(fresh).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_one_file_and_a_number_until_it_is_reused() {
        let (mut files, mut open) = (Files::default(), Descriptors::default());
        let mut file = |number, name: Option<&str>, opening| {
            let descriptor = Descriptor { number, name: name.map(Box::from) };
            files.file(&mut open, &descriptor, opening)
        };
        let named = file(3, Some("/a"), Opening::Fresh);
        assert!(Arc::ptr_eq(&named, &file(4, Some("/a"), Opening::Fresh)));
        let numbered = file(3, None, Opening::Same);
        assert!(Arc::ptr_eq(&numbered, &file(3, None, Opening::Same)));
        assert!(!Arc::ptr_eq(&numbered, &file(3, None, Opening::Fresh)));
    }
}
