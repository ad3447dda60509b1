//! Streams that go on in another process: a descriptor, a cursor, and what the subscriber wants.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::Shard;
use super::inbox::{HandOver, Way};
use super::subscriber::{NEVER, Phase, Subscriber};
use super::turn::NOBODY;
use crate::clock::{Clock, TICK_MS, ticks};
use crate::close::CloseReason;
use crate::frame::Framing;
use crate::topic::Matcher;
use crate::upgrade::{
    Channel, ClientNote, PresentNote, StreamNote, StreamNotes, StreamsTaken, TlsNote,
};

/// Bytes of notes at which they are sent, give or take one. Ours: some packets.
const NOTES_BYTES: usize = 128 * 1024;

/// Most messages that the other process has not taken in: one that it is at, and the next. What the
/// kernel would hold beyond that counts against the descriptors of this user (see `limits.rs`).
const UNTAKEN_MAX: usize = 2;

impl Shard {
    /// Gives all streams that can be given, at once: new events come to the other process from
    /// now on. The others end as in a drain, and so does the shard.
    ///
    /// Some go together: they are without events until the other process serves them, so what
    /// takes long for one by one is time in which nothing comes. Sending may wait for the other
    /// process. Streams that it did not take for as long as its patience lasts stay, and end.
    pub(super) fn hand_over(&mut self, hand_over: HandOver) {
        let way = match (hand_over.way, &mut self.receiver) {
            (Way::Here(channel), _) => Ok(channel),
            (Way::Sent(ticket), Some(receiver)) => receiver.take(ticket).map(Channel::of),
            (Way::Sent(_), None) => {
                unreachable!("sockets are sent to shards with a table of their own only")
            }
        };
        match way {
            Ok(way) => {
                self.heir = Some(Heir {
                    way,
                    takes_tls: hand_over.takes_tls,
                    together: hand_over.together,
                    untaken: 0,
                });
            }
            Err(error) => tracing::error!(%error, "a shard's streams are not handed over"),
        }
        // First, so that whatever happens below, those who are still here end.
        self.begin_drain(ticks(hand_over.window));
        let mut leaving = Leaving::default();
        for index in 0..self.subscribers.places() {
            if self.heir.is_none() {
                break;
            }
            self.note(index, &mut leaving);
            let together = self.heir.as_ref().map_or(0, |heir| heir.together);
            if leaving.is_full(together) {
                self.give_noted(&mut leaving);
            }
        }
        self.give_noted(&mut leaving);
        let left = self.subscribers.len();
        if let Some(plan) = &mut self.drain {
            plan.total = plan.closed + left;
        }
    }

    /// Gives one stream, if it is one that can go.
    pub(super) fn give(&mut self, index: u32) {
        let mut leaving = Leaving::default();
        self.note(index, &mut leaving);
        self.give_noted(&mut leaving);
    }

    /// Notes a stream to be given, if it is one that can go.
    fn note(&mut self, index: u32, leaving: &mut Leaving) {
        self.visit.subject = index;
        let unvisited = self.first_unvisited();
        let timeout = self.shared.policy.load().settings.tcp_user_timeout;
        let (Some(heir), Some(subscriber)) = (&self.heir, self.subscribers.get_mut(index)) else {
            return;
        };
        if subscriber.phase == Phase::Live {
            subscriber.cursor = subscriber.cursor.max(unvisited);
        }
        // In the middle of a line that is in no log. It resumes by its id.
        let is_owed = subscriber.owed > 0;
        let is_tls = subscriber.sink.layer_to_give().is_some();
        if is_owed || subscriber.sink.socket_to_give().is_none() || (is_tls && !heir.takes_tls) {
            return;
        }
        if subscriber.stalled_since != NEVER {
            // As the other process expects it.
            let timeout = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
            subscriber.sink.set_user_timeout_ms(timeout);
        }
        let note = note(subscriber, &self.shared.clock);
        leaving.bytes += note.bytes();
        leaving.notes.push(note);
        leaving.indices.push(index);
    }

