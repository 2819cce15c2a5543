//! Progress: a bar while a part runs, and a line when it is done.
//!
//! The bar is drawn on standard error, and only if that is a terminal. Elsewhere the line alone is
//! written, so that a log shows how far a run has come.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::{self, Part};

/// Steps of a bar, more than a terminal has columns.
const STEPS: u64 = 1000;
const STYLE: &str = "{prefix:<12} {bar:32} {percent:>3} %  {elapsed}";
const TICK: Duration = Duration::from_millis(200);

/// Runs `part` under a bar called `name`; `part` is given what moves the bar, 0 to 1.
pub(super) fn shown<R>(name: &str, part: impl FnOnce(&(dyn Fn(f64) + Sync)) -> R) -> R {
    let style = ProgressStyle::with_template(STYLE).expect("the template is well formed");
    let bar = ProgressBar::new(STEPS).with_style(style).with_prefix(name.to_string());
    bar.enable_steady_tick(TICK);
    let result = part(&|share| bar.set_position((share * STEPS as f64) as u64));
    bar.finish_and_clear();
    result
}

/// Says on standard error what came of `part`, as one line and one more for each failure.
pub(super) fn tell(part: &Part) {
    let verdict = if part.passed() { "ok" } else { "FAILED" };
    let (rate, count) = (report::short(part.rate()), report::count(part.operations));
    let seconds = part.seconds;
    eprintln!("{:<12} {verdict:<6} {count} operations in {seconds:.1} s, {rate}/s", part.name);
    for failure in &part.failures {
        eprintln!("{:<12} {failure}", "");
    }
}
