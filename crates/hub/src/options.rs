//! One record per option: the flag, the environment name, the key in `gush.toml`, the help, the
//! reference page and the listing of `gush check` all come from [`OPTIONS`].

mod access;
mod admission;
mod form;
mod limits;
mod listen;
mod log;
mod operation;
mod overload;
mod streams;

use crate::config::Settings;

pub use form::{Form, Value, Zero};

/// Part of the reference page an option stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Addresses and TLS.
    Listen,
    /// Where events are kept, how safely, how long.
    Log,
    /// Keys, cookies, origins.
    Access,
    /// What a subscriber's stream looks like.
    Streams,
    /// What one peer may cost.
    Limits,
    /// What happens at the limits.
    Overload,
    /// Start, stop, log lines.
    Operation,
}

impl Group {
    /// Every group, in the order of the help.
    pub const ALL: [Self; 7] = [
        Self::Listen,
        Self::Log,
        Self::Access,
        Self::Streams,
        Self::Limits,
        Self::Overload,
        Self::Operation,
    ];

    /// Heading of the group.
    pub fn title(self) -> &'static str {
        match self {
            Self::Listen => "Listeners",
            Self::Log => "Event log",
            Self::Access => "Access",
            Self::Streams => "Streams",
            Self::Limits => "Limits",
            Self::Overload => "Overload",
            Self::Operation => "Operation",
        }
    }
}

/// One option of `gush serve`.
#[derive(Debug, Clone, Copy)]
pub struct OptionSpec {
    /// Name in `gush.toml`, `snake_case`. Flag and environment name follow from it.
    pub key: &'static str,
    /// Second name of the key in the file only, for lists that read better in the plural.
    pub file_alias: Option<&'static str>,
    /// Part of the reference page.
    pub group: Group,
    /// What a value looks like, with its range.
    pub form: Form,
    /// Default, written as a user would write it; empty = not set.
    pub default: &'static str,
    /// Whether SIGHUP takes a new value without a restart.
    pub reloadable: bool,
    /// Whether the value is hidden in listings and errors.
    pub secret: bool,
    /// One line for `--help`, without a full stop.
    pub help: &'static str,
    /// More for the reference page: the reason of the default, and what to think of when changing
    /// it.
    pub why: &'static str,
    /// Environment names read besides `GUSH_…`, weaker than it.
    pub env: &'static [&'static str],
    /// Puts a parsed value into the settings.
    pub set: fn(&mut Settings, Value),
    /// Reads the value back. Secrets come out in clear: hide them before showing.
    pub get: fn(&Settings) -> Value,
}

impl OptionSpec {
    /// What most options share; the rows of the table override it.
    const ROW: Self = Self {
        key: "",
        file_alias: None,
        group: Group::Operation,
        form: Form::Switch,
        default: "",
        reloadable: false,
        secret: false,
        help: "",
        why: "",
        env: &[],
        set: |_, _| {},
        get: |_| Value::None,
    };

    /// `heartbeat` → `heartbeat`, `admin_listen` → `admin-listen` (without the dashes in front).
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// `heartbeat` → `GUSH_HEARTBEAT`.
    pub fn environment(&self) -> String {
        format!("GUSH_{}", self.key.to_ascii_uppercase())
    }

    /// Whether several values may be given.
    pub fn is_repeatable(&self) -> bool {
        matches!(
            self.form,
            Form::Addresses | Form::Networks | Form::Origins | Form::FlushTopics | Form::Matchers
        )
    }

    /// Whether it is on or off and the flag takes no value.
    pub fn is_switch(&self) -> bool {
        matches!(self.form, Form::Switch)
    }

    /// Parses `values` by the option's form and puts the result into `settings`.
    ///
    /// The error says what is wrong and what to write instead, and never repeats the value itself.
    pub fn apply(&self, settings: &mut Settings, values: &[&str]) -> Result<(), String> {
        let value = self.form.parse(values)?;
        (self.set)(settings, value);
        Ok(())
    }

    /// Sets the value of `to` to that of `from`.
    pub fn copy(&self, from: &Settings, to: &mut Settings) {
        (self.set)(to, (self.get)(from));
    }

    /// The value in `settings` as a user would write it; empty = not set. Secrets come out in
    /// clear.
    pub fn show(&self, settings: &Settings) -> String {
        self.form.show(&(self.get)(settings))
    }
}

/// Names read beside [`OPTIONS`]: the file itself, from `--config` or `GUSH_CONFIG`, never from the
/// file.
pub const CONFIG_KEY: &str = "config";
/// Help of [`CONFIG_KEY`].
pub const CONFIG_HELP: &str = "Read options from this file (TOML, the keys are the option names)";

const GROUPS: [&[OptionSpec]; 8] = [
    listen::ROWS,
    log::ROWS,
    access::ROWS,
    streams::ROWS,
    limits::ROWS,
    admission::ROWS,
    overload::ROWS,
    operation::ROWS,
];

/// The table.
pub static OPTIONS: &[OptionSpec] = &join::<{ count(&GROUPS) }>(&GROUPS);

/// The option with this key (or alias in the file).
pub fn find(key: &str) -> Option<&'static OptionSpec> {
    OPTIONS
        .iter()
        .find(|option| option.key == key || option.file_alias == Some(key))
}

/// The key that looks most like `key`, for "did you mean".
pub fn nearest(key: &str) -> Option<&'static str> {
    let key = key.replace('-', "_").to_ascii_lowercase();
    let keys = OPTIONS
        .iter()
        .flat_map(|o| [Some(o.key), o.file_alias])
        .flatten();
    let best = keys.map(|known| (distance(&key, known), known)).min()?;
    // A third of the letters wrong is no slip of the finger any more.
    (best.0 <= key.len().max(3) / 3).then_some(best.1)
}

/// Levenshtein distance of two short texts, in bytes.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in right.bytes().enumerate() {
            let change = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

const fn count(groups: &[&[OptionSpec]]) -> usize {
    let mut total = 0;
    let mut group = 0;
    while group < groups.len() {
        total += groups[group].len();
        group += 1;
    }
    total
}

const fn join<const N: usize>(groups: &[&[OptionSpec]]) -> [OptionSpec; N] {
    let mut rows = [OptionSpec::ROW; N];
    let (mut group, mut next) = (0, 0);
    while group < groups.len() {
        let mut row = 0;
        while row < groups[group].len() {
            rows[next] = groups[group][row];
            next += 1;
            row += 1;
        }
        group += 1;
    }
    rows
}

#[cfg(test)]
mod tests;
