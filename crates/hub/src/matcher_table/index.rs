//! Templates by their literals: a tree in which each level tells them apart by one more literal.
//!
//! The keys of a template are the literal before its first expression, the one behind its last,
//! then pieces of those between, longest first: the first and the last `2^n` bytes of each, as
//! many as it has. A node is a short list until it holds more than [`LIST_MAX`] templates; then
//! it is divided by the next key. Templates without a further key are grouped by what they accept,
//! whatever their variables are called, and a group is matched once.
//!
//! A topic goes down to every child whose key it holds. The first two keys stand at known places;
//! the others are looked for at every place between. So a topic meets the templates all of
//! whose literals it has (and short lists of others), not those that only begin or end alike.

use std::cell::{Cell, RefCell};

use hashbrown::HashTable;

use super::MatcherId;
use super::hash::{LiteralHash, TopicHashes};
use super::keys::{self, Key};
use crate::topic::Matcher;

// The templates and their lists.
mod entries;

// Lengths of keys in use.
mod lengths;

use entries::{Entries, NONE};
use lengths::Lengths;

/// Most templates a node keeps as a list. Matching some in vain costs no more than looking for
/// the literal that tells them apart at every place of a topic of ordinary length.
pub(super) const LIST_MAX: u32 = 8;

/// A template with so many expressions is compared without looking for its literals first: that
/// costs no more.
const FEW_EXPRESSIONS: usize = 2;

const ROOT: u32 = 0;

/// Set in the keys of groups; hashes stay below 2^61.
const GROUP: u64 = 1 << 63;

/// What the search for one event's matchers looked at: exact, whatever the hashes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Lookups of a part of a topic in the index of templates.
    pub lookups_count: usize,
    /// Templates met there, or groups of those that accept the same.
    pub met_count: usize,
    /// How many of them were matched in full.
    pub compared_count: usize,
    /// What that took at most: bytes of the topic times expressions, of all of them.
    pub steps_count: usize,
}

#[derive(Debug)]
pub(super) struct TemplateIndex {
    hash: LiteralHash,
    nodes: Vec<Node>,
    free_nodes: Vec<u32>,
    entries: Entries,
    /// Every node but the root, by its parent and key.
    edges: HashTable<u32>,
    list_max: u32,
    /// Counts topics; what was seen under the present one is not gone through again.
    stamp: Cell<u32>,
    query: RefCell<Query>,
}

/// A place in the tree. 40 bytes; one for each template with literals of its own.
#[derive(Debug, Default)]
struct Node {
    branch: Option<Box<Branch>>,
    key: u64,
    parent: u32,
    /// Of the list, or of the group.
    first: u32,
    count: u32,
    /// The topic for which it was last reached.
    seen: Cell<u32>,
    /// A group's place among its parent's groups.
    place: u32,
    /// How many keys lead here.
    depth: u16,
    /// Length of the literal, or of its piece, that the key stands for.
    length: u16,
}

impl Node {
    fn is_group(&self) -> bool {
        self.key & GROUP != 0
    }
}

/// A node that was divided.
#[derive(Debug, Default)]
struct Branch {
    lengths: Lengths,
    groups: Vec<u32>,
}

/// Memory of a search, kept from one to the next.
#[derive(Debug, Default)]
struct Query {
    hashes: TopicHashes,
    waiting: Vec<Visit>,
    looked: Looked,
    /// The first topic of this event, as a stamp.
    event: u32,
}

/// A node that a topic leads to, and the bytes of the topic between the outer literals so far.
#[derive(Debug)]
struct Visit {
    node: u32,
    from: usize,
    to: usize,
}

/// A topic with the set of its bytes.
struct Subject<'a> {
    topic: &'a str,
    bytes: u64,
}

impl Default for TemplateIndex {
    fn default() -> Self {
        Self::new(LiteralHash::default())
    }
}

