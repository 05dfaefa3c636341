//! A coordinator that joins: by a snapshot and the blocks after it.

use super::*;
use archipelag_protocol::query::CertifiedBlock;

/// The newest snapshot of `node`, part by part, and its block.
fn snapshot(node: &Node) -> (Vec<u8>, CertifiedBlock) {
    let (mut bytes, mut at) = (Vec::new(), 0);
    loop {
        let offset = u64::try_from(bytes.len()).unwrap();
        match node.ask(Request::Snapshot { height: at, offset }) {
            Response::Snapshot { height, size_bytes, part } => {
                at = height;
                bytes.extend_from_slice(&part);
                if u64::try_from(bytes.len()).unwrap() == size_bytes {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    (bytes, blocks(node, at, 1).remove(0))
}

fn blocks(node: &Node, from: u64, limit: u16) -> Vec<CertifiedBlock> {
    match node.ask(Request::Blocks { from, limit }) {
        Response::Blocks(blocks) => blocks,
        other => panic!("{other:?}"),
    }
}

fn reach(node: &Node, height: u64) {
    let mut committed = node.coordinator.committed();
    let reached = async { committed.wait_for(|at| *at >= height).await.map(|_| ()) };
    node.run(reached).unwrap();
}

#[test]
fn one_that_joins_goes_on_from_a_snapshot() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let node = Node::start(&disk).unwrap();
    match node.ask(Request::Snapshot { height: 0, offset: 0 }) {
        Response::Unavailable(reason) => assert!(reason.contains("no such snapshot"), "{reason}"),
        other => panic!("{other:?}"),
    }
    for nonce in 0..260 {
        assert_eq!(node.submit(&transfer(1, nonce, 2, 1)).outcome, Ok(()));
    }
    let (bytes, certified) = snapshot(&node);
    assert_eq!(certified.block.header.height, 256);

    let own: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let config =
        || Config { genesis: genesis(), key: user(5), node: Some(NodeId([5; 32])), outgoing: None };
    let joiner = Node::start_with(&own, config()).unwrap();
    let join = |bytes: Vec<u8>, certified: &CertifiedBlock| {
        joiner.run(joiner.coordinator.join(bytes, certified.clone(), Vec::new()))
    };
    // What is not the state of that very block is refused, and nothing has happened.
    let other = blocks(&node, 255, 1).remove(0);
    for (bytes, certified) in [
        (bytes.clone(), &other),
        (bytes[..bytes.len() - 1].to_vec(), &certified),
        (Vec::new(), &certified),
    ] {
        assert!(matches!(join(bytes, certified), Err(Error::Snapshot(_))));
    }
    let mut richer = (*node.coordinator.state()).clone();
    richer.treasury = Credits::from_whole(9);
    richer.minted = richer.minted.checked_add(Credits::from_whole(4)).unwrap();
    assert!(join(richer.to_snapshot().unwrap(), &certified).is_err());
    assert_eq!(*joiner.coordinator.committed().borrow(), 0);

    join(bytes.clone(), &certified).unwrap();
    reach(&joiner, 256);
    joiner.coordinator.follow(blocks(&node, 257, 100));
    reach(&joiner, 260);
    assert_eq!(joiner.root(), node.root());
    assert!(!joiner.coordinator.decides());
    // An older one is no news.
    join(bytes, &certified).unwrap();
    assert_eq!(joiner.verify(1).unwrap(), [257, 258, 259, 260]);
    assert!(blocks(&joiner, 1, 10).is_empty(), "it has none from before it joined");
    assert_eq!(blocks(&joiner, 256, 10).len(), 5);
    // It is all on its disk.
    drop(joiner);
    let joiner = Node::start_with(&own, config()).unwrap();
    assert_eq!((joiner.root(), joiner.coordinator.state().height), (node.root(), 260));
    assert_eq!(joiner.verify(1).unwrap(), [257, 258, 259, 260]);
    joiner.stop();
    node.stop();
}
