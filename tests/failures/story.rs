//! How a case ended: whose panic it was, and what it says.
//!
//! Flow:  panic -> our hook, which notes place and words for the thread of the host -> [`of`].
//!
//! A panic in a file of `rumpvm-cases` is an expectation of the case; one anywhere else is a broken invariant of
//! the component or its home.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind, resume_unwind};
use std::sync::Once;

use rumpvm_cases::Case;
use rumpvm_platform::Platform;

/// Where the cases are.
const CASES: &str = "harness/cases/src/";

/// How errors look that tell of a failure, by name and by number; a stack that cannot grow is not mapped.
const TOLD: [&str; 10] = [
    "NoMemory",
    "Again",
    "Pager",
    "Io(",
    "no memory",
    "Unmapped",
    "Err(5)",
    "Err(11)",
    "Err(12)",
    "Err(14)",
];

/// Subjects, and cases of others, in which a failure is not told by an error, each with its reason.
const SILENT: [(&str, &str, &str); 18] = [
    ("frames", "", "it looks at the numbers of frames, not at a call"),
    ("brk", "", BREAK),
    ("tables", "a_heap_grown_under_a_shared_table_is_not_seen_by_the_other_side", BREAK),
    ("file_private", "neighbours_that_are_in_memory_come_with_one_fault", AHEAD),
    ("madvise", "willneed_reads_the_file", AHEAD),
    ("mmap", "populate_brings_every_page_in", AHEAD),
    ("mmap", "memory_that_may_go_is_for_no_child_no_dump_and_no_lock", AHEAD),
    ("mlock", "memory_that_cannot_be_brought_in_is_an_error", AHEAD),
    (
        "remap_file_pages",
        "the_pages_are_brought_in_unless_nobody_is_to_wait_or_all_is_locked_on_fault",
        AHEAD,
    ),
    ("limits", "rights_change_up_to_the_area_that_would_be_too_much_data", LIMIT),
    ("mmap", "replacing_a_shared_file_mapping_writes_it", UNMAPPED),
    ("file_shared", "a_file_stays_in_memory_while_one_mapping_is_left", UNMAPPED),
    ("file_shared", "a_store_before_fork_through_a_shared_mapping_is_written", UNMAPPED),
    ("file_shared", "closing_the_file_leaves_its_mappings_working", UNMAPPED),
    ("file_shared", "what_was_stored_is_written_when_the_last_user_leaves", UNMAPPED),
    ("seals", "a_file_is_read_and_written_through_its_pages", SHORT),
    ("mlock", "everything_is_locked_now_or_from_now_on", BREAK),
    ("mlock", "what_is_mapped_under_a_lock_on_the_future_obeys_the_limit", BREAK),
];
const SHORT: &str = "a read that fails after some bytes tells how many there were, as read(2) does";
const LIMIT: &str = "want of memory has the number that the limit has, which is expected";
const BREAK: &str = "the answer of brk is where the end is";
const AHEAD: &str = "pages that are brought in ahead of their use need not come";
const UNMAPPED: &str = "unmapping cannot tell of a write that failed; the pages are kept";

thread_local! {
    static LISTENING: Cell<bool> = const { Cell::new(false) };
    static HEARD: RefCell<Option<Story>> = const { RefCell::new(None) };
}

/// A panic.
pub(crate) struct Story {
    file: String,
    line: u32,
    words: String,
}

impl Story {
    fn new(info: &PanicHookInfo<'_>) -> Self {
        let (file, line) = info.location().map_or(("", 0), |at| (at.file(), at.line()));
        let words = info.payload_as_str().unwrap_or("without words").to_owned();
        Self { file: file.to_owned(), line, words }
    }

    /// Whether it was an expectation of a case, and not one that all is sound.
    fn is_expectation(&self) -> bool {
        self.file.starts_with(CASES) && !self.words.contains("Broken(")
    }

    /// Fails unless `case` ended because it was told of the one failure that there was.
    pub(crate) fn assert_told<P: Platform>(&self, case: &Case<P>, what: &str) {
        let silent = |(subject, name, _): &(&str, &str, &str)| {
            *subject == case.subject && (name.is_empty() || *name == case.name)
        };
        let told = TOLD.iter().any(|word| self.words.contains(word));
        assert!(
            told || SILENT.iter().any(silent),
            "{what}: {self}\nThe case ended, and nobody had told it of a failure. If no promise is broken, \
             `SILENT` in tests/failures/story.rs is the place for it, with the reason.",
        );
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.words)
    }
}

/// Runs `work`; how it ended, if not well. What is broken goes on as a panic.
pub(crate) fn of(work: impl FnOnce()) -> Option<Story> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !LISTENING.get() {
                return usual(info);
            }
            let story = Story::new(info);
            if !story.is_expectation() {
                usual(info);
            }
            // The first one is the reason.
            HEARD.with_borrow_mut(|heard| heard.get_or_insert(story).line);
        }));
    });
    LISTENING.set(true);
    let ended = catch_unwind(AssertUnwindSafe(work));
    LISTENING.set(false);
    let story = HEARD.take();
    match (ended, story) {
        (Ok(()), _) => None,
        (Err(_), Some(story)) if story.is_expectation() => Some(story),
        (Err(payload), _) => resume_unwind(payload),
    }
}
