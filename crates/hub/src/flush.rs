//! When events leave: at once, or held back until an interval is over or a batch is full.

use std::time::Duration;

use crate::config::{Settings, parse_duration};
use crate::topic::Matcher;

/// Most rules for single topics: each event is held against all of them.
pub const FLUSH_TOPICS_MAX: usize = 63;

/// The longest an event may be held: past it a subscriber would look at a frozen page.
pub const FLUSH_INTERVAL_MAX: Duration = Duration::from_mins(1);

/// Most events of one batch; a larger batch would fill the shards' room for waiting events.
pub const FLUSH_BATCH_MAX: u32 = 1000;

/// How long the events of some topics are held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlushRule {
    /// The topics; `None`: all that no other rule names.
    pub matcher: Option<Matcher>,
    /// How long an event is held at most; zero: not at all.
    pub interval: Duration,
    /// How many held events let all of them go; zero: only the interval counts.
    pub batch: u32,
}

impl FlushRule {
    /// Whether events of this rule are held.
    #[must_use]
    pub const fn holds(&self) -> bool {
        !self.interval.is_zero() && self.batch != 1
    }

    /// Reads `MATCHER=INTERVAL` or `MATCHER=INTERVAL/BATCH`, such as
    /// `https://example.com/prices/{id}=50ms/100`.
    ///
    /// # Errors
    ///
    /// What is wrong, in words for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "write MATCHER=INTERVAL or MATCHER=INTERVAL/BATCH, such as \
                            https://example.com/prices/{id}=50ms/100";
        let (matcher, rest) = text.rsplit_once('=').ok_or(FORM)?;
        let (interval, batch) = rest.split_once('/').unwrap_or((rest, "0"));
        let matcher = Matcher::parse(matcher).map_err(|error| format!("{error}; {FORM}"))?;
        let interval = match interval {
            "0" | "off" => Duration::ZERO,
            text => parse_duration(text).map_err(|error| format!("{error}; {FORM}"))?,
        };
        let batch = batch.parse().map_err(|_| FORM)?;
        if interval > FLUSH_INTERVAL_MAX || batch > FLUSH_BATCH_MAX {
            return Err(format!(
                "an event is held for {FLUSH_INTERVAL_MAX:?} at most, and {FLUSH_BATCH_MAX} at a \
                 time"
            ));
        }
        Ok(Self {
            matcher: Some(matcher),
            interval,
            batch,
        })
    }
}

/// The rules in force: the server's own first, those of `flush_topics` behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlushRules(Vec<FlushRule>);

impl FlushRules {
    /// # Errors
    ///
    /// A rule that cannot be read; the settings' own check refuses it before.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        if settings.flush_topics.len() > FLUSH_TOPICS_MAX {
            return Err(format!("more than {FLUSH_TOPICS_MAX} rules"));
        }
        let own = FlushRule {
            matcher: None,
            interval: settings.flush_interval,
            batch: settings.flush_batch,
        };
        let texts = settings.flush_topics.iter();
        let rules = texts.map(|text| FlushRule::parse(text));
        let all = std::iter::once(Ok(own)).chain(rules);
        all.collect::<Result<_, _>>().map(Self)
    }

    /// The rule for an event with these topics and its number: the first that one of them matches.
    pub fn rule_of<'a>(
        &self,
        topics: &(impl Iterator<Item = &'a str> + Clone),
    ) -> (usize, &FlushRule) {
        let found = self.0.iter().enumerate().skip(1).find(|(_, rule)| {
            let matcher = rule.matcher.as_ref();
            matcher.is_some_and(|matcher| topics.clone().any(|topic| matcher.matches(topic)))
        });
        found.unwrap_or((0, &self.0[0]))
    }

    /// A bit for each rule whose batch is full with this many held events of it.
    #[must_use]
    pub fn full_batches(&self, counts: &[u32]) -> u64 {
        let rules = self.0.iter().zip(counts).enumerate();
        let full = rules.filter(|(_, (rule, count))| rule.batch > 0 && **count >= rule.batch);
        full.fold(0, |bits, (number, _)| bits | 1 << number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read() {
        let rule = FlushRule::parse("https://example.com/{id}?a=b=50ms/100").unwrap();
        assert_eq!(rule.matcher.unwrap().text(), "https://example.com/{id}?a=b");
        assert_eq!(
            (rule.interval, rule.batch),
            (Duration::from_millis(50), 100)
        );
        let rule = FlushRule::parse("a=1s").unwrap();
        assert_eq!((rule.interval, rule.batch), (Duration::from_secs(1), 0));
        assert!(!FlushRule::parse("a=0").unwrap().holds());
        for text in [
            "a",
            "=1s",
            "a=",
            "a=1x",
            "a=1s/",
            "a=1s/x",
            "a=2m",
            "a=1s/5000",
        ] {
            assert!(FlushRule::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let settings = Settings {
            flush_interval: Duration::from_millis(5),
            flush_batch: 2,
            flush_topics: vec!["a=1s/3".into(), "{x}=2s".into()],
            ..Settings::default()
        };
        let rules = FlushRules::new(&settings).unwrap();
        assert_eq!(rules.rule_of(&["a"].into_iter()).0, 1);
        assert_eq!(rules.rule_of(&["b"].into_iter()).0, 2);
        assert_eq!(rules.rule_of(&["b/c"].into_iter()).0, 0);
        assert_eq!(rules.full_batches(&[2, 2, 9]), 0b001);
        assert_eq!(rules.full_batches(&[1, 3]), 0b010);
    }
}
