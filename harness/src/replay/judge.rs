//! The verdict on one call.

use super::memory::Ours;
use super::untold::Untold;
use crate::trace::Returned;

/// What came of comparing one result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Judged {
    /// rumpvm returned what Linux returned.
    Agreed,
    /// It returned this instead.
    Disagreed {
        /// As a report shows it.
        rumpvm: String,
    },
    /// It cannot be compared.
    Untold(Untold),
    /// rumpvm has no such call.
    NotReplayed {
        /// What to count it under.
        what: String,
    },
}

impl Judged {
    /// Compares `ours` with what Linux returned.
    pub(super) fn of(linux: Returned, ours: Ours) -> Self {
        let ours = match ours {
            Ok(value) => Returned::Value(value),
            Err(errno) => Returned::Failed(errno),
        };
        if ours == linux { Self::Agreed } else { Self::Disagreed { rumpvm: ours.to_string() } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Errno;

    #[test]
    fn success_and_error_number_must_both_be_linuxs() {
        let (einval, enomem) = (Errno(22), Errno(12));
        assert_eq!(Judged::of(Returned::Value(0), Ok(0)), Judged::Agreed);
        assert_eq!(Judged::of(Returned::Failed(einval), Err(einval)), Judged::Agreed);
        for (linux, ours, told) in [
            (Returned::Value(0), Err(enomem), "ENOMEM"),
            (Returned::Failed(einval), Err(enomem), "ENOMEM"),
            (Returned::Failed(einval), Ok(0), "0"),
            (Returned::Value(0x7000_0000), Ok(0x7100_0000), "0x71000000"),
        ] {
            assert_eq!(Judged::of(linux, ours), Judged::Disagreed { rumpvm: told.into() });
        }
    }
}
