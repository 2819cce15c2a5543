//! The report: one HTML file that needs nothing else, readable on a light screen and on a dark one.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::part::Part;
use super::svg::DrawError;
use super::{bars, curves, numbers, table};

const STYLE: &str = include_str!("style.css");

/// The report on `parts`; `about` says in a line what was run.
pub(super) fn page(parts: &[Part], about: &str) -> Result<String, DrawError> {
    let failed = parts.iter().filter(|part| !part.passed()).count();
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "rumpvm: " (about) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "rumpvm" }
                p { (about) }
                @if failed == 0 {
                    p.ok { "Every check passed in all " (parts.len()) " parts." }
                } @else {
                    p.failed { (failed) " of " (parts.len()) " parts failed." }
                    (failures(parts))
                }
                (numbers_table(parts))
                (plots(parts)?)
                (details(parts))
            }
        }
    };
    Ok(markup.into_string())
}

fn failures(parts: &[Part]) -> Markup {
    html! {
        ul {
            @for part in parts {
                @for failure in &part.failures { li { b { (part.name) } ": " (failure) } }
            }
        }
    }
}

fn numbers_table(parts: &[Part]) -> Markup {
    let cells = table::cells(parts);
    html! {
        h2 { "Numbers" }
        div.wide {
            table {
                thead { tr { @for title in &cells.head { th { (title) } } } }
                tbody {
                    @for row in &cells.rows { tr { @for cell in row { td { (cell) } } } }
                }
            }
        }
        p.note {
            "The columns between operations per second and file pages in count faults by kind; copied "
            "ones are copies on write, and the others are those that failed, as they must where a "
            "program tries what is forbidden. Peak is the most memory in use at once; tables are the page "
            "tables' share of it."
        }
    }
}

fn plots(parts: &[Part]) -> Result<Markup, DrawError> {
    let curves = parts.iter().map(curves::memory).collect::<Result<Vec<_>, _>>()?;
    Ok(html! {
        h2 { "Operations per second, on a logarithmic scale" }
        (PreEscaped(bars::rates(parts)?))
        h2 { "Faults by kind" }
        (PreEscaped(bars::faults(parts)?))
        h2 { "Memory over time" }
        p.note { "Blue: frames in use. Orange: the page tables among them." }
        div.grid { @for curve in &curves { (PreEscaped(curve)) } }
        h2 { "Page tables, of all memory in use" }
        (PreEscaped(bars::overhead(parts)?))
    })
}

fn details(parts: &[Part]) -> Markup {
    html! {
        h2 { "Details" }
        @for part in parts {
            details {
                summary { (part.name) }
                dl {
                    dt { "operations" } dd { (numbers::count(part.operations)) }
                    dt { "seconds" } dd { (format!("{:.2}", part.seconds)) }
                    dt { "page tables" } dd { (numbers::bytes(part.table_bytes)) }
                    @for detail in &part.details {
                        dt { (detail.what) } dd { (numbers::count(detail.count)) }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::parts;

    #[test]
    fn the_page_asks_for_nothing_from_outside() {
        let page = page(&parts(), "a test").expect("drawing in memory succeeds");
        let outside = ["src=", "href=", "@import", "url("];
        assert!(outside.iter().all(|needle| !page.contains(needle)));
    }

    #[test]
    fn names_are_escaped_and_every_part_is_drawn() {
        let page = page(&parts(), "a test").expect("drawing in memory succeeds");
        assert!(page.contains("&lt;server&gt;") && !page.contains("<server>"));
        assert_eq!(page.matches("<svg").count(), 3 + parts().len());
    }

    #[test]
    fn a_failure_is_told_with_its_part() {
        let mut parts = parts();
        parts[0].failures.push("frame 3 is in two places".into());
        let page = page(&parts, "a test").expect("drawing in memory succeeds");
        assert!(page.contains("frame 3 is in two places") && !page.contains("Every check passed"));
    }
}
