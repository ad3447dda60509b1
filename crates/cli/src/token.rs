//! `gush token`: mints a token.

use std::time::{Duration, SystemTime};

use clap::{Arg, ArgAction, ArgMatches, Command};
use gush_hub::config::parse_duration;
use serde_json::{Map, Value, json};

use crate::credentials::{Role, SigningKey, expires_at, key_arguments};
use crate::failure::{Failure, print};

const EXAMPLES: &str = "\
Examples:
  gush token --publish '*' --key file:publisher.key
  gush token --subscribe 'https://example.com/users/7{/topic}' --expires 10m --key file:sub.key
  gush token --publish '*' --key file:data/dev.key     with the key of gush serve --dev
  gush token --subscribe '*' --payload '{\"user\":7}' --key \"$KEY\"";

pub(crate) fn command() -> Command {
    let matcher = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("MATCHER")
            .action(ArgAction::Append)
            .help(help)
    };
    let [key, alg] = key_arguments();
    let key = key.help(
        "Key to sign with: text, file:PATH (PEM private key, JWK or secret). Without it the \
         environment's GUSH_PUBLISHER_KEY with --publish, else GUSH_SUBSCRIBER_KEY (and the \
         MERCURE_..._JWT_KEY names)",
    );
    Command::new("token")
        .about("Mint a token for publishers or subscribers")
        .long_about(
            "Mint a token for publishers or subscribers and print it.\n\n\
             A matcher is a topic, a URI template such as https://example.com/{id}, or * for all \
             topics. A token without --publish and --subscribe carries empty rights: it reads \
             public events only.",
        )
        .after_help(EXAMPLES)
        .args([
            matcher(
                "publish",
                "Allow publishing to these topics; may be given several times",
            ),
            matcher(
                "subscribe",
                "Allow private events of these topics; may be given several times",
            ),
            Arg::new("payload")
                .long("payload")
                .value_name("JSON")
                .help("JSON that subscription events show beside the subscriber"),
            Arg::new("expires")
                .long("expires")
                .value_name("DURATION")
                .default_value("1h")
                .help("Life of the token"),
            Arg::new("no-expiry")
                .long("no-expiry")
                .action(ArgAction::SetTrue)
                .conflicts_with("expires")
                .help(
                    "Make a token that never expires; it can only be revoked by changing the key",
                ),
        ])
        .args([key, alg])
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let list = |name| -> Vec<String> {
        matches
            .get_many::<String>(name)
            .unwrap_or_default()
            .cloned()
            .collect()
    };
    let (publish, subscribe) = (list("publish"), list("subscribe"));
    let is_publisher = matches.contains_id("publish") || subscribe.is_empty();
    let role = if is_publisher {
        Role::Publisher
    } else {
        Role::Subscriber
    };
    let key = SigningKey::find(matches, role).ok_or_else(|| {
        Failure::usage(
            "no key to sign with; give --key, or set GUSH_PUBLISHER_KEY or GUSH_SUBSCRIBER_KEY",
        )
    })?;
    let life = match matches
        .get_one::<String>("expires")
        .filter(|_| !matches.get_flag("no-expiry"))
    {
        Some(text) => Some(
            parse_duration(text).map_err(|e| Failure::usage(format!("--expires {text}: {e}")))?,
        ),
        None => None,
    };
    let payload = match matches.get_one::<String>("payload") {
        Some(text) => Some(serde_json::from_str(text).map_err(|error| {
            Failure::usage(format!(
                "--payload is not JSON ({error}); a text needs its quotes: '\"text\"'"
            ))
        })?),
        None => None,
    };
    let claims = claims(
        &publish,
        &subscribe,
        payload,
        life.map(|life| (SystemTime::now(), life)),
    );
    print(&key.sign(&claims)?)
}

/// The claims of the 0.x dialect: rights under `mercure`, `exp` beside it.
fn claims(
    publish: &[String],
    subscribe: &[String],
    payload: Option<Value>,
    life: Option<(SystemTime, Duration)>,
) -> Value {
    let mut mercure = Map::new();
    for (role, topics) in [(Role::Publisher, publish), (Role::Subscriber, subscribe)] {
        if !topics.is_empty() {
            mercure.insert(role.claim().into(), json!(topics));
        }
    }
    if let Some(payload) = payload {
        mercure.insert("payload".into(), payload);
    }
    let mut claims = Map::new();
    claims.insert("mercure".into(), Value::Object(mercure));
    if let Some((now, life)) = life {
        claims.insert("exp".into(), json!(expires_at(now, life)));
    }
    Value::Object(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_hold_what_was_asked_for_and_nothing_else() {
        let all = ["*".to_owned()];
        let at = (SystemTime::UNIX_EPOCH, Duration::from_mins(1));
        assert_eq!(
            claims(&all, &[], Some(json!({ "user": 7 })), Some(at)),
            json!({ "mercure": { "publish": ["*"], "payload": { "user": 7 } }, "exp": 60 })
        );
        assert_eq!(
            claims(&[], &all, None, None),
            json!({ "mercure": { "subscribe": ["*"] } })
        );
        assert_eq!(claims(&[], &[], None, None), json!({ "mercure": {} }));
    }
}
