use std::path::Path;

use super::*;

/// A run of three servers: gush is sound, axum is better in one column, Pushpin loses events, and
/// Mercure was left out.
fn run_in(root: &Path) -> PathBuf {
    let folder = root.join("bench/runs/2026-01-02-peers");
    std::fs::create_dir_all(folder.join("raw")).unwrap();
    std::fs::write(folder.join("machine.txt"), "two cores\n").unwrap();
    let peers = "gush\tgush\trun\t0.1\naxum\taxum Sse\trun\t0.8\npushpin\tPushpin\trun\t1.36\n\
                 mercure\tMercure hub\tskipped\tno modules\n";
    std::fs::write(folder.join("peers.tsv"), peers).unwrap();
    let recorded = r#"{"source":"long ago","peers":[{"name":"mercure","title":"Mercure",
        "figures":{"idle-10000":{"server_rss_bytes_per_stream":40602}}}]}"#;
    std::fs::write(folder.join("recorded.json"), recorded).unwrap();
    let raw = |scenario: &str, peer: &str, round: u32, results: &str| {
        let path = folder.join(format!("raw/{scenario}.{peer}.{round}.json"));
        std::fs::write(path, format!("{{\"results\":{{{results}}}}}")).unwrap();
    };
    let scenario = "fanout-10000-window-4";
    for (round, cpu) in [(1, 4.0), (2, 9.0), (3, 5.0)] {
        let results = format!("\"server_cpu_us_per_delivery\":{cpu},\"lost_count\":0");
        raw(scenario, "gush", round, &results);
        raw(
            scenario,
            "axum",
            round,
            "\"server_cpu_us_per_delivery\":3.5",
        );
        let results = "\"server_cpu_us_per_delivery\":1,\"lost_count\":7";
        raw(scenario, "pushpin", round, results);
    }
    raw(
        "idle-10000",
        "gush",
        1,
        "\"server_rss_bytes_per_stream\":300",
    );
    raw(
        "idle-10000",
        "axum",
        1,
        "\"server_rss_bytes_per_stream\":20000",
    );
    let results = "\"server_rss_bytes_per_stream\":100,\"refused_count\":5";
    raw("idle-10000", "pushpin", 1, results);
    folder
}

fn front_page(root: &Path) -> String {
    std::fs::read_to_string(root.join("README.md")).unwrap()
}

#[test]
fn the_front_page_gets_medians_and_marks_the_best_of_each_column_whoever_it_is() {
    let root = tempfile::tempdir().unwrap();
    run_in(root.path());
    let page = format!("# A\n\n{BEGIN}\nto be replaced\n{END}\n\nafter\n");
    std::fs::write(root.path().join("README.md"), page).unwrap();
    assert!(write(root.path(), None).unwrap().is_ok);
    let page = front_page(root.path());
    assert!(page.starts_with("# A\n\n") && page.ends_with(&format!("{END}\n\nafter\n")));
    assert!(!page.contains("to be replaced"));
    let row = |start: &str| page.lines().find(|line| line.starts_with(start)).unwrap();
    assert!(row("| gush |").contains("| **300 B** |") && row("| gush |").contains("| 5.00 µs |"));
    assert!(row("| axum Sse |").contains("| **3.50 µs** |"));
    // Better than all, but it lost events.
    assert!(row("| Pushpin |").contains("| 1.00 µs, lost |"));
    assert!(row("| Mercure hub (another run) |").contains("| 39.7 KiB |"));
}

#[test]
fn the_runs_own_page_has_the_ranges_and_the_charts() {
    let root = tempfile::tempdir().unwrap();
    let folder = run_in(root.path());
    std::fs::write(root.path().join("README.md"), format!("{BEGIN}{END}")).unwrap();
    write(root.path(), Some("bench/runs/2026-01-02-peers")).unwrap();
    let page = std::fs::read_to_string(folder.join("README.md")).unwrap();
    assert!(page.contains("5.00 µs (4.00 µs to 9.00 µs)"), "{page}");
    assert!(page.contains("long ago") && page.contains("two cores"));
    assert!(page.contains("(memory.svg)") && folder.join("memory.svg").exists());
    let chart = std::fs::read_to_string(folder.join("memory.svg")).unwrap();
    assert!(chart.contains(">Pushpin (not all)<") && chart.contains(">gush<"));
    assert!(!page.contains("(latency.svg)"), "nobody has a latency");
}

#[test]
fn records_that_were_changed_by_hand_are_found() {
    let root = tempfile::tempdir().unwrap();
    run_in(root.path());
    std::fs::write(root.path().join("README.md"), format!("{BEGIN}{END}")).unwrap();
    write(root.path(), None).unwrap();
    assert!(check(root.path()).unwrap().is_ok);
    let page = front_page(root.path()).replacen("300 B", "200 B", 1);
    std::fs::write(root.path().join("README.md"), page).unwrap();
    let outcome = check(root.path()).unwrap();
    assert!(!outcome.is_ok && outcome.lines[0].contains("README.md"));
}

#[test]
fn a_trial_run_elsewhere_leaves_the_front_page_alone() {
    let root = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let folder = run_in(elsewhere.path());
    std::fs::write(root.path().join("README.md"), format!("{BEGIN}{END}")).unwrap();
    write(root.path(), folder.to_str()).unwrap();
    assert_eq!(front_page(root.path()), format!("{BEGIN}{END}"));
}

#[test]
fn the_records_match_the_newest_run() {
    let outcome = check(&crate::files::root()).unwrap();
    assert!(outcome.is_ok, "{}", outcome.lines.join("\n"));
}
