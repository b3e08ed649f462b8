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

/// Resolves when the task `tid` has been killed, is gone, or has a signal to handle: for what may be waited
/// for long, like a lock (`fcntl(2)`, `flock(2)`: EINTR).
pub async fn interrupted(tid: u32) {
    if tid == 0 {
        return std::future::pending().await;
    }
    let path = format!("/proc/{tid}/status");
    loop {
        tokio::time::sleep(INTERVAL).await;
        match std::fs::read_to_string(&path) {
            Ok(status) if !is_dying(&status) && !has_signal(&status) => {}
            Ok(_) => return,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return,
            Err(_) => return std::future::pending().await,
        }
    }
}

/// Whether a `/proc/TID/status` shows a signal that is pending, and neither blocked nor ignored.
fn has_signal(status: &str) -> bool {
    let mask = |wanted: &str| {
        let lines = status.lines().filter_map(|line| line.split_once(':'));
        let values = lines.filter(|(name, _)| *name == wanted);
        values
            .filter_map(|(_, mask)| u64::from_str_radix(mask.trim(), 16).ok())
            .fold(0, |all, mask| all | mask)
    };
    let pending = mask("SigPnd") | mask("ShdPnd");
    pending & !mask("SigBlk") & !mask("SigIgn") != 0
}

/// Whether the task `tid` waits in `flock(2)`: a lock request of FUSE says which kind of lock it is for, but
/// fuser does not pass that on. A task whose system call cannot be seen is taken for one in `fcntl(2)`.
pub fn is_in_flock(tid: u32) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{tid}/syscall")).unwrap_or_default();
    let number = call.split(' ').next().and_then(|n| n.parse().ok());
    number == Some(libc::SYS_flock)
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
    fn a_signal_interrupts_unless_it_is_blocked_or_ignored() {
        let status = |pending: &str, blocked: &str, ignored: &str| {
            format!("SigPnd:\t0\nShdPnd:\t{pending}\nSigBlk:\t{blocked}\nSigIgn:\t{ignored}\n")
        };
        assert!(has_signal(&status("2000", "0", "0")));
        assert!(!has_signal(&status("2000", "2000", "0")));
        assert!(!has_signal(&status("2000", "0", "2000")));
        assert!(!has_signal(&status("0", "0", "0")));
        assert!(!has_signal(""));
    }

    #[test]
    fn a_task_in_another_call_is_not_in_flock() {
        assert!(!is_in_flock(std::process::id()));
        assert!(!is_in_flock(0));
    }

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
