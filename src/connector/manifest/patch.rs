//! Patches: what is laid over a request.

use super::Patch;
use super::place::Place;
use crate::connector::notes::Notes;
use crate::yaml::Tree;

/// Reads a patch, `{ headers, query, json, form }`.
pub fn read_patch(tree: &Tree, place: &Place<'_>, notes: &mut Notes) -> Patch {
    let mut patch = Patch::default();
    if !notes.keys(tree, &["headers", "query", "json", "form"]) {
        return patch;
    }
    for entry in tree.entries() {
        let value = Some(place.tree(&entry.value, notes));
        match &*entry.key {
            "headers" => patch.headers = value,
            "query" => patch.query = value,
            "json" => patch.json = value,
            "form" => patch.form = value,
            _ => {}
        }
    }
    patch
}
