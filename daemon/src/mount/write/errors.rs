//! Errors of writing, kept until everybody who must know was told: `errseq_t` of Linux in small.
//!
//! A write has long returned when its bytes fail. So the error is kept with the file; whoever holds the file
//! open asks at `fsync` and `close` what went wrong since he asked last. Each is told once.

use crate::mount::error::FsError;

/// Up to where a handle knows what went wrong. By default it knows of nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ErrorMark(u64);

/// What went wrong with a file.
#[derive(Debug, Default)]
pub(super) struct Errors {
    /// How many errors there were.
    count: u64,
    last: Option<FsError>,
    /// Of how many of them somebody was told.
    told: u64,
}

impl Errors {
    /// Takes an error.
    pub(super) fn record(&mut self, error: FsError) {
        self.count += 1;
        self.last = Some(error);
    }

    /// The mark of a handle that is being opened. An error nobody was told of yet lies after it, so that
    /// it is not lost with the handle that caused it.
    pub(super) fn mark(&self) -> ErrorMark {
        ErrorMark(self.told)
    }

    /// The last error after `mark`, which moves to the present.
    pub(super) fn since(&mut self, mark: &mut ErrorMark) -> Option<FsError> {
        let error = self.after(*mark)?;
        mark.0 = self.count;
        self.told = self.count;
        Some(error)
    }

    /// The same, and nobody is told of it.
    pub(super) fn after(&self, mark: ErrorMark) -> Option<FsError> {
        self.last.filter(|_| mark.0 != self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_handle_is_told_once() {
        let mut errors = Errors::default();
        let (mut a, mut b) = (errors.mark(), errors.mark());
        assert_eq!(errors.since(&mut a), None);
        errors.record(FsError::Io);
        errors.record(FsError::TimedOut);
        assert_eq!(errors.since(&mut a), Some(FsError::TimedOut));
        assert_eq!(errors.since(&mut a), None);
        assert_eq!(errors.since(&mut b), Some(FsError::TimedOut));
        assert_eq!(errors.since(&mut b), None);
    }

    #[test]
    fn what_was_told_to_nobody_is_told_to_who_opens_the_file_next() {
        let mut errors = Errors::default();
        // Of a handle that was closed before.
        let closed = errors.mark();
        errors.record(FsError::Io);
        assert_eq!(errors.after(closed), Some(FsError::Io));
        let mut next = errors.mark();
        assert_eq!(errors.after(next), Some(FsError::Io));
        assert_eq!(errors.since(&mut next), Some(FsError::Io));
        assert_eq!(errors.after(next), None);
        assert_eq!(errors.after(errors.mark()), None);
    }

    #[test]
    fn an_error_nobody_was_told_of_waits_for_the_next_handle() {
        let mut errors = Errors::default();
        errors.record(FsError::Io);
        let (mut first, mut second) = (errors.mark(), errors.mark());
        assert_eq!(errors.since(&mut first), Some(FsError::Io));
        let mut third = errors.mark();
        assert_eq!(errors.since(&mut third), None);
        assert_eq!(errors.since(&mut second), Some(FsError::Io));
    }
}
