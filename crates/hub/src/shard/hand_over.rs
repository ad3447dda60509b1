//! Streams that go on in another process: a descriptor, a cursor, and what the subscriber wants.

use std::sync::Arc;

use super::Shard;
use super::inbox::{HandOver, Way};
use super::subscriber::{NEVER, Phase, Subscriber};
use crate::clock::{Clock, TICK_MS, ticks};
use crate::close::CloseReason;
use crate::frame::Framing;
use crate::topic::Matcher;
use crate::upgrade::{Channel, ClientNote, PresentNote, StreamNote};

impl Shard {
    /// Gives all streams that can be given, at once: new events come to the other process from
    /// now on. The others end as in a drain, and so does the shard.
    ///
    /// Sending may wait for the other process, which takes a few microseconds for each stream. A
    /// stream that it did not take for as long as its patience lasts stays, and ends.
    pub(super) fn hand_over(&mut self, hand_over: HandOver) {
        let way = match (hand_over.way, &mut self.receiver) {
            (Way::Here(channel), _) => Ok(channel),
            (Way::Sent(ticket), Some(receiver)) => receiver.take(ticket).map(Channel::of),
            (Way::Sent(_), None) => {
                unreachable!("sockets are sent to shards with a table of their own only")
            }
        };
        match way {
            Ok(way) => self.heir = Some(way),
            Err(error) => tracing::error!(%error, "a shard's streams are not handed over"),
        }
        for index in 0..self.subscribers.places() {
            if self.heir.is_none() {
                break;
            }
            self.visit.subject = index;
            self.give(index);
        }
        self.begin_drain(ticks(hand_over.window));
    }

    /// Gives one stream, if it is one that can go.
    pub(super) fn give(&mut self, index: u32) {
        let unvisited = self.first_unvisited();
        let (Some(heir), Some(subscriber)) = (&self.heir, self.subscribers.get_mut(index)) else {
            return;
        };
        if subscriber.phase == Phase::Live {
            subscriber.cursor = subscriber.cursor.max(unvisited);
        }
        if subscriber.owed > 0 {
            // In the middle of a line that is in no log. It resumes by its id.
            return;
        }
        let Some(socket) = subscriber.sink.socket_to_give() else {
            return;
        };
        let note = note(subscriber, &self.shared.clock);
        if let Err(error) = heir.send(&note, &[socket]) {
            tracing::warn!(%error, "streams that are left are closed instead of handed over");
            self.heir = None;
            return;
        }
        let Some(given) = self.take_out(index, CloseReason::HandedOver) else {
            return;
        };
        if let Some(present) = given.present {
            present.hand_over();
        }
        given.sink.let_go(self.poll.registry());
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
