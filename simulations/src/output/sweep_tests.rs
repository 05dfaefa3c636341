//! Sweeps as they are found on disk.

use super::*;

fn summary(seed: u64, nodes: f64, discovery: &str) -> Summary {
    let slow = if discovery == "dht" { 2.0 } else { 1.0 };
    let jitter = (seed * 7 % 5) as f64;
    let parameters = [
        ("nodes".to_owned(), Parameter::Number(nodes)),
        ("discovery".to_owned(), Parameter::Text(discovery.to_owned())),
        ("relay".to_owned(), Parameter::Flag(true)),
    ];
    let figures = [
        ("delivery_p99_ms".to_owned(), slow * (40.0 + 3.0 * nodes.sqrt() + jitter)),
        ("jobs_completed_share".to_owned(), 1.0 - nodes / 400.0 - jitter / 200.0),
        ("violations".to_owned(), 0.0),
    ];
    Summary {
        scenario: "growth".to_owned(),
        seed,
        parameters: parameters.into(),
        figures: figures.into(),
        ..Summary::default()
    }
}

fn write(dir: &Path, name: &str, summary: &Summary) {
    let run = dir.join(name);
    fs::create_dir_all(&run).unwrap();
    summary.write(&run).unwrap();
}

#[test]
fn each_varied_figure_is_drawn_by_each_varied_parameter() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    for seed in 0..4 {
        for nodes in [4.0, 16.0, 64.0] {
            for discovery in ["dht", "gossip"] {
                let name = format!("{nodes}-{discovery}-{seed}");
                write(dir, &name, &summary(seed, nodes, discovery));
            }
        }
    }
    fs::create_dir_all(dir.join("killed")).unwrap();
    let page = fs::read_to_string(plot_sweep(dir).unwrap()).unwrap();
    assert_eq!(page.matches("<svg").count(), 4);
    assert!(page.contains("delivery p99 by nodes") && page.contains("discovery gossip"));
    assert!(page.contains("growth: 24 runs"));
    assert!(page.contains("No violations. One run was interrupted and is left out."));
    assert!(dir.join("plots/000-delivery_p99_ms-by-discovery.png").exists());
    let (small, large) = (page.find("nodes 4</td>"), page.find("nodes 16</td>"));
    assert!(small.is_some() && small < large, "numbers are in the order of their size");
    // Its own plots are no run.
    assert_eq!(fs::read_to_string(plot_sweep(dir).unwrap()).unwrap(), page);
}

#[test]
fn hostile_names_neither_leave_the_directory_nor_become_markup() {
    let dir = tempfile::tempdir().unwrap();
    for (run, value) in [("a", 1.0), ("b", 2.0)] {
        let name = "../../<script>".to_owned();
        let summary = Summary {
            parameters: [(name.clone(), Parameter::Number(value))].into(),
            figures: [(name, value)].into(),
            ..Summary::default()
        };
        write(dir.path(), run, &summary);
    }
    let page = fs::read_to_string(plot_sweep(dir.path()).unwrap()).unwrap();
    assert!(!page.contains("<script"));
    assert_eq!(fs::read_dir(dir.path().join("plots")).unwrap().count(), 2);
}

#[test]
fn a_directory_without_runs_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(plot_sweep(dir.path()), Err(Error::NotARun { .. })));
}
