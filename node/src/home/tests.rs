use super::*;
use archipelag_protocol::{genesis, id::NodeId};

fn home() -> (tempfile::TempDir, Home) {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(Some(directory.path().join("home"))).unwrap();
    (directory, home)
}

fn a_genesis() -> Genesis {
    let account = SecretKey::from_seed([1; 32]).account();
    Genesis {
        name: "test".into(),
        created: archipelag_protocol::time::Timestamp(1),
        policy: archipelag_protocol::policy::Policy::default(),
        accounts: Vec::new(),
        treasury: archipelag_protocol::amount::Credits::from_whole(1),
        validators: vec![genesis::Validator { account, node: NodeId([2; 32]) }],
        publishers: Vec::new(),
    }
}

#[test]
fn keys_are_made_once_and_stay() {
    let (_directory, home) = home();
    assert!(home.is_new());
    let first = home.identity().unwrap();
    assert!(!home.is_new());
    let again = Home::open(Some(home.path().to_owned())).unwrap().identity().unwrap();
    assert_eq!(first.node.public(), again.node.public());
    assert_eq!(first.operator.seed(), again.operator.seed());
    assert_eq!(first.consumer.seed(), again.consumer.seed());
    assert_ne!(first.operator.seed(), first.consumer.seed());
    let key = home.api_key().unwrap();
    assert!(key.starts_with("ak_") && key.len() == 67);
    assert_eq!(home.api_key().unwrap(), key);
    let files = fs::read_dir(home.path()).unwrap().count();
    assert_eq!(files, 4, "nothing temporary is left");
}

#[cfg(unix)]
#[test]
fn what_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_directory, home) = home();
    home.identity().unwrap();
    home.api_key().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(home.path()), 0o700);
    for name in [NODE_KEY, OPERATOR_KEY, CONSUMER_KEY, API_KEY] {
        let path = home.file(name);
        assert_eq!(mode(&path), 0o600, "{name}");
        for exposed in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(exposed)).unwrap();
            let refused = home.identity().map(drop).and_then(|()| home.api_key().map(drop));
            let message = refused.unwrap_err().to_string();
            assert!(message.contains(&format!("chmod 600 {}", path.display())), "{message}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o770)).unwrap();
    let message = Home::open(Some(home.path().to_owned())).unwrap_err().to_string();
    assert!(message.contains("chmod 700"), "{message}");
}

#[test]
fn a_broken_key_file_is_named_and_not_quoted() {
    let (_directory, home) = home();
    let almost = "ab".repeat(31);
    for text in [
        "",
        "# only a comment\n",
        &almost,
        &format!("{almost}zz"),
        &format!("{almost}ab\n{almost}ab"),
    ] {
        files::write(&home.file(NODE_KEY), text.as_bytes()).unwrap();
        let message = home.identity().unwrap_err().to_string();
        assert!(message.contains("node.key"), "{message}");
        assert!(!message.contains("abab"), "{message}");
    }
    files::write(&home.file(API_KEY), b"secret").unwrap();
    let message = home.api_key().unwrap_err().to_string();
    assert!(message.contains("api.key") && !message.contains("secret"), "{message}");
}

#[test]
fn two_nodes_do_not_run_on_one_home() {
    let (_directory, home) = home();
    let lock = home.lock().unwrap();
    let message = home.lock().unwrap_err().to_string();
    assert!(message.contains(&std::process::id().to_string()), "{message}");
    drop(lock);
    home.lock().unwrap();
}

#[test]
fn a_genesis_is_found_by_its_network_and_nothing_else_passes_for_it() {
    let (_directory, home) = home();
    let genesis = a_genesis();
    let network = genesis.network().unwrap();
    assert!(home.genesis(network).unwrap().is_none());
    assert_eq!(home.save_genesis(&genesis).unwrap(), network);
    assert_eq!(home.genesis(network).unwrap().as_ref(), Some(&genesis));
    let other = Genesis { name: "other".into(), ..genesis }.to_bytes().unwrap();
    for bytes in [other, b"nonsense".to_vec()] {
        files::write(&home.network_directory(network).unwrap().join(GENESIS), &bytes).unwrap();
        assert!(home.genesis(network).unwrap_err().to_string().contains(GENESIS));
    }
}

#[test]
fn addresses_come_and_go() {
    let (_directory, home) = home();
    assert_eq!((home.http_address().unwrap(), home.mesh_address().unwrap()), (None, None));
    let (http, mesh) = ("127.0.0.1:8420".parse().unwrap(), "/ip4/127.0.0.1/tcp/1".parse().unwrap());
    home.write_addresses(http, Some(&mesh)).unwrap();
    assert_eq!(home.http_address().unwrap(), Some(http));
    assert_eq!(home.mesh_address().unwrap(), Some(mesh));
    home.remove_addresses().unwrap();
    home.remove_addresses().unwrap();
    assert_eq!((home.http_address().unwrap(), home.mesh_address().unwrap()), (None, None));
    files::write(&home.file(HTTP_ADDRESS), b"nonsense").unwrap();
    assert!(home.http_address().unwrap_err().to_string().contains(HTTP_ADDRESS));
}

#[test]
fn commands_without_a_node_find_the_holds_of_earlier_ones() {
    let (_directory, home) = home();
    let network = home.save_genesis(&a_genesis()).unwrap();
    let take = || home.light_directory(network).unwrap();
    let (first, second) = (take().unwrap(), take().unwrap());
    assert_ne!(first.0, second.0);
    let path = first.0.clone();
    drop(first);
    assert_eq!(take().unwrap().0, path);
    let all: Vec<_> = std::iter::from_fn(take).collect();
    assert_eq!(all.len(), MAX_LIGHT as usize - 1);
}
