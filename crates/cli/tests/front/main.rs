//! Real nginx and HAProxy in front of a real hub, with the configurations in `deploy/`, and what
//! `gush doctor` says of them.

mod curl;
mod doctor;
mod hubs;
mod proxy;
mod streams;
