//! What one says of an arena when it is made, and what it says of itself.

/// Most sizes that are cached: one quantum, two, ...
pub const MAX_CACHES: usize = 16;
/// Which free segment is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fit {
    /// The first one of a list where all are large enough: in constant time, and good enough nearly always.
    Instant,
    /// The smallest that is large enough of the first list that has one.
    Best,
}

/// What an arena is like.
#[derive(Clone, Copy, Debug)]
pub struct ArenaSpec {
    /// What reports call it.
    pub name: &'static str,
    /// What everything is a multiple of; a power of two.
    pub quantum: u64,
    /// Which free segment is taken.
    pub fit: Fit,
    /// Sizes of which CPUs keep some at hand: 1 to so many quanta, at most [`MAX_CACHES`].
    pub cached: usize,
    /// A span that is wholly free goes back to the source only if so much stays free without it.
    pub spare: u64,
}

/// What an arena has, as of some moment, in units of what it is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArenaUsage {
    /// Of all spans.
    pub total: u64,
    /// Free, caches aside.
    pub free: u64,
    /// In quantum caches.
    pub cached: u64,
    /// Segments in use, those in caches included.
    pub allocated: u64,
    /// Frames of tags and tables.
    pub frames: u64,
}
