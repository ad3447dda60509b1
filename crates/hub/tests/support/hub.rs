//! A hub in this process, until the process ends.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use gush_hub::config::{Settings, Sources};

/// Key of its publishers.
pub(crate) const KEY: &str = "a-key-of-this-test-and-of-no-other-use";

/// Far beyond what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts one with a memory log, one shard and no stream log, on a port of its own, and with `more`
/// settings.
pub(crate) fn hub(more: &[(&'static str, &str)]) -> SocketAddr {
    let base = [
        ("listen", "127.0.0.1:0"),
        ("admin_listen", "off"),
        ("log", "memory"),
        ("publisher_key", KEY),
        ("anonymous", "true"),
        ("shards", "1"),
        ("stream_log", "off"),
    ];
    let flags = base.iter().chain(more);
    let sources = Sources {
        flags: flags
            .map(|(key, value)| (*key, vec![(*value).to_owned()]))
            .collect(),
        ..Sources::none()
    };
    let loaded = Settings::load(&sources).expect("settings of this test");
    let (tell, told) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let reload = || Settings::load(&Sources::none());
        let ready = Box::new(move |started: &gush_hub::Started| {
            let _ = tell.send(started.public[0]);
        });
        gush_hub::serve(loaded, &reload, ready).expect("a hub that runs");
    });
    told.recv_timeout(PATIENCE).expect("a hub")
}
