//! The sources, merged: flag, then `GUSH_…`, then `MERCURE_…`, then the file, then the default.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::check::check;
use super::error::{ConfigError, Origin, Problem};
use super::{
    DescriptorTables, LogFormat, LogLevel, LogSpec, OPTIONS, Settings, StreamLogSpec, SyncMode,
    file,
};
use crate::options::{Group, OptionSpec};

/// Looks an environment variable up by its name.
pub type Environment = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Where values come from. Tests give maps instead of the process's environment.
pub struct Sources {
    /// What was given on the command line, by option key; a switch without a value is `["true"]`.
    pub flags: Vec<(&'static str, Vec<String>)>,
    /// The environment. An empty variable counts as not set.
    pub env: Environment,
    /// The file of `--config`; when `None`, the one `GUSH_CONFIG` names, if any.
    pub file: Option<PathBuf>,
}

impl Sources {
    /// No flags, no environment, no file: the defaults.
    pub fn none() -> Self {
        Self {
            flags: vec![],
            env: Box::new(|_| None),
            file: None,
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.trim().is_empty())
    }
}

/// Settings that passed every check, and where each value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The values.
    pub settings: Settings,
    /// Source of each option that was set; one that is missing has its default.
    pub origins: BTreeMap<&'static str, Origin>,
}

/// One line of the listing of `gush check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveOption {
    /// Key as in the file.
    pub key: &'static str,
    /// Part of the reference page.
    pub group: Group,
    /// Value as a user would write it; `(set, hidden)` for a secret, empty = not set.
    pub value: String,
    /// Which source set it.
    pub source: String,
}

impl Default for Settings {
    fn default() -> Self {
        let mut settings = blank();
        for option in OPTIONS.iter().filter(|option| !option.default.is_empty()) {
            option
                .apply(&mut settings, &[option.default])
                .expect("defaults are valid; tested");
        }
        settings
    }
}

impl Settings {
    /// Merges the sources and checks the result.
    ///
    /// Fails with every problem at once: the values of the file (also those a stronger source
    /// replaces), then those of the environment and the flags, and only when each value is right
    /// alone, those that do not go together.
    pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
        let mut loaded = Loaded {
            settings: Self::default(),
            origins: BTreeMap::new(),
        };
        let mut problems = vec![];
        let named = sources
            .file
            .clone()
            .or_else(|| sources.variable("GUSH_CONFIG").map(PathBuf::from));
        if let Some(path) = named {
            read_file(&path, &mut loaded, &mut problems);
        }
        for option in OPTIONS {
            let Some((origin, values)) = strongest(option, sources) else {
                continue;
            };
            let shown = if option.secret {
                "(hidden)".into()
            } else {
                values.join(",")
            };
            let texts: Vec<&str> = values.iter().map(String::as_str).collect();
            match option.apply(&mut loaded.settings, &texts) {
                Ok(()) => drop(loaded.origins.insert(option.key, origin)),
                Err(reason) => problems.push(Problem {
                    origin,
                    key: option.key.into(),
                    value: Some(shown),
                    reason,
                }),
            }
        }
        loaded.apply_dev();
        if problems.is_empty() {
            problems = check(&loaded);
        }
        if problems.is_empty() {
            Ok(loaded)
        } else {
            Err(ConfigError { problems })
        }
    }
}

impl Loaded {
    /// Where the value of `key` came from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// Every option with its value and source, in the order of the table; secrets hidden.
    pub fn effective(&self) -> Vec<EffectiveOption> {
        let row = |option: &OptionSpec| {
            let value = option.show(&self.settings);
            let hide = option.secret && !value.is_empty();
            EffectiveOption {
                key: option.key,
                group: option.group,
                value: if hide { "(set, hidden)".into() } else { value },
                source: self.origin(option.key).to_string(),
            }
        };
        OPTIONS.iter().map(row).collect()
    }

    /// `dev` turns on what trying out needs, unless the user said otherwise.
    fn apply_dev(&mut self) {
        if !self.settings.dev {
            return;
        }
        if self.origin("anonymous") == Origin::Default {
            self.settings.anonymous = true;
            self.origins.insert("anonymous", Origin::Dev);
        }
        if self.origin("subscriptions") == Origin::Default {
            self.settings.subscriptions = true;
            self.origins.insert("subscriptions", Origin::Dev);
        }
    }
}

