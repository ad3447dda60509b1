//! Settings that change while the hub runs: by a reload, or its limits on the admin listener. All
//! of a change holds or nothing of it, and no stream notices.

use std::sync::{MutexGuard, PoisonError};

use serde_json::{Map, Value};

use crate::admit::Rejection;
use crate::budget::{self, Budget};
use crate::config::Settings;
use crate::hub::Hub;
use crate::options::{self, Group, OPTIONS, OptionSpec};
use crate::policy::Policy;

/// Largest body of a change: all limits with long lists of networks fit.
pub(crate) const CHANGE_BYTES_MAX: usize = 64 * 1024;

/// The options that can be changed on the admin listener.
pub fn changeable() -> impl Iterator<Item = &'static OptionSpec> {
    let is_one = |option: &&OptionSpec| option.group == Group::Limits && option.reloadable;
    OPTIONS.iter().filter(is_one)
}

/// These options with their values, as a change takes them: counts as numbers, lists as lists, all
/// else as it stands in the configuration.
#[must_use]
pub fn limits(settings: &Settings) -> Map<String, Value> {
    let value = |option: &'static OptionSpec| {
        let shown = option.show(settings);
        let value = if option.is_repeatable() {
            let items = shown.split(',').filter(|item| !item.is_empty());
            items.map(Value::from).collect()
        } else {
            shown
                .parse::<u64>()
                .map_or(Value::String(shown), Value::from)
        };
        (option.key.to_owned(), value)
    };
    changeable().map(value).collect()
}

/// The settings with these values in place of theirs.
///
/// # Errors
///
/// Every value that cannot be, each with its reason; names that are no limits.
pub fn changed(settings: &Settings, wanted: &Map<String, Value>) -> Result<Settings, String> {
    let mut settings = settings.clone();
    let mut problems = Vec::new();
    for (key, value) in wanted {
        let outcome = option_of(key).and_then(|option| {
            let texts = texts_of(option, value)?;
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            option.apply(&mut settings, &texts)
        });
        if let Err(reason) = outcome {
            let shown: String = key.chars().take(100).collect();
            problems.push(format!("{shown}: {reason}"));
        }
    }
    if problems.is_empty() {
        Ok(settings)
    } else {
        Err(problems.join("; "))
    }
}

fn option_of(key: &str) -> Result<&'static OptionSpec, String> {
    if let Some(option) = changeable().find(|option| option.key == key) {
        return Ok(option);
    }
    Err(match (options::find(key), options::nearest(key)) {
        (Some(option), _) if option.reloadable => {
            "is no limit; change it in the configuration and reload".into()
        }
        (Some(_), _) => "needs a restart".into(),
        (None, Some(nearest)) => format!("is not known; did you mean {nearest}?"),
        (None, None) => "is not known".into(),
    })
}

/// A JSON value as texts of the configuration; `null` is the default.
fn texts_of(option: &OptionSpec, value: &Value) -> Result<Vec<String>, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(is_on) => Ok(is_on.to_string()),
        _ => Err("takes a number, a text or a list of them".to_owned()),
    };
    match value {
        Value::Null if option.default.is_empty() => Ok(Vec::new()),
        Value::Null => Ok(vec![option.default.to_owned()]),
        Value::Array(values) => values.iter().map(text).collect(),
        value => text(value).map(|text| vec![text]),
    }
}

impl Hub {
    /// Held while settings are changed, so that of two changes one comes after the other.
    pub(crate) fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a policy in place. The caller holds [`Self::changing`].
    ///
    /// # Errors
    ///
    /// More connections than the descriptors of this process, or the memory of this machine, are
    /// for; then nothing has changed.
    pub(crate) fn put(&self, policy: Policy) -> Result<(), String> {
        let wanted = policy.settings.max_connections;
        let is_changed = wanted != self.policy.load().settings.max_connections;
        if is_changed {
            self.check_connections(&policy.settings)?;
        }
        let limits = policy.settings.limits.clone();
        self.policy.store(policy);
        if is_changed {
            self.gate.set_max(match wanted {
                0 => self.connections_possible,
                wanted => wanted,
            });
        }
        self.limits.apply(&limits);
        let (events, bytes) = (limits.in_flight_events, limits.in_flight_bytes);
        self.log.set_waiting_max(events, bytes);
        Ok(())
    }

