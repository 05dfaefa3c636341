//! What is refused, and in which words.

use super::*;

const FINE: &str = r#"name = "fine"
duration_s = 100

[network]
regions = ["eu", "us"]
latency_ms = [[10, 45], [45, 15]]

[[groups]]
name = "coordinators"
count = 4
roles = ["coordinator"]

[[groups]]
name = "islands"
count = 9
roles = ["island"]
region = "us"

[[workloads]]
from = "coordinators"
interarrival_s = 1

[[faults]]
at_s = 10
kind = "crash"
nodes = { group = "islands" }
"#;

const NETWORK: &str = "[network]\n";

/// What is replaced in [`FINE`], by what, and what is said of it.
#[rustfmt::skip]
const REFUSALS: &[(&str, &str, &str)] = &[
    ("= 100\n", "= 0\n", "line 2: duration_s: 0 is not possible: above 0 to 604800"),
    ("= 100\n", "= -1\n", "line 2: duration_s: -1 is not possible: above 0 to 604800"),
    ("= 100\n", "= nan\n", "line 2: duration_s: nan is not possible: above 0 to 604800"),
    ("= 100\n", "= 1e999\n", "line 2: duration_s: 1e999 is not possible: above 0 to 604800"),
    ("= 100\n", "= \"1 h\"\n", "line 2: duration_s: the text \"1 h\" is of the wrong type: a number, above 0 to 604800"),
    (NETWORK, "[network]\nloss_percent = 140\n", "line 5: network.loss_percent: 140 is not possible: 0 to 99"),
    (NETWORK, "[network]\nloss_percent = 100\n", "line 5: network.loss_percent: 100 is not possible: 0 to 99"),
    (NETWORK, "[network]\nlos_percent = 1\n", "line 5: network.los_percent: there is no such key; keys are: regions, latency_ms, spread_percent, jitter_percent, loss_percent, slow_start, give_up_s (did you mean \"loss_percent\"?)"),
    (NETWORK, "[network]\nspread_percent = 1.5\n", "line 5: network.spread_percent: the number 1.5 is of the wrong type: a whole number from 0 to 100"),
    ("[45, 15]", "[45]", "line 6: network.latency_ms[1]: 1 numbers are not possible: one for each of 2 regions"),
    (", [45, 15]", "", "line 6: network.latency_ms: 1 rows are not possible: one for each of 2 regions"),
    ("[45, 15]", "[45, -1]", "line 6: network.latency_ms[1][1]: -1 is not possible: 0 to 60000"),
    ("[\"eu\"", "[\"us\"", "line 5: network.regions: a name stands twice: names that differ"),
    ("count = 4\n", "count = 0\n", "line 10: groups[0].count: 0 is not possible: 1 to 1000000"),
    ("count = 4\n", "", "line 8: groups[0].count: is missing: a whole number from 1 to 1000000"),
    ("count = 4", "count = 4\nroles = 3", "line 12: duplicate key"),
    ("[\"island\"]", "[\"isand\"]", "line 16: groups[1].roles[0]: there is no \"isand\"; there are: coordinator, observer, island (did you mean \"island\"?)"),
    ("\"us\"\n", "\"usa\"\n", "line 17: groups[1].region: there is no region \"usa\"; regions are: eu, us (did you mean \"us\"?)"),
    ("\"us\"\n", "{ eu = 0 }\n", "line 17: groups[1].region: no weight above 0 is not possible: a name, or a table of names and weights"),
    ("name = \"islands\"", "name = \"all\"", "line 14: groups[1].name: \"all\" is not possible: any other name; it is that of all nodes\nline 26: faults[0].nodes.group: there is no group \"islands\"; groups are: coordinators, all"),
    ("region = \"us\"", "speed = { weibul = [1, 2] }", "line 17: groups[1].speed: there is no distribution \"weibul\"; there are: uniform, exponential, normal, log-normal, pareto, weibull, choice (did you mean \"weibull\"?)"),
    ("region = \"us\"", "speed = { weibull = [1, 0] }", "line 17: groups[1].speed.weibull: [1, 0] is not possible: weibull takes [scale above 0, shape above 0]"),
    ("region = \"us\"", "speed = { weibull = 3 }", "line 17: groups[1].speed.weibull: 3 is not possible: weibull = [scale, shape]"),
    ("region = \"us\"", "speed = { uniform = [-1, 2] }", "line 17: groups[1].speed.uniform: [-1, 2] is outside: above 0 to 1000000"),
    ("region = \"us\"", "start_s = 100", "line 17: groups[1].start_s: no node starts before the end: below 100"),
    ("region = \"us\"", "behaviour = \"slow-reader\"", "line 17: groups[1].behaviour: slow-reader is nothing without a workload from this group"),
    ("region = \"us\"", "session = { up_s = 0.1, down_s = 0 }", "line 17: groups[1].session: the nodes would come and go all the time: at least 1 second for up_s and down_s"),
    ("[\"coordinator\"]", "[\"coordinator\"]\nnat = \"symmetric\"", "line 12: groups[0].nat: symmetric is not possible, the others join through the first group, which must be reachable: none"),
    ("from = \"coordinators\"", "from = \"coordinator\"", "line 20: workloads[0].from: there is no group \"coordinator\"; groups are: coordinators, islands (did you mean \"coordinators\"?)"),
    ("interarrival_s = 1", "interarrival_s = 0", "line 21: workloads[0].interarrival_s: is 0 for ever, so that time never passes: above 0"),
    ("interarrival_s = 1", "interarrival_s = 1e-9", "line 21: workloads[0].interarrival_s: gives more than 1000000 in 100 s: about 0.0001 or more"),
    ("interarrival_s = 1", "", "line 19: workloads[0]: nothing says when jobs come: interarrival_s or trace"),
    ("interarrival_s = 1", "interarrival_s = 1\ntrace = \"a.csv\"", "line 22: workloads[0].trace: stands beside interarrival_s: one of them"),
    ("interarrival_s = 1", "trace = \"../a.csv\"", "line 21: workloads[0].trace: \"../a.csv\" is not possible: a file in the scenario's folder or below, without .."),
    ("interarrival_s = 1", "interarrival_s = 1\ncargo = \"text-stat\"", "line 22: workloads[0].cargo: there is no Cargo \"text-stat\"; Cargos are: work, csv-stats, document-sha256, json-query, regex-extract, text-stats (did you mean \"text-stats\"?)"),
    ("interarrival_s = 1", "interarrival_s = 1\ncargo = \"json-query\"\ninput = { query = \"@\" }", "line 23: workloads[0].input: something is missing: json-query takes document and query"),
    ("interarrival_s = 1", "interarrival_s = 1\ncargo = \"text-stats\"\ninput = { text = 1979-05-27 }", "line 23: workloads[0].input.text: a date or time is not possible: what JSON has; put it in quotes"),
    ("at_s = 10", "at_s = 100", "line 24: faults[0].at_s: 100 is not before the end: below 100"),
    ("\"crash\"", "\"crsh\"", "line 25: faults[0].kind: there is no \"crsh\"; there are: crash, power, restart, partition, flap, loss, slow, clock, disk, flash (did you mean \"crash\"?)"),
    ("\"crash\"", "\"flash\"", "line 26: faults[0].nodes: there is no such key; keys are: at_s, for_s, kind\nline 25: faults[0].kind: flash is nothing without a group with the behaviour covert-flash"),
    ("\"crash\"", "\"restart\"\napart_s = 20", "line 26: faults[0].apart_s: 170 s is the turn of the last node, which is not before the end: below 100"),
    ("\"crash\"", "\"partition\"\nfrom = { group = \"islands\" }", "line 26: faults[0].from.group: \"islands\" is the group of `nodes`: another group, or leave `from` out for all others"),
    ("\"crash\"\nnodes = { group = \"islands\" }", "\"partition\"\nnodes = { group = \"all\" }", "line 26: faults[0].nodes: are all nodes, so that there are no others: fewer, or name `from`"),
    ("{ group = \"islands\" }", "{ group = \"isands\" }", "line 26: faults[0].nodes.group: there is no group \"isands\"; groups are: coordinators, islands, all (did you mean \"islands\"?)"),
    ("{ group = \"islands\" }", "{ group = \"islands\", count = 10 }", "line 26: faults[0].nodes.count: 10 is not possible, \"islands\" has 9: 1 to 9"),
    ("{ group = \"islands\" }", "{ group = \"islands\", count = 1, fraction = 0.5 }", "line 26: faults[0].nodes: both count and fraction: one of them"),
    ("[[faults]]", "[checks]\nlookup_success_min_percent = 9\n[[faults]]", "line 24: checks.lookup_success_min_percent: there is nothing to check: lookups"),
    ("[[faults]]", "[checks]\nmesh_peers_min = 13\n[[faults]]", "line 24: checks.mesh_peers_min: 13 is not possible, there are 12 other nodes: 0 to 12"),
];

