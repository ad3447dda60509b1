//! A shard between a real log and real sockets, with a clock that the test moves.

mod conflation;
mod cut_lines;
mod delivery;
mod ends;
mod flush;
mod hand_over;
mod model;
mod panics;
mod rig;
mod turns;
mod volleys;
mod waiting;
