//! The genesis tool as its users run it.

use archipelag_protocol::{amount::Credits, genesis::Genesis, sign::SecretKey};
use std::{
    path::Path,
    process::{Command, Output},
};

fn genesis(arguments: &[&str], out: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_archipelag-bootstrap"))
        .args(["genesis", "new", "--name", "ours", "--out"])
        .arg(out)
        .args(arguments)
        .output()
        .unwrap()
}

fn refusal(arguments: &[&str], out: &Path) -> String {
    let output = genesis(arguments, out);
    assert!(!output.status.success(), "{arguments:?} was accepted");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_document_says_what_was_asked_for_and_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("genesis.cbor");
    let [a, b] = [1, 2].map(|seed| SecretKey::from_seed([seed; 32]).account());
    let validators = [a, b].map(|account| format!("{account}:{}", "ab".repeat(32)));
    let allocation = format!("{a}=12.5");
    let arguments =
        ["--validator", &validators[0], "--validator", &validators[1], "--allocate", &allocation];
    let output = genesis(&arguments, &out);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let bytes = std::fs::read(&out).unwrap();
    let made = Genesis::decode(&bytes).unwrap();
    let network = made.network().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("Network: {network}\n"));
    assert_eq!((made.name.as_str(), made.validators.len()), ("ours", 2));
    assert_eq!(made.accounts[0].balance, Credits::from_micro(12_500_000));
    assert!(!made.policy.publishing.open);

    assert!(refusal(&arguments, &out).contains("exists already"));
    assert_eq!(std::fs::read(&out).unwrap(), bytes);
}

#[test]
fn what_is_no_genesis_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("genesis.cbor");
    let account = SecretKey::from_seed([1; 32]).account();
    let validator = format!("{account}:{}", "ab".repeat(32));
    for (arguments, reason) in [
        (vec![], "--validator"),
        (vec!["--validator", "abc"], "there is no ':' in it"),
        (vec!["--validator", &validator, "--validator", &validator], "stands twice"),
        (vec!["--validator", &validator, "--allocate", "abc=1"], "expected 64"),
        (vec!["--validator", &validator, "--treasury=-1"], "--treasury"),
    ] {
        let message = refusal(&arguments, &out);
        assert!(message.contains(reason), "{arguments:?}: {message}");
        assert!(!out.exists());
    }
}
