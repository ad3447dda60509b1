//! Where the token of `gush pub` and `gush sub` comes from: given, or signed here with a key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgMatches};
use serde_json::{Value, json};

use crate::failure::Failure;

/// Life of a token that is signed for one request or one stream.
pub(crate) const SHORT_LIFE: Duration = Duration::from_hours(1);

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Publisher,
    Subscriber,
}

impl Role {
    /// Name of the claim in `mercure`.
    pub(crate) fn claim(self) -> &'static str {
        match self {
            Self::Publisher => "publish",
            Self::Subscriber => "subscribe",
        }
    }

    fn names(self, end: &str) -> [String; 2] {
        let word = match self {
            Self::Publisher => "PUBLISHER",
            Self::Subscriber => "SUBSCRIBER",
        };
        [
            format!("GUSH_{word}_{end}"),
            format!("MERCURE_{word}_JWT_{end}"),
        ]
    }

    /// Names of the options of a command that takes the keys of both roles.
    fn flags(self) -> [&'static str; 2] {
        match self {
            Self::Publisher => ["publisher-key", "publisher-alg"],
            Self::Subscriber => ["subscriber-key", "subscriber-alg"],
        }
    }

    /// The hub's own variable for this role's key, for people who use one shell for both.
    fn variable(self, end: &str) -> Option<String> {
        self.names(end).iter().find_map(|name| variable(name))
    }
}

/// A key and its algorithm, as given to the hub.
#[derive(Debug, Clone)]
pub(crate) struct SigningKey {
    source: String,
    alg: Option<String>,
}

impl SigningKey {
    /// `--key`, else the environment's key for `role`.
    pub(crate) fn find(matches: &ArgMatches, role: Role) -> Option<Self> {
        let given = matches.get_one::<String>("key").cloned();
        let alg = matches.get_one::<String>("alg").cloned();
        let is_given = given.is_some();
        let source = given.or_else(|| role.variable("KEY"))?;
        let alg = alg.or_else(|| role.variable("ALG").filter(|_| !is_given));
        Some(Self { source, alg })
    }

    /// `--publisher-key` or `--subscriber-key`, else the environment's key for `role`.
    pub(crate) fn of_role(matches: &ArgMatches, role: Role) -> Option<Self> {
        let [key, alg] = role.flags();
        let given = matches.get_one::<String>(key).cloned();
        let is_given = given.is_some();
        let source = given.or_else(|| role.variable("KEY"))?;
        let alg = matches.get_one::<String>(alg).cloned();
        let alg = alg.or_else(|| role.variable("ALG").filter(|_| !is_given));
        Some(Self { source, alg })
    }

    /// Signs `claims`.
    pub(crate) fn sign(&self, claims: &Value) -> Result<String, Failure> {
        gush_hub::keys::sign(claims, &self.source, self.alg.as_deref())
            .map_err(|error| Failure::Failed(format!("--key: {error}")))
    }
}

/// How requests are authorised.
#[derive(Debug, Clone)]
pub(crate) enum Credentials {
    /// Not at all.
    None,
    /// With this token.
    Token(String),
    /// With a token signed when it is needed.
    Key(SigningKey),
}

impl Credentials {
    /// `--token` or `GUSH_TOKEN`, else a key, else nothing.
    pub(crate) fn find(matches: &ArgMatches, role: Role) -> Self {
        let has_key = matches.get_one::<String>("key").is_some();
        let token = matches.get_one::<String>("token").cloned();
        if let Some(token) = token.or_else(|| variable("GUSH_TOKEN").filter(|_| !has_key)) {
            return Self::Token(token.trim().to_owned());
        }
        SigningKey::find(matches, role).map_or(Self::None, Self::Key)
    }

    /// The token for the next request, good for `topics` in `role`.
    pub(crate) fn token(&self, role: Role, topics: &[String]) -> Result<Option<String>, Failure> {
        match self {
            Self::None => Ok(None),
            Self::Token(token) => Ok(Some(token.clone())),
            Self::Key(key) => {
                let expires = expires_at(SystemTime::now(), SHORT_LIFE);
                let claims = json!({ "mercure": { role.claim(): topics }, "exp": expires });
                key.sign(&claims).map(Some)
            }
        }
    }
}

/// Seconds since 1970 at `now` + `life`.
pub(crate) fn expires_at(now: SystemTime, life: Duration) -> u64 {
    now.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .saturating_add(life)
        .as_secs()
}

/// `--token`, `--key` and `--alg`.
pub(crate) fn arguments(role: Role) -> [Arg; 3] {
    let [own, reference] = role.names("KEY");
    let token = Arg::new("token")
        .long("token")
        .value_name("TOKEN")
        .help("Token to show the hub [env: GUSH_TOKEN]")
        .help_heading("Access");
    let [key, alg] = key_arguments();
    let key = key.help(format!(
        "Sign a token for one hour with this key instead: text or file:PATH \
         [env: {own}, {reference}]"
    ));
    [token.conflicts_with("key"), key, alg]
}

/// `--token`, and a key and its algorithm for each role.
pub(crate) fn arguments_of_both() -> [Arg; 5] {
    let token = Arg::new("token")
        .long("token")
        .value_name("TOKEN")
        .help("Token to show the hub, for publishing and for subscribing [env: GUSH_TOKEN]")
        .help_heading("Access");
    let [publisher_key, publisher_alg] = role_arguments(Role::Publisher);
    let [subscriber_key, subscriber_alg] = role_arguments(Role::Subscriber);
    [
        token,
        publisher_key,
        publisher_alg,
        subscriber_key,
        subscriber_alg,
    ]
}

fn role_arguments(role: Role) -> [Arg; 2] {
    let [key, alg] = role.flags();
    let [own, reference] = role.names("KEY");
    let claim = role.claim();
    [
        Arg::new(key)
            .long(key)
            .value_name("KEY")
            .allow_hyphen_values(true)
            .help(format!(
                "Sign tokens to {claim} with this key: text or file:PATH [env: {own}, {reference}]"
            ))
            .help_heading("Access"),
        Arg::new(alg)
            .long(alg)
            .value_name("ALG")
            .help("Its algorithm, when the key does not tell it (text: HS256)")
            .help_heading("Access"),
    ]
}

/// `--key` and `--alg`.
pub(crate) fn key_arguments() -> [Arg; 2] {
    let key = Arg::new("key")
        .long("key")
        .value_name("KEY")
        .allow_hyphen_values(true)
        .help_heading("Access");
    let alg = Arg::new("alg")
        .long("alg")
        .value_name("ALG")
        .help("Signature algorithm, when the key does not tell it (text: HS256)")
        .help_heading("Access");
    [key, alg]
}

/// A variable of the environment that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name)
        .ok()
        .filter(|value| !value.trim().is_empty())
}
