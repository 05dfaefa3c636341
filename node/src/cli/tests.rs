use super::*;
use clap::CommandFactory as _;

#[test]
fn the_arguments_are_well_formed() {
    Cli::command().debug_assert();
}

/// Every command that does something shows how to call it.
#[test]
fn every_help_has_an_example() {
    fn check(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        let mut leaf = true;
        for inner in command.get_subcommands().filter(|c| c.get_name() != "help") {
            leaf = false;
            check(inner, &path);
        }
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(!leaf || help.contains("archipelag "), "{path} has no example");
    }
    check(&Cli::command(), "");
}

/// The examples in the help are calls that are accepted.
#[test]
fn the_examples_parse() {
    fn examples(command: &clap::Command, found: &mut Vec<String>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let calls = help.lines().flat_map(|line| line.split("&&"));
        found.extend(
            calls.filter_map(|call| call.trim().strip_prefix("archipelag ")).map(str::to_owned),
        );
        command.get_subcommands().for_each(|inner| examples(inner, found));
    }
    let mut found = Vec::new();
    examples(&Cli::command(), &mut found);
    assert!(found.len() > 20, "{}", found.len());
    let account = "ab".repeat(32);
    let peer = "/p2p/12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo";
    for example in found {
        let line = example.replace("3b6a27bc…", &account).replace("/p2p/12D3Koo…", peer);
        let line = line
            .split([' '])
            .take_while(|w| !matches!(*w, "|" | ">"))
            .collect::<Vec<_>>()
            .join(" ");
        // A quoted argument is one argument.
        let mut words = vec!["archipelag".to_owned()];
        for (index, part) in line.split('\'').enumerate() {
            if index % 2 == 1 {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        if let Err(error) = Cli::try_parse_from(&words) {
            panic!("{example}: {error}");
        }
    }
}

#[test]
fn what_is_wrong_is_a_usage_error() {
    for wrong in [
        &["archipelag"][..],
        &["archipelag", "jobs", "list", "--limit", "101"],
        &["archipelag", "jobs", "list", "--limit", "0"],
        &["archipelag", "account", "transfer", "nobody", "1"],
        &["archipelag", "account", "transfer", &"ab".repeat(32), "-1"],
        &["archipelag", "up", "--listen", "localhost"],
        &["archipelag", "up", "--once"],
        &["archipelag", "run"],
        &["archipelag", "run", "x", "--region", "a", "--prefer-region", "b"],
        &["archipelag", "completions", "cmd"],
    ] {
        let error = Cli::try_parse_from(wrong).expect_err("accepted");
        assert_eq!(error.exit_code(), i32::from(exit::Exit::Usage as u8), "{wrong:?}");
    }
}

#[test]
fn manuals_and_completions_are_written() {
    let directory = tempfile::tempdir().unwrap();
    documents::manual(directory.path()).unwrap();
    let page = std::fs::read_to_string(directory.path().join("archipelag-up.1")).unwrap();
    assert!(page.contains("archipelag up"), "{page}");
}
