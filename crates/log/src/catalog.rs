//! What the disk log holds: its segments, its epochs, its bounds. All in memory, so that no
//! question here waits for a disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::segment::Segment;
use crate::{Bounds, Epoch, Located, Offset, Position};

/// The view that readers take under a short lock.
pub(crate) struct Catalog {
    /// Oldest first. Replaced as a whole, so that a reader keeps a snapshot for one reference.
    pub(crate) segments: Arc<Vec<Arc<Segment>>>,
    /// The epoch that new events get.
    pub(crate) epoch: Epoch,
    /// The offset the next visible event gets.
    pub(crate) next: Offset,
    /// Where each epoch begins and ends (exclusive); the current one has no entry.
    past: BTreeMap<Epoch, (Offset, Offset)>,
    /// Where the current epoch begins.
    epoch_first: Offset,
    /// The id of the newest visible event.
    pub(crate) last_id: Option<LastId>,
    /// Any publisher-given id was ever stored in what is or was held since the start.
    pub(crate) has_own_ids: bool,
}

/// A generated id is kept as its position: it is only formatted when somebody asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LastId {
    Own(Box<str>),
    Generated(Position),
}

impl Catalog {
    /// A view of `segments` (oldest first) in which new events get `epoch` and `next`.
    pub(crate) fn new(segments: Vec<Arc<Segment>>, epoch: Epoch, next: Offset) -> Self {
        let has_own_ids = segments.iter().any(|segment| segment.has_own_ids());
        let mut catalog = Self {
            segments: Arc::new(Vec::new()),
            epoch,
            next,
            past: BTreeMap::new(),
            epoch_first: next,
            last_id: None,
            has_own_ids,
        };
        catalog.read_epochs(&segments);
        catalog.segments = Arc::new(segments);
        catalog
    }

    fn read_epochs(&mut self, segments: &[Arc<Segment>]) {
        let mut begun: Option<(Epoch, Offset)> = None;
        for segment in segments {
            let header = &segment.header;
            if begun.is_some_and(|(epoch, _)| epoch == header.epoch) {
                continue;
            }
            if let Some((epoch, first)) = begun.replace((header.epoch, header.base)) {
                self.past.insert(epoch, (first, header.base));
            } else if let Some(epoch) = header.epoch_before
                && let Some(before) = header.base.as_u64().checked_sub(1)
            {
                // The event directly before the oldest held one: its id is still good.
                if epoch == header.epoch {
                    begun = Some((epoch, Offset::from_u64(before)));
                } else {
                    self.past
                        .insert(epoch, (Offset::from_u64(before), header.base));
                }
            }
        }
        match begun {
            Some((epoch, first)) if epoch == self.epoch => self.epoch_first = first,
            Some((epoch, first)) => {
                self.past.insert(epoch, (first, self.next));
            }
            None => {}
        }
    }

    pub(crate) fn first(&self) -> Offset {
        self.segments
            .first()
            .map_or(self.next, |segment| segment.header.base)
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let last_id = self.last_id.as_ref().filter(|_| self.first() < self.next);
        Bounds {
            epoch: self.epoch,
            first: self.first(),
            next: self.next,
            last_id: last_id.map(|id| match id {
                LastId::Own(id) => id.clone(),
                LastId::Generated(position) => position.to_string().into(),
            }),
        }
    }

    pub(crate) fn locate(&self, id: &str) -> Located {
        let known = Position::parse(id)
            .and_then(|position| Some((position.offset, self.range(position.epoch)?)));
        match known {
            Some((offset, (first, end))) => {
                let after = offset.plus(1);
                let is_known = (first..end).contains(&offset) && after >= self.first();
                if is_known {
                    Located::After(after)
                } else {
                    Located::Unknown
                }
            }
            None if self.has_own_ids => Located::Search,
            None => Located::Unknown,
        }
    }

    /// The offsets that an epoch gave out and that still count.
    fn range(&self, epoch: Epoch) -> Option<(Offset, Offset)> {
        if epoch == self.epoch {
            return Some((self.epoch_first, self.next));
        }
        self.past.get(&epoch).copied()
    }

    /// Whether ids of this epoch may be about.
    pub(crate) fn knows(&self, epoch: Epoch) -> bool {
        self.range(epoch).is_some()
    }

    /// Starts a new epoch: what the old one gave out beyond `next` no longer counts.
    pub(crate) fn begin_epoch(&mut self, epoch: Epoch) {
        if self.epoch_first < self.next {
            self.past.insert(self.epoch, (self.epoch_first, self.next));
        }
        self.epoch = epoch;
        self.epoch_first = self.next;
    }

    pub(crate) fn push(&mut self, segment: Arc<Segment>) {
        Arc::make_mut(&mut self.segments).push(segment);
    }

    /// Takes out the newest segment: nothing of it became visible.
    pub(crate) fn pop(&mut self) {
        Arc::make_mut(&mut self.segments).pop();
    }

    /// Takes out the `count` oldest segments.
    pub(crate) fn trim(&mut self, count: usize) {
        Arc::make_mut(&mut self.segments).drain(..count);
        let first = self.first();
        // An epoch that ends where the held events begin still names the event before them.
        self.past.retain(|_, (_, end)| *end >= first);
    }

    /// The epoch of the newest event.
    pub(crate) fn epoch_before_next(&self) -> Option<Epoch> {
        if self.epoch_first < self.next {
            return Some(self.epoch);
        }
        self.past
            .iter()
            .find(|(_, (_, end))| *end == self.next)
            .map(|(epoch, _)| *epoch)
    }
}
