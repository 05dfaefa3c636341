//! The worked examples: all are scenarios, say what they ask, and can be written and read again.

use archipelag_simulations::scenario::{Fidelity, Scenario};
use std::{fs, path::PathBuf};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// Name, text, scenario.
fn examples() -> Vec<(String, String, Scenario)> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let scenario = Scenario::parse(&text).unwrap_or_else(|error| panic!("{name}:\n{error}"));
        (name, text, scenario)
    };
    files.into_iter().map(read).collect()
}

#[test]
fn all_examples_are_scenarios_and_their_traces_fit() {
    let examples = examples();
    assert!(examples.len() >= 20, "{}", examples.len());
    let mut rows = 0;
    for (name, _, scenario) in &examples {
        assert_eq!(scenario.name, name.replace('_', "-"), "{name}");
        let traces = scenario.load_traces(&folder());
        rows += traces.unwrap_or_else(|error| panic!("{name}: {error}")).iter().flatten().count();
    }
    assert_eq!(rows, 40);
}

#[test]
fn what_is_written_of_an_example_is_what_is_read() {
    for (name, _, scenario) in examples() {
        let text = scenario.to_toml();
        let again =
            Scenario::parse(&text).unwrap_or_else(|error| panic!("{name}:\n{error}\n{text}"));
        assert_eq!(again, scenario, "{name}");
        assert_eq!(again.to_toml(), text, "{name}");
    }
}

#[test]
fn each_example_opens_with_what_it_asks_how_large_it_is_and_where_to_look() {
    for (name, text, scenario) in examples() {
        let comment: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
        assert!((3..=8).contains(&comment.len()), "{name}: {} lines", comment.len());
        assert!(comment.iter().all(|line| line.chars().count() <= 100), "{name}");
        let comment = comment.join(" ").replace("# ", "").replace(',', "");
        assert!(comment.contains('?'), "{name} asks nothing");
        assert!(comment.contains("Look at "), "{name} does not say where to look");
        assert!(comment.contains("One should see "), "{name} does not say what one should see");
        let size = format!("{} nodes", scenario.nodes());
        assert!(comment.contains(&size), "{name} has {size}");
        assert!(comment.contains(&format!("{} s", scenario.duration_s)), "{name}");
        if scenario.fidelity != Fidelity::Model {
            assert!(scenario.nodes() <= 100 && scenario.duration_s <= 240.0, "{name}");
        }
    }
}
