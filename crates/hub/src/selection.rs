//! What one subscriber wants and may read.

use std::sync::Arc;

use gush_log::Offset;

use crate::matcher_table::crowds::Places;
use crate::topic::Matcher;

/// The matchers of a subscriber and the grants of its token. Checked at admission, never changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selection {
    /// What it asked for: at least one, in the order given. Records of the stream share it.
    pub matchers: Arc<[Matcher]>,
    /// What its token lets it read of private events; empty: public events only.
    pub grants: Box<[Matcher]>,
    /// Whether it asked for the in-band gap event.
    pub wants_gap: bool,
    /// Damage of the log before this offset was announced in the answer's head.
    pub told_until: Option<Offset>,
    /// What its templates take of the hub's crowds.
    pub places: Places,
}

impl Selection {
    /// A copy that shares no texts with this one: made of memory of the thread that calls.
    pub(crate) fn copied(&self) -> Self {
        Self {
            matchers: self.matchers.iter().map(Matcher::copied).collect(),
            grants: self.grants.iter().map(Matcher::copied).collect(),
            wants_gap: self.wants_gap,
            told_until: self.told_until,
            places: self.places.clone(),
        }
    }

    /// Whether an event is for this subscriber: one of its topics matches a matcher and, if it is
    /// private, one of them (not necessarily the same) matches a grant.
    ///
    /// Source: Mercure draft-07, "Authorization".
    pub fn wants<'a>(
        &self,
        topics: impl Iterator<Item = &'a str> + Clone,
        is_private: bool,
    ) -> bool {
        any_match(&self.matchers, topics.clone()) && (!is_private || self.may_read(topics))
    }

    /// Whether the grants open a private event with these topics.
    pub fn may_read<'a>(&self, topics: impl Iterator<Item = &'a str>) -> bool {
        any_match(&self.grants, topics)
    }
}

fn any_match<'a>(matchers: &[Matcher], mut topics: impl Iterator<Item = &'a str>) -> bool {
    topics.any(|topic| matchers.iter().any(|matcher| matcher.matches(topic)))
}
