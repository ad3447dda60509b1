use std::path::Path;

use super::*;

/// A host with the settings of a usual server, in a folder.
fn host(changes: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
    let folder = tempfile::tempdir().unwrap();
    let usual = [
        ("proc/sys/fs/file-nr", "3000\t0\t9223372036854775807"),
        ("proc/sys/fs/file-max", "9223372036854775807"),
        ("proc/sys/fs/nr_open", "2000000"),
        ("proc/sys/fs/epoll/max_user_watches", "5000000"),
        ("proc/sys/net/core/somaxconn", "4096"),
        ("proc/sys/net/ipv4/tcp_max_syn_backlog", "4096"),
        ("proc/sys/net/ipv4/tcp_mem", "287157 382879 574314"),
        ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999"),
        (
            "proc/meminfo",
            "MemTotal: 24000000 kB\nMemAvailable: 20000000 kB\n",
        ),
        ("proc/self/limits", "Max open files  1024  1048576  files\n"),
    ];
    for (path, text) in usual.iter().chain(changes) {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let host = Host::at(folder.path());
    (folder, host)
}

/// Names of what is too low, with the fix.
fn too_low(settings: &Settings, streams: u64, host: &Host) -> Vec<(&'static str, String)> {
    let needs = Needs::new(settings, streams, host);
    let findings = findings(settings, &needs, host).into_iter();
    let low = findings.filter(|finding| finding.verdict == Verdict::TooLow);
    low.map(|finding| (finding.name, finding.fix)).collect()
}

#[test]
fn a_usual_server_holds_some_thousand_streams() {
    let (_folder, host) = host(&[]);
    assert_eq!(too_low(&Settings::default(), 4000, &host), []);
}

#[test]
fn a_million_streams_need_what_is_named() {
    let (_folder, host) = host(&[]);
    let low = too_low(&Settings::default(), 1_000_000, &host);
    let fix = |name: &str| {
        low.iter()
            .find(|(found, _)| *found == name)
            .map(|(_, fix)| &**fix)
    };
    assert_eq!(
        fix("net.core.somaxconn"),
        Some("sysctl -w net.core.somaxconn=65535")
    );
    let tcp_mem = "sysctl -w net.ipv4.tcp_mem=\"1000000 2000000 3000000\"";
    assert_eq!(fix("net.ipv4.tcp_mem (second)"), Some(tcp_mem));
    assert_eq!(
        fix("descriptors (hard limit)"),
        None,
        "1,048,576 in one table are enough"
    );
    assert_eq!(fix("memory available"), None);
    assert_eq!(low.len(), 3, "{low:?}");
}

#[test]
fn more_than_a_table_holds_is_spread_over_shards() {
    let (_folder, host) = host(&[("proc/self/limits", "Max open files  1024  20000  files\n")]);
    let needs = Needs::new(&Settings::default(), 1_000_000, &host);
    assert!(needs.plan.own_tables && needs.plan.shards > 50);
    let low = too_low(&Settings::default(), 1_000_000, &host);
    let names: Vec<&str> = low.iter().map(|(name, _)| *name).collect();
    assert!(
        names.contains(&"max_connections"),
        "the hub has to be told: {names:?}"
    );
    let told = Settings {
        max_connections: 1_000_000,
        ..Settings::default()
    };
    let low = too_low(&told, 1_000_000, &host);
    assert!(
        !low.iter().any(|(name, _)| *name == "max_connections"),
        "{low:?}"
    );
}

/// The advice to raise the hard limit is of no use without this: the kernel refuses it.
#[test]
fn where_even_all_tables_are_too_small_nr_open_has_to_be_raised_first() {
    let (_folder, host) = host(&[("proc/self/limits", "Max open files  1024  1024  files\n")]);
    let low = too_low(&Settings::default(), 16_000_000, &host);
    let names: Vec<&str> = low.iter().map(|(name, _)| *name).collect();
    assert!(names.contains(&"descriptors (hard limit)"), "{names:?}");
    let fix = "sysctl -w fs.nr_open=16001024".to_owned();
    assert!(low.contains(&("fs.nr_open", fix)), "{low:?}");
}

#[test]
fn a_topic_of_its_own_for_each_is_said_beside() {
    let (_folder, host) = host(&[]);
    let needs = Needs::new(&Settings::default(), 1_000_000, &host);
    let text = needs.listing(&[]);
    let value: Value = serde_json::from_str(&needs.json(&[], true)).unwrap();
    let more = 1_000_000 * (1024 - 512);
    let bytes = |name: &str| value[name].as_u64().unwrap_or_default();
    let (shared, own) = ("user_memory_bytes", "user_memory_own_topics_bytes");
    assert_eq!(bytes(own) - bytes(shared), more);
    let line = format!("{} with a topic of its own for each", show_mib(bytes(own)));
    assert!(text.contains(&line), "{text}");
}

#[test]
fn memory_of_the_control_group_counts() {
    let changes = [("sys/fs/cgroup/memory.max", "1073741824\n")];
    let (_folder, host) = host(&changes);
    let low = too_low(&Settings::default(), 1_000_000, &host);
    assert!(
        low.iter().any(|(name, _)| *name == "memory available"),
        "{low:?}"
    );
}

#[test]
fn connection_tracking_counts_where_it_is_loaded() {
    let changes = [
        ("proc/sys/net/netfilter/nf_conntrack_max", "262144"),
        ("proc/sys/net/netfilter/nf_conntrack_count", "144"),
    ];
    let (_folder, host) = host(&changes);
    let low = too_low(&Settings::default(), 300_000, &host);
    let fix = "sysctl -w net.netfilter.nf_conntrack_max=300144".to_owned();
    assert!(
        low.contains(&("net.netfilter.nf_conntrack_max", fix)),
        "{low:?}"
    );
}

#[test]
fn what_a_host_does_not_show_is_unknown_and_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::at(folder.path());
    let needs = Needs::new(&Settings::default(), 1000, &host);
    let findings = findings(&Settings::default(), &needs, &host);
    let unknown = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Unknown);
    assert!(unknown.count() > 5);
    assert!(
        findings
            .iter()
            .all(|finding| finding.verdict != Verdict::TooLow)
    );
}

#[test]
fn both_listings_have_a_line_for_each_setting() {
    let (_folder, host) = host(&[]);
    let settings = Settings::default();
    let needs = Needs::new(&settings, 1_000_000, &host);
    let findings = findings(&settings, &needs, &host);
    let text = needs.listing(&findings);
    let value: Value = serde_json::from_str(&needs.json(&findings, false)).unwrap();
    assert_eq!(
        value["settings"].as_array().map(Vec::len),
        Some(findings.len())
    );
    assert_eq!(value["kernel_memory_bytes"], 4_150_000_000_u64);
    for finding in &findings {
        assert!(text.contains(finding.name), "{text}");
    }
    assert!(text.starts_with("1,000,000 streams need\n"), "{text}");
}