/// `FINE` with one part of it replaced.
fn refused(from: &str, to: &str) -> String {
    assert!(FINE.contains(from), "{from}");
    match Scenario::parse(&FINE.replacen(from, to, 1)) {
        Ok(_) => panic!("{to} is accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn each_problem_has_its_line_its_key_and_what_is_accepted() {
    Scenario::parse(FINE).unwrap();
    let mut others = Vec::new();
    for (from, to, says) in REFUSALS {
        let mut found: Vec<String> = refused(from, to).lines().map(str::to_owned).collect();
        let mut says: Vec<&str> = says.lines().collect();
        found.sort_unstable();
        says.sort_unstable();
        if found != says {
            others.push((to, found));
        }
    }
    assert!(others.is_empty(), "{others:#?}");
}

#[test]
fn limits_hold_for_each_fidelity_and_for_seats() {
    for (fidelity, max) in [("full", 2_000), ("muxer", 20_000)] {
        let with = |islands: usize| {
            let text = FINE.replace("count = 9", &format!("count = {islands}"));
            Scenario::parse(&format!("fidelity = \"{fidelity}\"\n{text}"))
                .map_err(|e| e.to_string())
        };
        assert_eq!(with(max - 4).unwrap().nodes(), nodes_max(with(max - 4).unwrap().fidelity));
        let what =
            format!("{} nodes are not possible at fidelity {fidelity}: up to {max}", max + 1);
        assert_eq!(with(max - 3).unwrap_err(), format!("line 9: groups: {what}"));
    }
    let seats = |count: usize| FINE.replace("count = 4", &format!("count = {count}"));
    Scenario::parse(&seats(MAX_COORDINATORS)).unwrap();
    let error = Scenario::parse(&seats(MAX_COORDINATORS + 1)).unwrap_err().to_string();
    assert_eq!(
        error,
        "line 8: groups: 101 nodes with the role coordinator are not possible: 1 to 100"
    );
    assert!(
        refused("[\"coordinator\"]", "[]").contains("groups: 0 nodes with the role coordinator")
    );
    assert!(refused("[\"island\"]", "[]").contains("workloads[0]: nobody runs jobs: "));
}

#[test]
fn a_model_has_no_jobs_no_ledger_no_clocks_and_no_disks() {
    let text = format!("fidelity = \"model\"\npolicy.epoch_s = 60\n{FINE}")
        .replace("region = \"us\"", "skew_ms = 5\nbehaviour = \"stall\"");
    let text = text.replace("\"crash\"", "\"disk\"");
    let error = Scenario::parse(&text).unwrap_err().to_string();
    let paths: Vec<&str> = error.lines().map(|line| line.split(": ").nth(1).unwrap()).collect();
    assert_eq!(
        paths,
        [
            "policy.epoch_s",
            "groups[0].roles",
            "groups[1].skew_ms",
            "groups[1].behaviour",
            "workloads[0]",
            "faults[0].kind"
        ],
        "{error}"
    );
    let fine = "name = \"m\"\nduration_s = 60\nfidelity = \"model\"\n[[groups]]\nname = \"g\"\ncount = 1000000\n";
    Scenario::parse(&format!("{fine}[observe]\nsample_s = 10\n")).unwrap();
}

#[test]
fn all_problems_are_told_at_once_and_of_very_many_twenty() {
    let text =
        FINE.replace("count = 9", "count = 9\nspeeed = 2").replace("at_s = 10", "at_s = 200");
    let text = text.replace("from = \"coordinators\"", "from = \"nobody\"");
    let error = Scenario::parse(&text).unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 3, "{error}");
    assert!(lines[0].starts_with("line 16: groups[1].speeed: there is no such key"));
    assert!(lines[1].starts_with("line 21: workloads[0].from: there is no group \"nobody\""));
    assert!(lines[2].starts_with("line 25: faults[0].at_s: 200 is not before the end"));
    let many =
        format!("{FINE}{}", "\n[[faults]]\nat_s = 1000\nkind = \"loss\"\npercent = 1\n".repeat(30));
    let error = Scenario::parse(&many).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 21);
    assert!(error.ends_with("\nand 10 more"), "{error}");
}

