//! The result behind a call: `= 0x7f..`, `= -1 ENOMEM (...)`, `= ?`.

use super::args;
use super::errno::Errno;
use super::event::{Reason, Returned};

/// Reads what follows the closing bracket of a call.
pub(super) fn read(text: &str) -> Result<Returned, Reason> {
    let bad = || Reason::NotAResult { text: text.trim().to_owned() };
    let value = text.trim().strip_prefix('=').ok_or_else(bad)?.trim();
    if value.starts_with('?') {
        return Ok(Returned::Nothing);
    }
    if let Some(failure) = value.strip_prefix("-1 ") {
        return failed(failure).ok_or_else(bad);
    }
    // A number in another PID namespace comes with the one that the lines use: `5 /* 77 in ... */`.
    if let Some((_, theirs)) = value.split_once("/*")
        && let Some((ours, _)) = theirs.trim().split_once(" in strace's PID NS")
    {
        return args::number(ours).map(Returned::Value).map_err(|_| bad());
    }
    let token = value.split([' ', '<']).next().unwrap_or(value);
    args::number(token).map(Returned::Value).map_err(|_| bad())
}

/// `ENOMEM (Cannot allocate memory)`, or `(errno 4095)` for a number without a name.
fn failed(text: &str) -> Option<Returned> {
    let token = text.split(' ').next()?;
    if let Some(errno) = Errno::from_name(token) {
        return Some(Returned::Failed(errno));
    }
    // strace knows two names for one number.
    if token == "ENOTSUP" {
        return Errno::from_name("EOPNOTSUPP").map(Returned::Failed);
    }
    let number = text.strip_prefix("(errno ")?.split(')').next()?;
    Some(Returned::Failed(Errno(number.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_result_is_read() {
        for (text, wanted) in [
            (" = 0", Returned::Value(0)),
            ("      = 0x7f80ebaab000", Returned::Value(0x7f80_ebaa_b000)),
            (" = 0x1000 <0.000123>", Returned::Value(0x1000)),
            (" = 3</lib/x.so>", Returned::Value(3)),
            (" = 2 /* 5222 in strace's PID NS */", Returned::Value(5222)),
            (" = -1 ENOMEM (Cannot allocate memory)", Returned::Failed(Errno(12))),
            (" = -1 EINVAL (Invalid argument) <0.000003>", Returned::Failed(Errno(22))),
            (
                " = -1 EAGAIN (Resource temporarily unavailable) (INJECTED)",
                Returned::Failed(Errno(11)),
            ),
            (" = -1 (errno 4095)", Returned::Failed(Errno(4095))),
            (" = ?", Returned::Nothing),
            (" = ? ERESTARTSYS (To be restarted if SA_RESTART is set)", Returned::Nothing),
            (" = ? <unavailable>", Returned::Nothing),
        ] {
            assert_eq!(read(text), Ok(wanted), "{text}");
        }
        for text in ["", " 0", " = ", " = -1 ENEW (?)", " = zero"] {
            assert!(matches!(read(text), Err(Reason::NotAResult { .. })), "{text}");
        }
    }
}