impl TemplateIndex {
    pub(super) fn new(hash: LiteralHash) -> Self {
        let root = Node {
            first: NONE,
            ..Node::default()
        };
        Self {
            hash,
            nodes: vec![root],
            free_nodes: Vec::new(),
            entries: Entries::default(),
            edges: HashTable::new(),
            list_max: LIST_MAX,
            stamp: Cell::new(0),
            query: RefCell::default(),
        }
    }

    /// Divides lists earlier, so that few templates make a tree.
    #[cfg(test)]
    pub(super) fn set_list_max(&mut self, list_max: u32) {
        self.list_max = list_max;
    }

    #[cfg(test)]
    pub(super) fn set_stamp(&self, stamp: u32) {
        self.stamp.set(stamp);
    }

    /// Whether it is as it was made.
    #[cfg(test)]
    pub(super) fn is_blank(&self) -> bool {
        self.nodes.len() == 1 && self.edges.is_empty() && self.nodes[0].branch.is_none()
    }

    pub(super) fn looked(&self) -> Looked {
        self.query.borrow().looked
    }

    /// Adds a template; the place by which it is taken out again.
    pub(super) fn insert(&mut self, matcher: &Matcher, id: MatcherId) -> u32 {
        let keys = keys::of(&self.hash, matcher);
        let mut node = ROOT;
        while self.nodes[at(node)].branch.is_some() {
            node = self.child(node, &keys, matcher);
        }
        let entry = self.entries.add(matcher, id);
        self.link(node, entry);
        while self.nodes[at(node)].count > self.list_max && !self.nodes[at(node)].is_group() {
            node = self.divide(node);
        }
        entry
    }

    pub(super) fn remove(&mut self, entry: u32) {
        let mut node = self.entries.node(entry);
        let first = self.nodes[at(node)].first;
        self.nodes[at(node)].first = self.entries.unlink(first, entry);
        self.nodes[at(node)].count -= 1;
        self.entries.free(entry);
        while node != ROOT
            && self.nodes[at(node)].count == 0
            && self.nodes[at(node)].branch.is_none()
        {
            node = self.remove_node(node);
        }
        if self.entries.is_empty() {
            let hash = std::mem::take(&mut self.hash);
            let list_max = self.list_max;
            *self = Self::new(hash);
            self.list_max = list_max;
        }
    }

    fn link(&mut self, node: u32, entry: u32) {
        let place = &mut self.nodes[at(node)];
        place.first = self.entries.link(place.first, entry, node);
        place.count += 1;
    }

    /// The child of a divided node that a template belongs to, made if it is not there.
    fn child(&mut self, parent: u32, keys: &[Key], matcher: &Matcher) -> u32 {
        let depth = self.nodes[at(parent)].depth;
        let Some(key) = keys.get(usize::from(depth)) else {
            return self.group(parent, matcher);
        };
        self.find(parent, key.hash)
            .unwrap_or_else(|| self.add_node(parent, *key))
    }

    /// The group of templates that accept what this one does.
    fn group(&mut self, parent: u32, matcher: &Matcher) -> u32 {
        let program = matcher.program();
        let hash = program.fold(0, |state, value| self.hash.step(state, value));
        let mut key = hash | GROUP;
        while let Some(group) = self.find(parent, key) {
            let member = self.entries.matcher(self.nodes[at(group)].first);
            if member.is_some_and(|member| member.program().eq(matcher.program())) {
                return group;
            }
            // Two hashes are the same, which a lifetime will not see: the next one then.
            key = key.wrapping_add(1) | GROUP;
        }
        self.add_node(
            parent,
            Key {
                hash: key,
                length: 0,
            },
        )
    }

    fn find(&self, parent: u32, key: u64) -> Option<u32> {
        let is_it = |&node: &u32| {
            let node = &self.nodes[at(node)];
            node.key == key && node.parent == parent
        };
        self.edges.find(spread(parent, key), is_it).copied()
    }