#[test]
fn what_is_no_toml_has_a_line_too() {
    let error = refused("duration_s = 100", "duration_s = = 100");
    assert!(error.starts_with("line 2: "), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn traces_are_read_and_refused_by_row() {
    let folder = std::env::temp_dir().join(format!("archipelag-trace-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let scenario =
        Scenario::parse(&FINE.replace("interarrival_s = 1", "trace = \"t.csv\"")).unwrap();
    let load = |text: &str| {
        std::fs::write(folder.join("t.csv"), text).unwrap();
        let loaded = scenario.load_traces(&folder);
        loaded.map_err(|error| error.to_string().rsplit_once("t.csv: ").unwrap().1.to_owned())
    };
    let rows = load("time_s,node,cargo,events\n0.5,3,text-stats,\n 1 ,0,,7\n").unwrap();
    let row = TraceRow {
        time_s: 0.5,
        node: 3,
        cargo: Some("text-stats"),
        work_ms: None,
        events: None,
        event_bytes: None,
    };
    let second = TraceRow { time_s: 1.0, node: 0, cargo: None, events: Some(7), ..row };
    assert_eq!(rows, [vec![row, second]]);
    for (text, says) in [
        ("", "row 1: the column time_s is missing: time_s and node"),
        ("time_s,node\n", "has no rows: one at least"),
        (
            "time_s,nod\n",
            "row 1: there is no column \"nod\"; columns are: time_s, node, cargo, work_ms, events, event_bytes (did you mean \"node\"?)",
        ),
        ("time_s,node,node\n", "row 1: the column node stands twice: each at most once"),
        (
            "time_s,node\n1,0\n0,0\n",
            "row 3: time_s: 0 is before the row above it: rows in the order of time, from 1 on",
        ),
        ("time_s,node\nnan,0\n", "row 2: time_s: \"nan\" is not possible: 0 to 604800"),
        ("time_s,node\n1\n", "row 2: 1 cells: 2, as in the header"),
        ("time_s,node\n1,4\n", "row 2: node: 4 is not possible, \"coordinators\" has 4: 0 to 3"),
        (
            "time_s,node\n1,-4\n",
            "row 2: node: \"-4\" is not possible: a whole number from 0 to 1000000",
        ),
        ("time_s,node\n,4\n", "row 2: time_s: the cell is empty: a number"),
        (
            "time_s,node,cargo\n1,1,wrk\n",
            "row 2: cargo: there is no Cargo \"wrk\"; Cargos are: work, csv-stats, document-sha256, json-query, regex-extract, text-stats (did you mean \"work\"?)",
        ),
        ("time_s,node\n100,0\n", "row 2: time_s: no job comes before the end: below 100"),
    ] {
        assert_eq!(load(text).unwrap_err(), says, "{text}");
    }
    std::fs::remove_file(folder.join("t.csv")).unwrap();
    assert!(scenario.load_traces(&folder).is_err());
    std::fs::create_dir_all(folder.join("t.csv")).unwrap();
    let error = scenario.load_traces(&folder).unwrap_err().to_string();
    assert!(error.ends_with("is not a file: a CSV file"), "{error}");
    std::fs::remove_dir_all(&folder).unwrap();
    // None that has no trace opens a file.
    assert_eq!(Scenario::parse(FINE).unwrap().load_traces(&folder).unwrap(), [Vec::new()]);
}
