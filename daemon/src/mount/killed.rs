//! Notices that the task which waits for an answer was killed.
//!
//! fuser does not deliver FUSE_INTERRUPT, and without an answer to it the kernel lets nobody leave a
//! request that user space has taken: the process would hang unkillable until the host answers. So a
//! request that waits long looks at its caller instead. The kernel turns every fatal signal into a
//! pending SIGKILL of all threads (`complete_signal`), which `/proc/TID/status` shows.

use std::time::Duration;

/// Most requests are answered before anybody need look.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often to look then.
const INTERVAL: Duration = Duration::from_millis(250);
/// The bit of SIGKILL in the signal masks of `/proc/TID/status`.
const SIGKILL_BIT: u64 = 1 << (libc::SIGKILL - 1);

/// Resolves when the task `tid` has been killed or is gone. Never for 0, a caller of another pid
/// namespace.
pub async fn killed(tid: u32) {
    if tid == 0 {
        return std::future::pending().await;
    }
    tokio::time::sleep(PATIENCE).await;
    let path = format!("/proc/{tid}/status");
    loop {
        match std::fs::read_to_string(&path) {
            Ok(status) if !is_dying(&status) => {}
            Ok(_) => return,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            // ESRCH: it ended between the open and the read.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return,
            // Whoever cannot look must wait.
            Err(_) => return std::future::pending().await,
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Whether a `/proc/TID/status` shows a task that will never return to user space.
fn is_dying(status: &str) -> bool {
    status.lines().any(|line| match line.split_once(':') {
        Some(("SigPnd" | "ShdPnd", mask)) => {
            u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & SIGKILL_BIT != 0)
        }
        Some(("State", state)) => matches!(state.trim().chars().next(), Some('Z' | 'X')),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_sigkill_is_seen_in_either_mask() {
        let status = |own: &str, shared: &str, state: &str| {
            format!(
                "Name:\tcat\nState:\t{state}\nSigPnd:\t{own}\nShdPnd:\t{shared}\nSigBlk:\t0000000000000100\n"
            )
        };
        let none = "0000000000000000";
        let kill = "0000000000000100";
        let term = "0000000000004000";
        let waiting = "D (disk sleep)";
        assert!(!is_dying(&status(none, none, waiting)));
        assert!(!is_dying(&status(term, term, waiting)));
        assert!(is_dying(&status(kill, none, waiting)));
        assert!(is_dying(&status(none, kill, waiting)));
        assert!(is_dying(&status(none, none, "Z (zombie)")));
        assert!(!is_dying("SigPnd:\tnonsense"));
    }

    #[tokio::test]
    async fn a_task_that_is_gone_counts_as_killed() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        killed(pid).await;
    }
}