    fn check_connections(&self, settings: &Settings) -> Result<(), String> {
        let (wanted, possible) = (settings.max_connections, self.connections_possible);
        if wanted > possible {
            return Err(format!(
                "max_connections: {wanted} are more than the {possible} that the descriptors of \
                 this process are for; raise the descriptor limit and start the hub with the new \
                 value"
            ));
        }
        if wanted == 0 {
            return Ok(());
        }
        Budget::new(settings, wanted)
            .check(budget::machine_bytes())
            .map_err(|error| format!("max_connections: {error}"))
    }

    /// Changes limits as the body of a request wants it; the limits that hold then.
    ///
    /// # Errors
    ///
    /// 400 with everything that is wrong; then nothing has changed.
    pub(crate) fn change_limits(&self, body: &[u8]) -> Result<Map<String, Value>, Rejection> {
        let wanted: Map<String, Value> = serde_json::from_slice(body).map_err(|error| {
            Rejection::bad_request(format!(
                "the body has to be a JSON object of limits: {error}"
            ))
        })?;
        let _changing = self.changing();
        let old = self.policy.load_full();
        let refused = |text: String| Rejection::bad_request(text);
        let settings = changed(&old.settings, &wanted).map_err(refused)?;
        let differing: Vec<String> = changeable()
            .filter(|option| option.show(&old.settings) != option.show(&settings))
            .map(|option| format!("{} = {}", option.key, option.show(&settings)))
            .collect();
        let in_force = limits(&settings);
        let policy = old
            .with_limits(settings)
            .map_err(|error| refused(error.to_string()))?;
        self.put(policy).map_err(refused)?;
        tracing::info!(
            changed = differing.join(", "),
            "limits changed on the admin listener, until a reload or a restart"
        );
        Ok(in_force)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn change(wanted: &Value) -> Result<Settings, String> {
        let wanted = wanted.as_object().expect("an object");
        changed(&Settings::default(), wanted)
    }

    #[test]
    fn what_is_told_can_be_sent_back() {
        let settings = change(&json!({
            "max_connections": 77, "accept_rate": "50", "publish_window": "10s",
            "max_body": "1MiB", "exempt_network": ["10.0.0.0/8", "::1"],
        }))
        .expect("limits");
        let told = limits(&settings);
        assert_eq!(told["max_connections"], 77);
        assert_eq!(told["accept_rate"], 50);
        assert_eq!(told["publish_window"], "10s");
        assert_eq!(told["max_body"], "1MiB");
        assert_eq!(told["exempt_network"], json!(["10.0.0.0/8", "::1/128"]));
        assert_eq!(changed(&Settings::default(), &told), Ok(settings.clone()));
        let nothing = json!({"accept_rate": null, "exempt_network": null, "max_body": null});
        let back = changed(&settings, nothing.as_object().expect("an object")).expect("limits");
        let told = limits(&back);
        assert_eq!(
            (&told["accept_rate"], &told["max_body"]),
            (&json!(0), &json!("10MiB"))
        );
        assert_eq!(
            (&told["exempt_network"], &told["max_connections"]),
            (&json!([]), &json!(77))
        );
    }

    #[test]
    fn everything_that_is_wrong_is_told() {
        let error = change(&json!({
            "accept_rate": -1, "max_body": "much", "shards": 3, "heartbeat": "3s",
            "acept_burst": 3, "exempt_network": "here", "publish_window": {"a": 1},
        }))
        .expect_err("all wrong");
        for part in [
            "accept_rate: is not a whole number",
            "max_body: ",
            "shards: needs a restart",
            "heartbeat: is no limit",
            "acept_burst: is not known; did you mean accept_burst?",
            "exempt_network: is not an address",
            "publish_window: takes a number",
        ] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }
}
