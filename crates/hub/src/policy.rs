//! The settings as the hub uses them, swapped whole on a reload.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use gush_middleware::{Network, TrustedProxies};

use crate::config::Settings;
use crate::error::ServeError;
use crate::flush::FlushRules;
use crate::keys::{KeyRing, Role};
use crate::origin::OriginRules;
use crate::secret::Secret;
use crate::topic::Matcher;

/// Settings and what is made from them: keys and origin rules. Immutable; a reload makes a new one.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The typed settings.
    pub settings: Settings,
    /// Checks publishers' tokens; absent: every publish is refused.
    pub publisher: Option<Arc<KeyRing>>,
    /// Checks subscribers' tokens.
    pub subscriber: Option<Arc<KeyRing>>,
    /// Origins that may read answers.
    pub cors: OriginRules,
    /// Origins that may publish by cookie.
    pub publish_origins: OriginRules,
    /// Topics that have ended.
    pub ended: Vec<Matcher>,
    /// Topics of which readers that are behind get the newest event.
    pub conflated: Vec<Matcher>,
    /// Which events are held back, and how long.
    pub flush: FlushRules,
    /// Proxies that may say whom a request is from.
    pub trusted_proxies: TrustedProxies,
    /// Networks that no limit per address holds for.
    pub exempt: TrustedProxies,
}

impl Policy {
    /// Loads keys and checks origins.
    ///
    /// # Errors
    ///
    /// A key or an origin list that cannot be used; the text names the option.
    pub fn new(settings: Settings) -> Result<Self, ServeError> {
        let ring = |role: Role, source: &Option<Secret>, alg: &Option<String>| {
            source
                .as_ref()
                .map(|source| KeyRing::load(role, source.expose(), alg.as_deref()))
                .transpose()
                .map(|ring| ring.map(Arc::new))
                .map_err(|error| ServeError::new(error.to_string()))
        };
        let origins = |list: &[String], option: &str| {
            OriginRules::parse(list).map_err(|error| ServeError::setting(option, &error))
        };
        Ok(Self {
            publisher: ring(
                Role::Publisher,
                &settings.publisher_key,
                &settings.publisher_alg,
            )?,
            subscriber: ring(
                Role::Subscriber,
                &settings.subscriber_key,
                &settings.subscriber_alg,
            )?,
            cors: origins(&settings.cors_origins, "--cors-origin")?,
            publish_origins: origins(&settings.publish_origins, "--publish-origin")?,
            ended: matchers(&settings.overload.ended_topics, "--ended-topic")?,
            conflated: matchers(&settings.conflate_topics, "--conflate-topic")?,
            flush: FlushRules::new(&settings)
                .map_err(|error| ServeError::new(format!("--flush-topic: {error}")))?,
            trusted_proxies: TrustedProxies::new(networks(
                &settings.trusted_proxies,
                "--trusted-proxy",
            )?),
            exempt: exempt(&settings)?,
            settings,
        })
    }

    /// The same with other limits: nothing else of the settings may differ. Keys, and what is
    /// known of tokens, go on as they are.
    ///
    /// # Errors
    ///
    /// A list of networks that cannot be used.
    pub fn with_limits(&self, settings: Settings) -> Result<Self, ServeError> {
        Ok(Self {
            exempt: exempt(&settings)?,
            settings,
            ..self.clone()
        })
    }
}

fn exempt(settings: &Settings) -> Result<TrustedProxies, ServeError> {
    let listed = networks(&settings.limits.exempt_networks, "--exempt-network")?;
    Ok(TrustedProxies::new(listed))
}

fn networks(list: &[String], option: &str) -> Result<Vec<Network>, ServeError> {
    let parsed = list.iter().map(|text| text.parse());
    parsed
        .collect::<Result<_, _>>()
        .map_err(|error| ServeError::setting(option, &error))
}

fn matchers(texts: &[String], option: &str) -> Result<Vec<Matcher>, ServeError> {
    let parsed = texts.iter().map(|text| Matcher::parse(text));
    parsed
        .collect::<Result<_, _>>()
        .map_err(|error| ServeError::setting(option, &error))
}

impl Policy {
    /// Whether the settings ask for conflation of an event with these topics.
    #[must_use]
    pub fn is_conflated<'a>(&self, mut topics: impl Iterator<Item = &'a str>) -> bool {
        let matches = |topic| self.conflated.iter().any(|rule| rule.matches(topic));
        !self.conflated.is_empty() && topics.any(matches)
    }

    /// Keys that were fetched for the policy before stay until new ones are.
    pub fn adopt_keys(&self, before: &Self) {
        let roles = [
            (&self.publisher, &before.publisher),
            (&self.subscriber, &before.subscriber),
        ];
        for (own, others) in roles {
            if let (Some(own), Some(others)) = (own, others) {
                own.adopt(others);
            }
        }
    }

    /// Whether a subscribe asks for nothing but topics that have ended.
    #[must_use]
    pub fn has_ended(&self, matchers: &[Matcher]) -> bool {
        let has_ended = |wanted: &Matcher| {
            let mut ended = self.ended.iter();
            ended.any(|ended| ended == wanted || ended.matches(wanted.text()))
        };
        !self.ended.is_empty() && matchers.iter().all(has_ended)
    }
}

/// The current policy. Reading it costs no lock; every part of the hub reads it anew where it
/// decides, so a reload holds from the next decision on.
#[derive(Debug)]
pub struct PolicyCell(ArcSwap<Policy>);

impl PolicyCell {
    /// Starts with `policy`.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self(ArcSwap::from_pointee(policy))
    }

    /// The policy now, for a short look.
    pub fn load(&self) -> Guard<Arc<Policy>> {
        self.0.load()
    }

    /// The policy now, to keep over an await.
    #[must_use]
    pub fn load_full(&self) -> Arc<Policy> {
        self.0.load_full()
    }

    /// Puts a new policy in place.
    pub fn store(&self, policy: Policy) {
        self.0.store(Arc::new(policy));
    }
}
