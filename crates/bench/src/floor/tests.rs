//! The references, loaded by the generator in the same process. Their threads end with it.

use std::net::SocketAddr;
use std::sync::mpsc::sync_channel;

use super::bare_loop::BareLoop;
use super::crew;
use super::reference::Fanout;
use super::sweep::Sweep;
use crate::modes::fanout;
use crate::options::BenchOptions;
use crate::progress::Progress;

/// Starts a reference with that many threads and gives its URL.
fn start<F: Fanout + Default + 'static>(threads: usize) -> String {
    let (sender, address) = sync_channel(1);
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    std::thread::spawn(move || {
        crew::serve::<F>(any, threads, |address| {
            let _ = sender.send(address);
        })
    });
    format!("http://{}/", address.recv().expect("it listens"))
}

/// A run whose own checks have to pass.
fn deliver(url: String, window: u32, size: usize) {
    let options = BenchOptions {
        url,
        subscribers: 300,
        events: Some(200),
        window: Some(window),
        publishers: 2,
        size,
        ..BenchOptions::default()
    };
    let report = fanout::run(&options, &Progress::silent()).expect("a run");
    assert!(report.passed(), "{:?}", report.checks);
    assert_eq!(report.value("delivered_count"), Some(60_000.0));
}

#[test]
fn the_bare_loop_delivers_everything_once_and_in_order() {
    deliver(start::<BareLoop>(1), 4, 200);
}

#[test]
fn the_bare_sweep_delivers_everything_once_and_in_order() {
    deliver(start::<Sweep>(1), 16, 200);
}

#[test]
fn full_sockets_get_the_rest_later() {
    deliver(start::<BareLoop>(1), 100, 20_000);
    deliver(start::<Sweep>(1), 100, 20_000);
}

#[test]
fn threads_of_a_reference_pass_each_other_the_events() {
    deliver(start::<BareLoop>(3), 4, 200);
    deliver(start::<Sweep>(3), 16, 200);
}
