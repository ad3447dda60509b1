//! The options of the hub as command line arguments, made from the hub's own table.

use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use gush_hub::config::Sources;
use gush_hub::options::{CONFIG_HELP, CONFIG_KEY, OPTIONS, OptionSpec};

/// Adds one flag per option, and `--config`.
pub(crate) fn add_options(command: Command) -> Command {
    let config = Arg::new(CONFIG_KEY)
        .long(CONFIG_KEY)
        .value_name("FILE")
        .value_parser(ValueParser::path_buf())
        .help(format!("{CONFIG_HELP} [env: GUSH_CONFIG]"))
        .help_heading("Configuration");
    command.arg(config).args(OPTIONS.iter().map(argument))
}

/// What was given on the command line, with the process's environment.
pub(crate) fn sources(matches: &ArgMatches) -> Sources {
    let given =
        |option: &&OptionSpec| matches.value_source(option.key) == Some(ValueSource::CommandLine);
    let flags = OPTIONS.iter().filter(given).map(|option| {
        let values = matches.get_many::<String>(option.key).unwrap_or_default();
        (option.key, values.cloned().collect())
    });
    Sources {
        flags: flags.collect(),
        env: Box::new(|name| std::env::var(name).ok()),
        file: matches.get_one::<PathBuf>(CONFIG_KEY).cloned(),
    }
}

/// Names read from the environment by some subcommand beside the options of the table.
const OTHER_NAMES: [&str; 5] = [
    "GUSH_CONFIG",
    "GUSH_HUB",
    "GUSH_TOKEN",
    "GUSH_ADMIN",
    "GUSH_UPGRADE",
];

/// Names of the reference hub's image that mean something there and nothing here.
const FOREIGN_NAMES: [&str; 4] = [
    "MERCURE_EXTRA_DIRECTIVES",
    "CADDY_EXTRA_CONFIG",
    "CADDY_SERVER_EXTRA_DIRECTIVES",
    "MERCURE_TRANSPORT_URL",
];

/// One line per environment variable that looks as if it were meant for the hub and is not read.
pub(crate) fn unread_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = names.filter_map(|name| unread_variable(&name)).collect();
    lines.sort();
    lines
}

fn unread_variable(name: &str) -> Option<String> {
    if FOREIGN_NAMES.contains(&name) {
        let page = "docs/operate/from-mercure.md";
        return Some(format!(
            "{name} is not read; {page} says which option to use"
        ));
    }
    let key = name.strip_prefix("GUSH_")?;
    let is_known = OPTIONS.iter().any(|option| option.environment() == name);
    if is_known || OTHER_NAMES.contains(&name) {
        return None;
    }
    let near = gush_hub::options::nearest(key).and_then(gush_hub::options::find);
    let hint = near.map_or(String::new(), |option| {
        format!("; did you mean {}?", option.environment())
    });
    Some(format!("{name} is not read: there is no such option{hint}"))
}

fn argument(option: &'static OptionSpec) -> Arg {
    // clap keeps names for the life of the process; so does this, once per option.
    let flag: &'static str = Box::leak(option.flag().into_boxed_str());
    let argument = Arg::new(option.key)
        .long(flag)
        .value_name(option.form.placeholder())
        .help(short_help(option))
        .long_help(long_help(option))
        .help_heading(option.group.title());
    if option.is_switch() {
        return argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .action(ArgAction::Set);
    }
    // Repeating an option that takes one value is refused with the option's own words.
    argument
        .action(ArgAction::Append)
        .allow_hyphen_values(option.secret)
}

fn short_help(option: &OptionSpec) -> String {
    match option.default {
        "" | "false" => option.help.to_owned(),
        default => format!("{} [default: {default}]", option.help),
    }
}

fn long_help(option: &OptionSpec) -> String {
    let range = match option.form.range() {
        range if range.is_empty() || option.is_switch() => String::new(),
        range => format!("\nValues: {range}."),
    };
    let own = std::iter::once(option.environment());
    let names: Vec<String> = own
        .chain(option.env.iter().map(|name| (*name).into()))
        .collect();
    let default = if option.default.is_empty() {
        "not set"
    } else {
        option.default
    };
    format!(
        "{}.\n\n{}{range}\n[default: {default}] [env: {}]",
        option.help,
        option.why.replace('`', ""),
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Sources {
        let command = add_options(Command::new("serve").no_binary_name(true));
        sources(&command.try_get_matches_from(arguments).unwrap())
    }

    #[test]
    fn flags_become_values_by_key() {
        let sources = parsed(&[
            "--listen",
            "127.0.0.1:1",
            "--listen",
            "127.0.0.1:2",
            "--anonymous",
            "--heartbeat=5s",
            "--subscriptions=false",
            "--config",
            "x.toml",
            "--publisher-key",
            "-----BEGIN x",
        ]);
        let owned = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            sources.flags,
            [
                ("listen", owned(&["127.0.0.1:1", "127.0.0.1:2"])),
                ("publisher_key", owned(&["-----BEGIN x"])),
                ("anonymous", owned(&["true"])),
                ("subscriptions", owned(&["false"])),
                ("heartbeat", owned(&["5s"])),
            ]
        );
        assert_eq!(sources.file, Some("x.toml".into()));
    }

    #[test]
    fn a_switch_does_not_eat_what_follows() {
        let sources = parsed(&["--dev", "--anonymous", "--retry", "1s"]);
        assert_eq!(sources.flags.len(), 3);
    }

    #[test]
    fn variables_that_nobody_reads_are_named() {
        let names = [
            "GUSH_HARTBEAT",
            "GUSH_HUB",
            "GUSH_LISTEN",
            "MERCURE_EXTRA_DIRECTIVES",
            "PATH",
        ];
        assert_eq!(
            unread_variables(names.iter().map(|n| (*n).to_owned())),
            [
                "GUSH_HARTBEAT is not read: there is no such option; did you mean GUSH_HEARTBEAT?",
                "MERCURE_EXTRA_DIRECTIVES is not read; docs/operate/from-mercure.md says which \
                 option to use",
            ]
        );
    }
}
