//! Numbers for Prometheus.
//!
//! The rooms count; their counters reach here in a [`crate::status::Report`]. This room gives each a
//! name ([`names`]), picks it out of the report ([`collect`]), writes the text format ([`text`]) and
//! serves it ([`http`]). No other room knows a metric's name.

pub mod collect;
pub mod http;
pub mod names;
pub mod text;
