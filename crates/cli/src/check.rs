//! `gush check`: validates a configuration and prints what is in effect.

mod capacity;

use std::fmt::Display;
use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use gush_hub::config::{EffectiveOption, Settings};
use gush_hub::policy::Policy;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;

use crate::arguments::{add_options, sources, unread_variables};
use crate::failure::{Failure, note, print};

const EXAMPLES: &str = "\
Examples:
  gush check --config gush.toml          what gush serve --config gush.toml would run with
  gush check --config gush.toml --json   the same for a program
  gush check --capacity 1000000          what a million streams need, and whether this host has it
  GUSH_HEARTBEAT=25 gush check           says what is wrong, exit code 1";

pub(crate) fn command() -> Command {
    let json = Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("Print one JSON object: options (key, value, source) and warnings")
        .help_heading("Output");
    let capacity = Arg::new("capacity")
        .long("capacity")
        .value_name("N")
        .value_parser(value_parser!(u64).range(1..=1 << 24))
        .help("Say instead what N streams need of this host, and the command for what is too low")
        .help_heading("Output");
    add_options(Command::new("check"))
        .about("Validate a configuration and print the effective one, secrets hidden")
        .long_about(
            "Validate a configuration and print the effective one, secrets hidden.\n\n\
             Takes the options of `gush serve`, reads the same file and the same environment, \
             prints each option with its value and where the value came from, and exits with 1 \
             when something is wrong. Starts nothing and opens no listener.\n\n\
             With --capacity it computes what so many streams need (descriptors, memory, CPU, \
             kernel settings) and compares it with this host, a line for each setting; exit code \
             1 when they do not fit.",
        )
        .after_help(EXAMPLES)
        .args([capacity, json])
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let loaded = Settings::load(&sources(matches)).map_err(|error| Failure::config(&error))?;
    check_files(&loaded.settings)?;
    if let Some(streams) = matches.get_one::<u64>("capacity") {
        return capacity::run(&loaded.settings, *streams, matches.get_flag("json"));
    }
    let mut warnings =
        unread_variables(std::env::vars_os().filter_map(|(n, _)| n.into_string().ok()));
    warnings.extend(loaded.settings.warnings());
    let options = loaded.effective();
    if matches.get_flag("json") {
        let rows = options.iter().map(
            |option| json!({ "key": option.key, "value": option.value, "source": option.source }),
        );
        let rows: Vec<_> = rows.collect();
        return print(&json!({ "options": rows, "warnings": warnings }).to_string());
    }
    print(&listing(&options))?;
    for warning in warnings {
        note(&format!("warning: {warning}"));
    }
    Ok(())
}

/// Reads what the options point to, as `gush serve` would: keys, certificate. Nothing is fetched.
fn check_files(settings: &Settings) -> Result<(), Failure> {
    Policy::new(settings.clone()).map_err(Failure::failed)?;
    let (Some(cert), Some(key)) = (&settings.tls_cert, &settings.tls_key) else {
        return Ok(());
    };
    let named = |option: &str, path: &Path, reason: &dyn Display| {
        Failure::Failed(format!("{option} = \"{}\": {reason}", path.display()))
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|error| named("tls_cert", cert, &error))?;
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| named("tls_key", key, &error))?;
    let made = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, private);
    made.map(drop)
        .map_err(|error| named("tls_cert", cert, &error))
}

/// Three columns: key, value, source; groups apart.
fn listing(options: &[EffectiveOption]) -> String {
    let shown = |option: &EffectiveOption| match option.value.as_str() {
        "" => "(not set)".to_owned(),
        value => value.to_owned(),
    };
    let values: Vec<String> = options.iter().map(shown).collect();
    let key_width = options
        .iter()
        .map(|option| option.key.len())
        .max()
        .unwrap_or_default();
    let value_width = values
        .iter()
        .map(String::len)
        .max()
        .unwrap_or_default()
        .min(40);
    let mut lines = vec![];
    let mut group = None;
    for (option, value) in options.iter().zip(&values) {
        if group.replace(option.group) != Some(option.group) {
            if !lines.is_empty() {
                lines.push(String::new());
            }
            lines.push(format!("# {}", option.group.title()));
        }
        let key = option.key;
        lines.push(format!(
            "{key:key_width$}  {value:value_width$}  {}",
            option.source
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::listing;
    use gush_hub::config::{Settings, Sources};

    #[test]
    fn the_listing_has_a_line_per_option_and_no_secret() {
        let mut sources = Sources::none();
        sources.flags = vec![("publisher_key", vec!["hunter2".into()])];
        let text = listing(&Settings::load(&sources).unwrap().effective());
        assert!(!text.contains("hunter2"));
        let line = |key: &str| {
            text.lines()
                .find(|l| l.starts_with(key))
                .unwrap()
                .to_owned()
        };
        let words = |line: String| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(line("heartbeat ")), ["heartbeat", "25s", "default"]);
        assert_eq!(
            words(line("publisher_key ")),
            ["publisher_key", "(set,", "hidden)", "--publisher-key"]
        );
        assert_eq!(
            words(line("tls_cert ")),
            ["tls_cert", "(not", "set)", "default"]
        );
    }
}
