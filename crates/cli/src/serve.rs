//! `gush serve`: runs the hub.

mod logging;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use clap::{ArgMatches, Command};
use gush_hub::config::{ConfigError, Loaded, Settings};
use gush_hub::{DevInfo, Started};

use crate::arguments::{add_options, sources, unread_variables};
use crate::client::encode_form;
use crate::failure::{Failure, print};

const ABOUT: &str = "\
Run the hub.

Every option is also a key of the file given with --config (snake_case, flat) and an environment \
variable (GUSH_ and the name in upper case). A flag beats the environment, the environment beats \
the file. Durations and sizes carry a unit: 25s, 500ms, 64KiB, 1GiB.

Prints a line per listener, `ready` and the stream log on stdout, logs on stderr. SIGTERM and \
SIGINT drain and end with 0; SIGHUP reads the configuration again and takes over the options that \
are reloadable.";

const EXAMPLES: &str = "\
Examples:
  gush serve --dev                               try it out
  gush serve --config /etc/gush/gush.toml
  gush serve --listen 0.0.0.0:443 --tls-cert cert.pem --tls-key key.pem --anonymous
  GUSH_PUBLISHER_KEY=file:publisher.key gush serve --log disk:/var/lib/gush";

pub(crate) fn command() -> Command {
    add_options(Command::new("serve"))
        .about("Run the hub")
        .long_about(ABOUT)
        .after_help(EXAMPLES)
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let loaded = Settings::load(&sources(matches)).map_err(|error| Failure::config(&error))?;
    let set_level = logging::start(&loaded.settings)?;
    for line in unread_variables(std::env::vars_os().filter_map(|(n, _)| n.into_string().ok())) {
        tracing::warn!("{line}");
    }
    let matches = matches.clone();
    let reload = move || -> Result<Loaded, ConfigError> {
        let loaded = Settings::load(&sources(&matches))?;
        set_level(loaded.settings.log_level);
        Ok(loaded)
    };
    gush_hub::serve(loaded, &reload, Box::new(announce)).map_err(Failure::failed)
}

/// The lines on stdout. A start script that closed the pipe does not stop the hub.
fn announce(started: &Started) {
    let mut lines = listeners(started);
    if let Some(dev) = &started.dev {
        lines.extend(trying_out(started, dev));
    }
    lines.push("ready".into());
    if print(&lines.join("\n")).is_err() {
        tracing::warn!(
            "stdout is closed; listeners are only named here: {}",
            lines.join("; ")
        );
    }
}

fn listeners(started: &Started) -> Vec<String> {
    let scheme = scheme(started);
    let public = started
        .public
        .iter()
        .map(|at| format!("listening on {scheme}://{at} (public)"));
    let admin = started
        .admin
        .iter()
        .map(|at| format!("listening on http://{at} (admin)"));
    public.chain(admin).collect()
}

fn scheme(started: &Started) -> &'static str {
    if started.tls { "https" } else { "http" }
}

/// What to open and what to type, ready to copy.
fn trying_out(started: &Started, dev: &DevInfo) -> Vec<String> {
    let (token, topic) = (&dev.publisher_token, dev.topic.as_str());
    let mut lines = vec![String::new()];
    if let Some(admin) = started.admin {
        lines.push("open the page:".into());
        lines.push(format!("  http://{}/#token={token}", reachable(admin)));
    }
    let Some(public) = started.public.first() else {
        return lines;
    };
    let hub = format!(
        "{}://{}/.well-known/mercure",
        scheme(started),
        reachable(*public)
    );
    let query = encode_form(&[("topic", topic)]);
    lines.extend([
        "publish:".into(),
        format!(
            "  curl -H {} --data-urlencode {} --data-urlencode {} {}",
            quote(&format!("Authorization: Bearer {token}")),
            quote(&format!("topic={topic}")),
            quote("data=hello"),
            quote(&hub),
        ),
        "subscribe:".into(),
        format!("  curl -N {}", quote(&format!("{hub}?{query}"))),
        String::new(),
    ]);
    lines
}

/// An address to connect to: a listener on all addresses is reached through loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// One word for a POSIX shell, whatever stands in it.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_name_each_listener_and_can_be_pasted() {
        let dev = DevInfo {
            publisher_token: "a.b.c".into(),
            topic: "it's {id}".into(),
        };
        let started = Started {
            public: vec!["0.0.0.0:3000".parse().unwrap()],
            admin: Some("127.0.0.1:3001".parse().unwrap()),
            tls: false,
            dev: Some(dev),
        };
        assert_eq!(
            listeners(&started),
            [
                "listening on http://0.0.0.0:3000 (public)",
                "listening on http://127.0.0.1:3001 (admin)",
            ]
        );
        let lines = trying_out(&started, started.dev.as_ref().unwrap());
        assert_eq!(
            lines,
            [
                "",
                "open the page:",
                "  http://127.0.0.1:3001/#token=a.b.c",
                "publish:",
                "  curl -H 'Authorization: Bearer a.b.c' --data-urlencode 'topic=it'\\''s {id}' \
                 --data-urlencode 'data=hello' 'http://127.0.0.1:3000/.well-known/mercure'",
                "subscribe:",
                "  curl -N 'http://127.0.0.1:3000/.well-known/mercure?topic=it%27s%20%7Bid%7D'",
                "",
            ]
        );
    }
}
