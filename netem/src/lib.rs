//! Bad links on demand.
//!
//! [`profile`] names the links that results are reported for; others come from [`overrides`] on the
//! command line and from a [`catalog`] of the user's own, in [`units`] that people type. A [`lab`] is two
//! machines and such a link on this one; a [`link_end`] is one of its ends, where programs run. [`shaper`]
//! decides what a link does to a packet, [`delay_line`] holds it until then. A lab lives in a
//! [`sandbox`], and ends with it. The crate knows nothing of Wormhole.

#![warn(missing_docs)]

pub mod catalog;
pub mod delay_line;
pub mod lab;
pub mod link_end;
pub mod moment;
pub mod overrides;
pub mod profile;
pub mod sandbox;
pub mod shaper;
mod tc;
mod tun;
pub mod units;

pub use catalog::Catalog;
pub use delay_line::{DelayLine, Packet};
pub use lab::{Backend, Lab, LabError};
pub use link_end::LinkEnd;
pub use moment::Moment;
pub use overrides::Overrides;
pub use profile::{Loss, Profile, UnknownProfile};
pub use shaper::{Counters, Direction, Reason, Shaper, Verdict};
