//! Places: in which file and line the instructions of a case were spent.
//!
//! Most functions of the component are inlined into few, so functions say little; lines do, since callgrind knows
//! for each instruction the line that it was compiled from.

use std::collections::HashMap;
use std::fs;

use crate::callgrind::Count;

/// Instructions of one file, and of its lines.
#[derive(Default)]
struct File {
    total: u64,
    lines: HashMap<u64, u64>,
}

/// The files in which most instructions of one piece of work were spent, each with its costliest lines.
pub(crate) fn table(count: &Count, most: usize) -> String {
    let text = fs::read_to_string(&count.dump).unwrap_or_default();
    let mut files: Vec<(String, File)> = collect(&text).into_iter().collect();
    files.sort_by_key(|(name, file)| (u64::MAX - file.total, name.clone()));
    let each = |cost: u64| cost as f64 / count.operations as f64;
    let mut told = String::new();
    for (name, file) in files.iter().take(most) {
        if each(file.total) < 0.05 {
            break;
        }
        let mut lines: Vec<(u64, u64)> = file.lines.iter().map(|(at, cost)| (*cost, *at)).collect();
        lines.sort_unstable_by(|a, b| b.cmp(a));
        let lines = lines.iter().take(6).filter(|(cost, _)| each(*cost) >= 0.05);
        let lines: Vec<String> =
            lines.map(|(cost, at)| format!("{at}: {:.1}", each(*cost))).collect();
        told +=
            &format!("    {:8.1}  {:<42} {}\n", each(file.total), short(name), lines.join("  "));
    }
    told
}

/// The functions in which most instructions of one piece of work were spent, with the calls of each.
pub(crate) fn functions(count: &Count, most: usize) -> String {
    let text = fs::read_to_string(&count.dump).unwrap_or_default();
    let mut all: Vec<(String, (u64, u64))> = by_function(&text).into_iter().collect();
    all.sort_by_key(|(name, (cost, _))| (u64::MAX - cost, name.clone()));
    let each = |cost: u64| cost as f64 / count.operations as f64;
    let shown = all.iter().take(most).filter(|(_, (cost, _))| each(*cost) >= 0.5);
    shown
        .map(|(name, (cost, calls))| {
            let name: String = name.chars().take(90).collect();
            format!("    {:8.1}  {:5.2} calls  {name}\n", each(*cost), each(*calls))
        })
        .collect()
}

/// Cost and calls by function; see [`collect`].
fn by_function(text: &str) -> HashMap<String, (u64, u64)> {
    let mut names: HashMap<String, String> = HashMap::new();
    let mut functions: HashMap<String, (u64, u64)> = HashMap::new();
    let (mut at, mut callee, mut is_call) = (String::new(), String::new(), false);
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("fn=") {
            at = named(&mut names, value);
        } else if let Some(value) = line.strip_prefix("cfn=") {
            callee = named(&mut names, value);
        } else if let Some(value) = line.strip_prefix("calls=") {
            let calls = value.split(' ').next().and_then(|calls| calls.parse::<u64>().ok());
            functions.entry(callee.clone()).or_default().1 += calls.unwrap_or(0);
            is_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first))
            && !core::mem::take(&mut is_call)
        {
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse::<u64>().ok());
            functions.entry(at.clone()).or_default().0 += cost.unwrap_or(0);
        }
    }
    functions
}

/// All instructions of a dump.
pub(crate) fn total(dump: &str) -> u64 {
    collect(dump).values().map(|file| file.total).sum()
}

/// Cost by file and line. In a dump, `fl`, `fi` and `fe` name the file of the lines that follow, in full once
/// and by number afterwards; the line after `calls` is the cost of the callee, which is counted there.
fn collect(text: &str) -> HashMap<String, File> {
    let mut names: HashMap<String, String> = HashMap::new();
    let mut files: HashMap<String, File> = HashMap::new();
    let (mut at, mut line, mut is_call) = (String::new(), 0u64, false);
    for text in text.lines() {
        if let Some((key, value)) = text.split_once('=')
            && !text.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first))
        {
            match key {
                "fl" | "fi" | "fe" => at = named(&mut names, value),
                "cfi" | "cfl" => drop(named(&mut names, value)),
                "calls" => is_call = true,
                _ => {}
            }
            continue;
        }
        let mut words = text.split(' ');
        let (Some(place), Some(cost)) = (words.next(), words.next()) else { continue };
        line = match (place.as_bytes().first(), place.get(1..)) {
            (Some(b'+'), Some(more)) => line.wrapping_add(more.parse().unwrap_or(0)),
            (Some(b'-'), Some(less)) => line.wrapping_sub(less.parse().unwrap_or(0)),
            (Some(b'*'), _) => line,
            (Some(first), _) if first.is_ascii_digit() => place.parse().unwrap_or(0),
            _ => continue,
        };
        if core::mem::take(&mut is_call) {
            continue;
        }
        let Ok(cost) = cost.parse::<u64>() else { continue };
        let file = files.entry(at.clone()).or_default();
        file.total += cost;
        *file.lines.entry(line).or_default() += cost;
    }
    files
}

/// `(12) name` the first time, `(12)` afterwards.
fn named(names: &mut HashMap<String, String>, value: &str) -> String {
    match value.split_once(' ') {
        Some((number, name)) => {
            names.insert(number.to_string(), name.to_string());
            name.to_string()
        }
        None => names.get(value).cloned().unwrap_or_default(),
    }
}

/// The last parts of a path.
fn short(path: &str) -> &str {
    let from = path.rmatch_indices('/').nth(2).map_or(0, |(at, _)| at + 1);
    &path[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_of_a_call_counts_where_it_is_spent() {
        let dump = "fl=(1) /a/one.rs\nfn=(1) f\n10 5\n+2 3\ncfi=(2) /a/two.rs\ncfn=(2) g\n\
                    calls=1 7\n12 100\nfi=(2)\n7 4\nfe=(1)\n* 1\n";
        let files = collect(dump);
        assert_eq!(files["/a/one.rs"].total, 9);
        assert_eq!(files["/a/two.rs"].total, 4);
        assert_eq!(files["/a/one.rs"].lines[&12], 3);
    }
}