    fn add_node(&mut self, parent: u32, key: Key) -> u32 {
        let mut node = Node {
            key: key.hash,
            parent,
            first: NONE,
            depth: self.nodes[at(parent)].depth + 1,
            length: key.length,
            ..Node::default()
        };
        let is_group = node.is_group();
        let number = self.free_nodes.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            u32::try_from(self.nodes.len() - 1).expect("each node takes tens of bytes")
        });
        let branch = self.nodes[at(parent)].branch.get_or_insert_default();
        if is_group {
            node.place = u32::try_from(branch.groups.len()).expect("fewer than nodes");
            branch.groups.push(number);
        } else {
            branch.lengths.add(key.length);
        }
        self.nodes[at(number)] = node;
        let nodes = &self.nodes;
        self.edges
            .insert_unique(spread(parent, key.hash), number, |&node| {
                spread(nodes[at(node)].parent, nodes[at(node)].key)
            });
        number
    }

    /// Takes an empty node out of its parent, which it returns.
    fn remove_node(&mut self, number: u32) -> u32 {
        let node = std::mem::take(&mut self.nodes[at(number)]);
        let found = self
            .edges
            .find_entry(spread(node.parent, node.key), |&other| other == number);
        if let Ok(found) = found {
            found.remove();
        }
        self.free_nodes.push(number);
        let mut moved = None;
        if let Some(branch) = &mut self.nodes[at(node.parent)].branch {
            if node.is_group() {
                branch.groups.swap_remove(at(node.place));
                moved = branch.groups.get(at(node.place)).copied();
            } else {
                branch.lengths.remove(node.length);
            }
            if branch.groups.is_empty() && branch.lengths.is_empty() {
                self.nodes[at(node.parent)].branch = None;
            }
        }
        if let Some(moved) = moved {
            self.nodes[at(moved)].place = node.place;
        }
        node.parent
    }

    /// Gives the list of a node to children; the fullest of them.
    fn divide(&mut self, node: u32) -> u32 {
        self.nodes[at(node)].branch = Some(Box::default());
        self.nodes[at(node)].count = 0;
        let mut entry = std::mem::replace(&mut self.nodes[at(node)].first, NONE);
        let mut fullest = node;
        while entry != NONE {
            let next = self.entries.next(entry);
            if let Some(matcher) = self.entries.matcher(entry).cloned() {
                let keys = keys::of(&self.hash, &matcher);
                let child = self.child(node, &keys, &matcher);
                self.link(child, entry);
                if self.nodes[at(child)].count > self.nodes[at(fullest)].count {
                    fullest = child;
                }
            }
            entry = next;
        }
        fullest
    }

    /// To be called before the topics of an event.
    pub(super) fn begin_event(&self) {
        let mut query = self.query.borrow_mut();
        query.looked = Looked::default();
        if self.stamp.get() > u32::MAX / 2 {
            self.stamp.set(0);
            self.nodes.iter().for_each(|node| node.seen.set(0));
            self.entries.forget_stamps();
        }
        query.event = self.stamp.get() + 1;
    }

    /// Appends the templates that a topic of the event fits and that no earlier one did.
    pub(super) fn matching(&self, topic: &str, out: &mut Vec<MatcherId>) {
        if self.entries.is_empty() {
            return;
        }
        // An event has far fewer topics than there are stamps left.
        self.stamp.set(self.stamp.get().saturating_add(1));
        let query = &mut *self.query.borrow_mut();
        query.hashes.clear();
        query.waiting.push(Visit {
            node: ROOT,
            from: 0,
            to: topic.len(),
        });
        let subject = Subject {
            topic,
            bytes: entries::byte_set(topic),
        };
        while let Some(visit) = query.waiting.pop() {
            self.visit(&visit, &subject, query, out);
        }
    }

    fn visit(
        &self,
        visit: &Visit,
        subject: &Subject<'_>,
        query: &mut Query,
        out: &mut Vec<MatcherId>,
    ) {
        let node = &self.nodes[at(visit.node)];
        let mut entry = node.first;
        while entry != NONE {
            if self.fits(entry, subject, query) {
                out.push(self.entries.id(entry));
            }
            entry = self.entries.next(entry);
        }
        let Some(branch) = &node.branch else {
            return;
        };
        for &group in &branch.groups {
            let group = &self.nodes[at(group)];
            if group.seen.get() < query.event && self.fits(group.first, subject, query) {
                group.seen.set(self.stamp.get());
                out.extend(self.entries.ids(group.first));
            }
        }
        let topic = subject.topic.as_bytes();
        match node.depth {
            0 => self.down_by_prefix(branch, topic, visit, query),
            1 => self.down_by_suffix(visit.node, branch, topic, visit, query),
            _ => self.down_by_grams(branch, topic, visit, query),
        }
    }

    /// Whether a template fits that fitted no earlier topic of the event.
    fn fits(&self, entry: u32, subject: &Subject<'_>, query: &mut Query) -> bool {
        query.looked.met_count += 1;
        let can_fit = self.entries.stamp(entry) < query.event
            && self.entries.holds_only(entry, subject.bytes);
        if !can_fit {
            return false;
        }
        let Some(matcher) = self.entries.matcher(entry) else {
            return false;
        };
        let expressions_count = matcher.expressions();
        if expressions_count > FEW_EXPRESSIONS && !matcher.has_inner_literals_in(subject.topic) {
            return false;
        }
        query.looked.compared_count += 1;
        query.looked.steps_count += subject.topic.len() * expressions_count;
        let fits = matcher.is_expansion(subject.topic);
        if fits {
            self.entries.set_stamp(entry, self.stamp.get());
        }
        fits
    }

    fn down_by_prefix(&self, branch: &Branch, topic: &[u8], visit: &Visit, query: &mut Query) {
        for length in branch
            .lengths
            .iter()
            .take_while(|&length| length <= topic.len())
        {
            let key = query.hashes.start(&self.hash, topic, length);
            query.looked.lookups_count += 1;
            query.waiting.extend(self.find(ROOT, key).map(|node| Visit {
                node,
                from: length,
                to: visit.to,
            }));
        }
    }

    fn down_by_suffix(
        &self,
        parent: u32,
        branch: &Branch,
        topic: &[u8],
        visit: &Visit,
        query: &mut Query,
    ) {
        let room = topic.len() - visit.from;
        for length in branch.lengths.iter().take_while(|&length| length <= room) {
            let key = query.hashes.end(&self.hash, topic, length);
            query.looked.lookups_count += 1;
            query
                .waiting
                .extend(self.find(parent, key).map(|node| Visit {
                    node,
                    from: visit.from,
                    to: topic.len() - length,
                }));
        }
    }

    fn down_by_grams(&self, branch: &Branch, topic: &[u8], visit: &Visit, query: &mut Query) {
        for length in branch.lengths.iter() {
            let range = visit.from..visit.to;
            let power = length.ilog2() as usize;
            for key in query.hashes.grams(&self.hash, topic, range, power) {
                query.looked.lookups_count += 1;
                let Some(node) = self.find(visit.node, key) else {
                    continue;
                };
                // The same piece may stand at many places.
                if self.nodes[at(node)].seen.replace(self.stamp.get()) != self.stamp.get() {
                    let Visit { from, to, .. } = *visit;
                    query.waiting.push(Visit { node, from, to });
                }
            }
        }
    }
}

fn at(number: u32) -> usize {
    number as usize
}

/// A hash for a hash map from hashes that are random already but for their parent.
fn spread(parent: u32, key: u64) -> u64 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15; // 2^64 over the golden ratio
    let mixed = (key ^ u64::from(parent).wrapping_mul(ODD)).wrapping_mul(ODD);
    mixed ^ (mixed >> 32)
}