    /// Gives those that are noted, with the secrets of those under TLS. What the other process has
    /// got is let go of here, one by one: a panic in one leaves none of them here, for two
    /// processes would write to it.
    fn give_noted(&mut self, leaving: &mut Leaving) {
        self.visit.subject = NOBODY;
        let Leaving { indices, notes, .. } = std::mem::take(leaving);
        let (Some(heir), false) = (&mut self.heir, notes.is_empty()) else {
            return;
        };
        // With all the room it needs: one that grew would leave secrets behind.
        let secret_bytes = notes.iter().map(StreamNote::tls_bytes).sum();
        let mut secrets = Zeroizing::new(Vec::with_capacity(secret_bytes));
        for index in &indices {
            if let Some(subscriber) = self.subscribers.get_mut(*index) {
                subscriber.sink.give_layer(&mut secrets);
            }
        }
        let subscribers = indices
            .iter()
            .filter_map(|index| self.subscribers.get(*index));
        let sockets: Vec<_> = subscribers
            .filter_map(|subscriber| subscriber.sink.socket_to_give())
            .collect();
        if let Err(error) = heir.send(&notes, &sockets, &secrets) {
            // It begins with none of them before it has all of the message.
            tracing::warn!(%error, "streams that are left are closed instead of handed over");
            self.heir = None;
            for index in indices {
                if let Some(subscriber) = self.subscribers.get_mut(index) {
                    subscriber.sink.keep_layer();
                }
            }
            return;
        }
        let panics = Arc::clone(&self.shared.panics);
        for index in indices {
            let _ = panics
                .shard
                .run("letting go of a stream", || self.let_go(index));
        }
    }

    fn let_go(&mut self, index: u32) {
        let Some(given) = self.take_out(index, CloseReason::HandedOver) else {
            return;
        };
        if let Some(present) = given.present {
            present.hand_over();
        }
        given.sink.let_go(self.poll.registry());
    }
}

/// The other process, as a shard sees it.
#[derive(Debug)]
pub(super) struct Heir {
    way: Channel,
    takes_tls: bool,
    /// Most streams of one message.
    together: usize,
    /// Messages of which it has not said that it has taken them in.
    untaken: usize,
}

impl Heir {
    fn send(
        &mut self,
        notes: &StreamNotes,
        sockets: &[BorrowedFd<'_>],
        secrets: &[u8],
    ) -> io::Result<()> {
        if self.untaken == UNTAKEN_MAX {
            self.way.receive::<StreamsTaken>()?;
            self.untaken -= 1;
        }
        self.way.send(notes, sockets)?;
        self.way.send_bytes(secrets)?;
        self.untaken += 1;
        Ok(())
    }
}

/// Streams that are about to be given together.
#[derive(Default)]
struct Leaving {
    indices: Vec<u32>,
    notes: StreamNotes,
    /// What the notes take in a message, about.
    bytes: usize,
}

impl Leaving {
    fn is_full(&self, together: usize) -> bool {
        self.notes.len() >= together || self.bytes >= NOTES_BYTES
    }
}

fn note(subscriber: &Subscriber, clock: &Clock) -> StreamNote {
    let now_ms = clock.now_ms();
    let ms = |tick: u32| u64::from(tick) * TICK_MS;
    let left_ms = |at: u32| (at != NEVER).then(|| ms(at).saturating_sub(now_ms));
    let texts = |matchers: &[Matcher]| -> Vec<String> {
        let owned = |matcher: &Matcher| matcher.text().to_owned();
        matchers.iter().map(owned).collect()
    };
    let selection = Arc::clone(&subscriber.selection);
    let present = subscriber.present.as_ref().map(|attendance| {
        let present = attendance.present();
        PresentNote {
            subscriber: present.subscriber.clone(),
            matchers: present.matchers.clone(),
            payload: present.payload.clone(),
        }
    });
    StreamNote {
        tls: subscriber
            .sink
            .layer_to_give()
            .map(|(suite, bytes)| TlsNote { suite, bytes }),
        is_chunked: subscriber.sink.framing() == Framing::Chunked,
        matchers: texts(&selection.matchers),
        grants: texts(&selection.grants),
        wants_gap: selection.wants_gap,
        told_until: selection.told_until.map(gush_log::Offset::as_u64),
        cursor: subscriber.cursor.as_u64(),
        partial: subscriber.partial,
        told_level: subscriber.told_level,
        expires_unix_ms: left_ms(subscriber.expires_at).map(|left| clock.unix_ms() + left),
        silent_ms: now_ms.saturating_sub(ms(subscriber.last_write_at)),
        ends_in_ms: left_ms(subscriber.life_end),
        present,
        client: subscriber.held.name.as_ref().map(|name| {
            let client = name.client();
            ClientNote {
                address: client.address,
                subject: client.subject,
                trace_id: client.trace_id,
            }
        }),
    }
}