/// Keys whose values differ: first those a reload takes over, then those that need a restart.
pub fn reload_changes(old: &Settings, new: &Settings) -> (Vec<&'static str>, Vec<&'static str>) {
    let changed = OPTIONS
        .iter()
        .filter(|option| option.show(old) != option.show(new));
    let (reloadable, fixed): (Vec<_>, Vec<_>) = changed.partition(|option| option.reloadable);
    let keys = |options: Vec<&OptionSpec>| options.iter().map(|option| option.key).collect();
    (keys(reloadable), keys(fixed))
}

fn read_file(path: &Path, loaded: &mut Loaded, problems: &mut Vec<Problem>) {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let origin = Origin::Flag(format!("--config {}", path.display()));
            let reason =
                format!("cannot be read ({error}); name a file that exists and is readable");
            problems.push(Problem {
                origin,
                key: String::new(),
                value: None,
                reason,
            });
            return;
        }
    };
    let (entries, refused) = file::entries(path, &text);
    problems.extend(refused);
    for entry in entries {
        let mut refuse = |reason: String| {
            problems.push(Problem {
                origin: entry.origin.clone(),
                key: entry.key.clone(),
                value: Some(entry.shown.clone()),
                reason,
            });
        };
        if loaded.origins.contains_key(entry.option.key) {
            refuse(format!(
                "stands twice, also as \"{}\"; keep one",
                entry.option.key
            ));
            continue;
        }
        let texts: Vec<&str> = entry.values.iter().map(String::as_str).collect();
        match entry.option.apply(&mut loaded.settings, &texts) {
            Ok(()) => drop(loaded.origins.insert(entry.option.key, entry.origin)),
            Err(reason) => refuse(reason),
        }
    }
    problems.sort_by_key(|problem| match problem.origin {
        Origin::File { line, .. } => line,
        _ => 0,
    });
}

/// The flag, else `GUSH_…`, else the further names; a list in the environment is split at commas
/// and spaces.
fn strongest(option: &'static OptionSpec, sources: &Sources) -> Option<(Origin, Vec<String>)> {
    if let Some((_, values)) = sources.flags.iter().find(|(key, _)| *key == option.key) {
        return Some((Origin::Flag(format!("--{}", option.flag())), values.clone()));
    }
    let own = option.environment();
    let mut names = [own.as_str()].into_iter().chain(option.env.iter().copied());
    let (name, value) = names.find_map(|name| Some((name, sources.variable(name)?)))?;
    let values = if option.is_repeatable() {
        let parts = value
            .split([',', ' ', '\n', '\t'])
            .filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    } else {
        vec![value]
    };
    Some((Origin::Environment(name.to_owned()), values))
}

impl LogLevel {
    /// The word in the configuration and in log lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Before the table's defaults are applied. Private: nobody sees these values.
fn blank() -> Settings {
    use std::time::Duration;
    Settings {
        listen: vec![],
        admin_listen: None,
        tls_cert: None,
        tls_key: None,
        trusted_proxies: Vec::new(),
        proxy_protocol: false,
        log: LogSpec::Memory,
        sync: SyncMode::Batch,
        sync_interval: Duration::ZERO,
        segment_bytes: 0,
        retention_bytes: None,
        retention_age: None,
        retention_events: None,
        window_bytes: 0,
        window_events: 0,
        publisher_key: None,
        publisher_alg: None,
        subscriber_key: None,
        subscriber_alg: None,
        anonymous: false,
        subscriptions: false,
        cookie_name: String::new(),
        cors_origins: vec![],
        publish_origins: vec![],
        heartbeat: Duration::ZERO,
        retry: Duration::ZERO,
        write_timeout: Duration::ZERO,
        tcp_user_timeout: Duration::ZERO,
        send_buffer: 0,
        max_stream_life: None,
        flush_interval: Duration::ZERO,
        flush_batch: 0,
        flush_topics: Vec::new(),
        conflate_topics: Vec::new(),
        head_timeout: Duration::ZERO,
        body_timeout: Duration::ZERO,
        max_body: 0,
        max_connections: 0,
        limits: super::LimitSettings::default(),
        shards: 0,
        descriptor_tables: DescriptorTables::Auto,
        overload: super::OverloadSettings::blank(),
        drain_delay: Duration::ZERO,
        drain_window: Duration::ZERO,
        stream_log: StreamLogSpec::Off,
        stream_log_format: LogFormat::Text,
        upgrade_timeout: Duration::ZERO,
        log_format: LogFormat::Text,
        log_level: LogLevel::Info,
        dev: false,
    }
}
