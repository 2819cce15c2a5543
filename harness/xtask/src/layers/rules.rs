//! The rules: what a fact of a source file breaks, given whose file it is.

use std::collections::BTreeMap;

use super::source::{Fact, What};
use super::table::{
    COMPONENT, CRATES, CrateRule, EXCEPTIONS, Home, MODULES, SEAM, SEAM_PATHS, Unsafe,
};

/// A source file's place in the workspace.
pub(crate) struct Place<'a> {
    /// The rule of its crate.
    pub(crate) rule: &'static CrateRule,
    /// Its module's path below the crate's root.
    pub(crate) module: &'a [String],
    /// Names that the crate's root re-exports, and the module each comes from.
    pub(crate) exports: &'a BTreeMap<String, String>,
}

/// The rule that `fact` breaks, as a sentence, or `None`.
pub(crate) fn broken(place: &Place<'_>, fact: &Fact) -> Option<String> {
    match &fact.what {
        What::Path(path) => outside_path(place, path).or_else(|| inside_path(place, path)),
        What::Unsafe => misplaced_unsafe(place),
        What::Target(name) if place.rule.name == COMPONENT => {
            Some(format!("`cfg({name})`: {COMPONENT} does not know what it is compiled for"))
        }
        What::Target(_) | What::NoStd => None,
    }
}

/// Imports of other crates.
fn outside_path(place: &Place<'_>, path: &[String]) -> Option<String> {
    let (first, own) = (path[0].as_str(), place.rule.name);
    let package = CRATES.iter().find(|rule| rule.name.replace('-', "_") == first);
    if let Some(package) = package
        && package.name != own
        && !place.rule.below.contains(&package.name)
    {
        return Some(format!("{own} may not import {}", package.name));
    }
    if first == "std" && place.rule.home == Home::Bare {
        return Some(format!("{own} has no `std`: `{}`", path.join("::")));
    }
    let sealed = |prefix: &&[&str]| path.iter().zip(prefix.iter()).all(|(part, want)| part == want);
    if own == COMPONENT && top(place) != Some(SEAM) && SEAM_PATHS.iter().any(sealed) {
        let path = path.join("::");
        return Some(format!("`{path}`: atomics, locks and shared pointers come from `{SEAM}`"));
    }
    None
}

/// Imports of the component's own modules, which have an order.
fn inside_path(place: &Place<'_>, path: &[String]) -> Option<String> {
    if place.rule.name != COMPONENT || path[0] != "crate" {
        return None;
    }
    let from = top(place)?;
    let name = path.get(1)?;
    let to = place.exports.get(name).unwrap_or(name).as_str();
    if from == to {
        return None;
    }
    let excused = EXCEPTIONS.iter().any(|(module, target, _)| *module == from && *target == to);
    match (layer(from), layer(to)) {
        (None, _) => Some(format!("module `{from}` has no layer: add it to layers/table.rs")),
        (Some(own), Some(other)) if other >= own && !excused => {
            Some(format!("`{from}` may not import `{to}`: it is not in a layer below"))
        }
        _ => None,
    }
}

fn misplaced_unsafe(place: &Place<'_>) -> Option<String> {
    let allowed = match place.rule.unsafe_in {
        Unsafe::Anywhere => true,
        Unsafe::Nowhere => false,
        Unsafe::Modules(modules) => top(place).is_some_and(|module| modules.contains(&module)),
    };
    let place_name = || match top(place) {
        Some(module) => format!("{}, module `{module}`", place.rule.name),
        None => place.rule.name.to_string(),
    };
    (!allowed).then(|| format!("no `unsafe` in {}", place_name()))
}

fn top<'a>(place: &Place<'a>) -> Option<&'a str> {
    place.module.first().map(String::as_str)
}

fn layer(module: &str) -> Option<usize> {
    MODULES.iter().position(|row| row.contains(&module))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::source::facts;

    /// The rules that `text` breaks as module `module` of crate `name`.
    fn complaints(name: &str, module: &str, text: &str) -> Vec<String> {
        let rule = CRATES.iter().find(|rule| rule.name == name).expect("a crate of ours");
        let module = vec![module.to_string()];
        let exports = BTreeMap::from([("Vm".to_string(), "vm".to_string())]);
        let place = Place { rule, module: &module, exports: &exports };
        let facts = facts(text, &module).expect("the test's source is Rust");
        facts.iter().filter_map(|fact| broken(&place, fact)).collect()
    }

    #[test]
    fn a_lower_layer_is_imported_freely() {
        assert_eq!(complaints("rumpvm", "fault", "use crate::pmap::Pmap;"), [""; 0]);
        assert_eq!(complaints("rumpvm-cases", "fork", "use rumpvm::Vm;"), [""; 0]);
    }

    #[test]
    fn an_import_of_a_higher_module_is_refused() {
        for import in ["use crate::fault::Fault;", "use super::fault::Fault;", "use crate::Vm;"] {
            assert_eq!(complaints("rumpvm", "pmap", import).len(), 1, "{import}");
        }
    }

    #[test]
    fn a_neighbour_in_the_same_layer_is_refused() {
        assert_eq!(complaints("rumpvm", "amap", "use crate::object::Object;").len(), 1);
    }

    #[test]
    fn an_import_of_a_higher_crate_is_refused() {
        let complaint = complaints("rumpvm", "map", "use rumpvm_hosted::Hosted;");
        assert_eq!(complaint, ["rumpvm may not import rumpvm-hosted"]);
    }

    #[test]
    fn atomics_are_named_in_the_seam_alone() {
        let text = "use core::sync::atomic::AtomicU32; use alloc::sync::Arc; use spin::Mutex;";
        assert_eq!(complaints("rumpvm", "map", text).len(), 3);
        assert_eq!(complaints("rumpvm", "sync", text), [""; 0]);
    }

    #[test]
    fn unsafe_stands_where_the_table_says() {
        let text = "fn f() { unsafe { g() } }";
        assert_eq!(complaints("rumpvm", "pmap", text), [""; 0]);
        assert_eq!(complaints("rumpvm", "map", text), ["no `unsafe` in rumpvm, module `map`"]);
        assert_eq!(complaints("rumpvm-harness", "tour", text).len(), 1);
        assert_eq!(complaints("rumpvm-harness", "linux", text), [""; 0]);
    }

    #[test]
    fn the_component_does_not_ask_for_its_target_or_for_std() {
        let text = "#[cfg(target_os = \"linux\")] use std::fs::File;";
        assert_eq!(complaints("rumpvm", "map", text).len(), 2);
    }
}
