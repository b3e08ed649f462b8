//! How a run goes, on stderr: a bar on a terminal, a line for each step elsewhere.

use crate::config::units::show_age;
use indicatif::{ProgressBar, ProgressStyle};
use std::io;
use std::time::Duration;
use wormhole_benches::run::Progress;

/// Parts of a step that the bar tells apart.
const PARTS: u64 = 1000;
const TICK: Duration = Duration::from_millis(200);

/// What is shown.
pub(super) struct Shown {
    profile: String,
    /// On a terminal.
    bar: Option<ProgressBar>,
}

impl Shown {
    pub(super) fn new(profile: &str) -> Self {
        let bar = rustix::termios::isatty(io::stderr()).then(|| {
            let bar = ProgressBar::new(PARTS);
            let style = ProgressStyle::with_template("{spinner} {wide_msg} [{bar:20}] {elapsed}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(TICK);
            bar
        });
        Self {
            profile: profile.to_owned(),
            bar,
        }
    }

    /// Nothing more to show.
    pub(super) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Shown {
    fn step(&mut self, what: &str, left: Duration) {
        let text = format!("{}: {what} (at most {} left)", self.profile, show_age(left));
        match &self.bar {
            Some(bar) => {
                bar.set_position(0);
                bar.set_message(text);
            }
            None => eprintln!("{text}"),
        }
    }

    fn fraction(&mut self, done: f64) {
        if let Some(bar) = &self.bar {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between nothing and all parts"
            )]
            bar.set_position((done.clamp(0.0, 1.0) * PARTS as f64) as u64);
        }
    }
}
