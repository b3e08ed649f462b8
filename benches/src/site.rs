//! A lab as an order asks for it.

use crate::order::LinkOrder;
use crate::process;
use std::io;
use std::process::Command;
use std::time::Duration;
use wormhole_netem::{Lab, LabError, LinkEnd};

/// Why there is no lab as ordered.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// No link.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The kernel does not know the congestion control.
    #[error("this kernel's TCP has no congestion control \"{wanted}\"; it has: {known}")]
    NoCongestionControl {
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: String,
    },
    /// The kernel's settings.
    #[error("TCP's congestion control at an end of the link: {0}")]
    Setting(io::Error),
}

const CONGESTION_CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
const CONGESTION_CONTROLS: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";
/// How long `ip` may take.
const ROUTE_MAX: Duration = Duration::from_secs(10);
/// What stands before the congestion control in a route.
const OF_ROUTE: &str = "congctl";

/// Lays the link, and sets TCP at both ends.
///
/// # Errors
/// [`SiteError`].
pub fn open(order: &LinkOrder) -> Result<Lab, SiteError> {
    let lab = Lab::open(&order.profile, order.backend, order.seed)?;
    if let Some(wanted) = &order.congestion_control {
        for end in [lab.host(), lab.mount()] {
            set_congestion_control(end, wanted)?;
        }
    }
    Ok(lab)
}

fn set_congestion_control(end: &LinkEnd, wanted: &str) -> Result<(), SiteError> {
    let set = || match std::fs::write(CONGESTION_CONTROL, wanted) {
        // Not everything the kernel has may be the default of a network other than the machine's own.
        // What a route may say is not restricted.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => set_by_route(wanted),
        other => other,
    };
    match end.within(set).map_err(SiteError::Setting)? {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(SiteError::NoCongestionControl {
                wanted: wanted.to_owned(),
                known: std::fs::read_to_string(CONGESTION_CONTROLS)
                    .unwrap_or_default()
                    .trim()
                    .to_owned(),
            })
        }
        Err(error) => Err(SiteError::Setting(error)),
    }
}

/// The congestion control of TCP at `end`, towards the other end.
///
/// # Errors
/// If the kernel does not say.
pub fn congestion_control(end: &LinkEnd) -> io::Result<String> {
    end.within(|| {
        let route = route()?;
        let mut words = route.iter().skip_while(|word| *word != OF_ROUTE).skip(1);
        match words.next() {
            Some(name) => Ok(name.clone()),
            None => Ok(std::fs::read_to_string(CONGESTION_CONTROL)?
                .trim()
                .to_owned()),
        }
    })?
}

fn set_by_route(wanted: &str) -> io::Result<()> {
    let mut words = route()?;
    words.extend([OF_ROUTE.to_owned(), wanted.to_owned()]);
    ip("replace", &words).map(drop)
}

/// The one route of the end of a link where this thread is, over the link.
fn route() -> io::Result<Vec<String>> {
    let said = ip("show", &[])?;
    Ok(said.split_whitespace().map(str::to_owned).collect())
}

/// `ip route`, where this thread is.
fn ip(action: &str, words: &[String]) -> io::Result<String> {
    let mut command = Command::new("ip");
    command.args(["-4", "-o", "route", action]).args(words);
    let output = process::run(&mut command, ROUTE_MAX)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("ip route: {}", said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
