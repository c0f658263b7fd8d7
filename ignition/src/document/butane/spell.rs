//! Paths of complaints as the YAML has them: `$.storage.files.0.contents.inline`, although it was
//! the source of the configuration made from it that was complained about.

use std::collections::HashMap;

use crate::document::{
    node::{Mark, Node, Value},
    report::Finding,
};

/// Makes the paths of complaints about the configuration those of the document that it follows from.
pub fn spell(document: &Node, findings: &mut [Finding]) {
    let mut paths = HashMap::new();
    note(document, "$".to_owned(), &mut paths);
    for finding in findings {
        let spelled = snake(&finding.path);
        finding.path = match paths.get(&finding.mark) {
            // The value that it is about, or a map in which it is missing.
            Some(path) if !is_within(&spelled, path) => path.clone(),
            Some(_) | None => spelled,
        };
    }
}

fn note(node: &Node, path: String, paths: &mut HashMap<Mark, String>) {
    match &node.value {
        Value::Map(map) => {
            for entry in &map.0 {
                note(&entry.node, format!("{path}.{}", entry.key), paths);
            }
        }
        Value::List(list) => {
            for (index, node) in list.iter().enumerate() {
                note(node, format!("{path}.{index}"), paths);
            }
        }
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::String(_) => {}
    }
    // An alias is where it stands for the first time.
    paths.entry(node.mark).or_insert(path);
}

fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn snake(path: &str) -> String {
    let mut snake = String::with_capacity(path.len() + 8);
    for letter in path.replace("MiB", "Mib").chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}
