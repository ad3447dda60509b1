//! Which crate may know what (the invariants of `ARCHITECTURE.md`).

use super::source::Source;
use super::{Findings, has_word};

/// A folder, the words its code may not hold, and why.
struct Layer {
    folder: &'static str,
    banned: &'static [&'static str],
    why: &'static str,
}

const LAYERS: [Layer; 3] = [
    Layer {
        folder: "crates/sse/src",
        banned: &[
            "std::net",
            "std::fs",
            "std::io",
            "std::time",
            "std::thread",
            "std::process",
            "tokio",
            "Instant",
            "SystemTime",
        ],
        why: "the codec does no I/O and knows no clock and no runtime",
    },
    Layer {
        folder: "crates/log/src",
        banned: &[
            "http",
            "hyper",
            "tokio",
            "gush_hub",
            "Subscriber",
            "mio",
            "rustls",
        ],
        why: "the log knows nothing of HTTP, subscribers or a runtime",
    },
    Layer {
        folder: "crates/hub/src/shard",
        banned: &["tokio", "hyper", "std::fs", "std::net"],
        why: "a shard never waits and touches no descriptor itself",
    },
];

pub(super) fn check(source: &Source, findings: &mut Findings) {
    for layer in LAYERS.iter().filter(|layer| source.is_in(layer.folder)) {
        for (number, line) in source.product() {
            for name in layer.banned.iter().filter(|name| has_word(line, name)) {
                findings.error(&source.path, number, format!("{name}: {}", layer.why));
            }
        }
    }
    // The closed list is closed only while nobody names a reason by its text.
    if source.is_in("crates/hub/src") && !source.path.ends_with("close.rs") {
        for (number, line) in source.product() {
            if line.contains("enum CloseReason") || line.contains("transmute") {
                findings.error(
                    &source.path,
                    number,
                    "close reasons are listed in close.rs only",
                );
            }
        }
    }
}
