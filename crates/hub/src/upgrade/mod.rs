//! A new binary takes over while the hub serves: the listeners, the log, connections and live
//! streams (decision 0026).
//!
//! The old process starts the new one and gives up one thing after the other, the log last. Until
//! the new one serves, any failure ends with the old one going on as before.

// Messages and descriptors.
mod channel;

// What is said.
mod message;

// The log while it changes hands.
mod baton;

// Publishes that come to the old process late.
mod relay;

// The old process's side.
mod give;

// What the old process hands over once the new one serves.
mod heir;

// The new process's side.
mod take;

// What the new process takes in.
mod adopt;

// What may still come.
mod arrivals;

#[cfg(test)]
mod tests;

pub(crate) use arrivals::Arrivals;
pub(crate) use baton::Baton;
pub(crate) use channel::Channel;
pub(crate) use give::{Given, NotGiven, Offer, Recall, give};
pub(crate) use heir::{Heir, Leaving};
pub(crate) use message::{
    ClientNote, DoorNote, ListenerNote, PresentNote, StreamNote, StreamNotes, StreamsTaken, TlsNote,
};
pub(crate) use take::Taking;

/// Where the listeners stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moving {
    /// Here.
    No,
    /// Connections wait in the kernel's queue.
    Paused,
    /// At the new process: connections go there between two requests.
    Gone,
}
