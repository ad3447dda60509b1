//! The text of each page.

use std::fmt::Write as _;

use gush_hub::close::CloseReason;
use gush_hub::metrics::CATALOGUE;
use gush_hub::options::{Group, OPTIONS, OptionSpec};
use gush_hub::request::ENDPOINTS;

use super::Page;

const MADE: &str = "<!-- Written by `cargo xtask reference` from the code. Do not edit. -->\n\n";

/// Every page of the folder.
pub(super) fn all() -> Vec<Page> {
    vec![
        Page {
            name: "README.md",
            text: index(),
        },
        Page {
            name: "options.md",
            text: options(),
        },
        Page {
            name: "endpoints.md",
            text: endpoints(),
        },
        Page {
            name: "metrics.md",
            text: metrics(),
        },
        Page {
            name: "close-reasons.md",
            text: close_reasons(),
        },
    ]
}

fn index() -> String {
    format!(
        "{MADE}# Reference\n\n\
         Written from the code's own tables, so it says what this version does.\n\n\
         | Page | Holds |\n| --- | --- |\n\
         | [options.md](options.md) | every option: flag, variable, key, default, range, reason |\n\
         | [endpoints.md](endpoints.md) | paths, methods, listeners, protocol extensions |\n\
         | [metrics.md](metrics.md) | what `/metrics` counts |\n\
         | [close-reasons.md](close-reasons.md) | why a stream ends, and whether to come back |\n"
    )
}

const OPTIONS_HEAD: &str = "\
# Options

Of `gush serve` and `gush check`. An option has three names: the flag `--drain-window`, the variable
`GUSH_DRAIN_WINDOW`, and the key `drain_window` in the file that `--config FILE` (or `GUSH_CONFIG`)
names. The file is TOML, flat, without sections. A flag beats a `GUSH_` variable, that beats a
`MERCURE_` variable, that beats the file, that beats the default. An empty variable counts as not
set.

- **Durations** carry a unit: `500ms`, `25s`, `2m`, `1h`, `7d`, `1h30m`. **Sizes** too: `64KiB`
  (1,024), `10MB` (1,000,000), `1GiB`.
- **Lists** repeat the flag, are a list in the file (`listen = [\"…\", \"…\"]`), and are
  separated by commas or spaces in a variable.
- **Switches** are `--anonymous` or `--anonymous=false`; `true`, `false`, `1`, `0`, `yes` or `no` in
  a variable; `true` or `false` in the file.
- **Reloadable** options take their new value on SIGHUP; the others need a restart, and the hub says
  so. A broken file is refused as a whole and the old values stay.

`gush check` takes the same options, prints the values in effect and where each came from.
";

fn options() -> String {
    let mut text = format!("{MADE}{OPTIONS_HEAD}");
    for group in Group::ALL {
        let _ = write!(text, "\n## {}\n", group.title());
        for option in OPTIONS.iter().filter(|option| option.group == group) {
            text.push_str(&option_section(option));
        }
    }
    text
}

fn option_section(option: &OptionSpec) -> String {
    let default = match option.default {
        "" => "not set".to_owned(),
        default => format!("`{default}`"),
    };
    let value = match option.form.range() {
        range if range.is_empty() => format!("`{}`", option.form.placeholder()),
        range if option.is_switch() => range,
        range => format!("`{}`: {range}", option.form.placeholder()),
    };
    let mut names = vec![
        format!("`--{}`", option.flag()),
        format!("`{}`", option.environment()),
    ];
    names.extend(option.env.iter().map(|name| format!("`{name}`")));
    names.extend(
        option
            .file_alias
            .map(|alias| format!("`{alias}` in the file")),
    );
    let mut marks = vec![if option.reloadable {
        "reloadable"
    } else {
        "fixed until restart"
    }];
    marks.extend(option.is_repeatable().then_some("list"));
    marks.extend(
        option
            .secret
            .then_some("secret: hidden in every listing and error"),
    );
    format!(
        "\n### `{}`\n\n{}. {}\n\n- Default: {default}\n- Value: {value}\n- Names: {}\n- {}\n",
        option.key,
        option.help,
        option.why,
        names.join(", "),
        capitalised(&marks.join(", ")),
    )
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

const ENDPOINTS_HEAD: &str = "\
# Endpoints

Other methods on these paths get 405, other paths 404. The wire protocol is Mercure, dialect 0.x.

| Path | Methods | Listener | For |
| --- | --- | --- | --- |
";

const EXTENSIONS: &str = "
## Our extensions to Mercure

A plain Mercure client never meets them: they are off unless a request asks for them.

| What | Where | Means |
| --- | --- | --- |
| `gush_gap=1` | query of a subscribe | ask for the gap event |
| `gush-gap` | type of an event in the stream | events after the id you sent are lost; \
`data` is `{\"requested\":\"<id>\",\"reason\":\"unknown\"}`, or reason `trimmed` or `damaged`; the \
event's id is the last stored one, so that resuming goes on from there |
| `gush_latest=1` | form of a publish, or `true` in a line of a batch | \
for readers that are behind a newer event of the same topics and key \
[may stand for this one](../concepts/conflation.md) |
| `gush_key=KEY` | form of a publish, or a line of a batch | the key, up to 256 bytes |
| `application/x-ndjson` | `Content-Type` of a publish | [many events in one request]\
(../concepts/batch.md), a JSON object on each line: `topic`, `data`, `id`, `type`, `retry`, \
`private`, `gush_latest`, `gush_key`; the answer has the same type and one line for each: \
`{\"id\":\"<id>\"}`, or \
`{\"error\":\"<why>\",\"status\":400,\"line\":3}` |
";

fn endpoints() -> String {
    let mut text = format!("{MADE}{ENDPOINTS_HEAD}");
    for endpoint in ENDPOINTS {
        let cells = [
            &format!("`{}`", endpoint.path),
            endpoint.methods,
            endpoint.listener,
            endpoint.help,
        ];
        let cells = cells.map(cell).join(" | ");
        let _ = writeln!(text, "| {cells} |");
    }
    text.push_str(EXTENSIONS);
    text
}

const METRICS_HEAD: &str = "\
# Metrics

`/metrics` on the admin listener, in the Prometheus text format. Labels come from closed lists only;
no topic, id or address is ever a label.

| Name | Type | Labels | Counts |
| --- | --- | --- | --- |
";

fn metrics() -> String {
    let mut text = format!("{MADE}{METRICS_HEAD}");
    for metric in CATALOGUE {
        let labels = if metric.labels.is_empty() {
            "none"
        } else {
            metric.labels
        };
        let cells = [
            &format!("`{}`", metric.name),
            metric.kind.name(),
            labels,
            metric.help,
        ];
        let cells = cells.map(cell).join(" | ");
        let _ = writeln!(text, "| {cells} |");
    }
    text
}

const CLOSE_HEAD: &str = "\
# Close reasons

Why the hub ended a stream: the word in logs (`reason=…`) and in the label `reason` of
`gush_streams_closed_total`. \"Come back\" says whether a subscriber should reconnect with its last
event id; where it says no, something has to change first (a new token, a correct request).

| Reason | Come back | Means |
| --- | --- | --- |
";

fn close_reasons() -> String {
    let mut text = format!("{MADE}{CLOSE_HEAD}");
    for reason in CloseReason::ALL {
        let come_back = if reason.come_back() { "yes" } else { "no" };
        let _ = writeln!(
            text,
            "| `{}` | {come_back} | {} |",
            reason.name(),
            cell(reason.help())
        );
    }
    text
}

/// Text that cannot end a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
