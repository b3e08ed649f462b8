//! Losing the host: waiting, coming back, giving up, and always being able to leave.

use super::*;
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

const LEN: usize = 40 << 20;

fn fill(root: &Path) {
    fs::write(root.join("file"), pattern(1, LEN)).unwrap();
}

fn options(timeout: Duration) -> Options {
    Options {
        timeout,
        attr_ttl: Duration::ZERO,
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_file_goes_on_when_the_host_is_back() {
    let mut stage = Stage::new(&options(Duration::from_secs(30)), fill).await;
    let path = stage.mnt().join("file");
    let mut file = blocking(move || fs::File::open(path).unwrap()).await;
    let mut head = vec![0; 1 << 20];
    (file, head) = blocking(move || {
        file.read_exact(&mut head).unwrap();
        (file, head)
    })
    .await;
    let old = stage.host.take().unwrap();
    let address = old.address.to_string();
    old.stop().await;
    let reading = tokio::task::spawn_blocking(move || {
        let mut rest = Vec::new();
        file.read_to_end(&mut rest).unwrap();
        rest
    });
    let state = stage.dir.path().join("state");
    stage.host = Some(Host::start(&stage.share(), &state, &address).await);
    let rest = reading.await.unwrap();
    assert!([head, rest].concat() == pattern(1, LEN));
    assert_eq!(stage.mounted().snapshot().link.reconnects, 1);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_fail_after_the_timeout_and_the_mount_can_still_be_left() {
    let mut stage = Stage::new(&options(Duration::from_secs(1)), fill).await;
    stage.host.take().unwrap().stop().await;
    let path = stage.mnt().join("file");
    let error = blocking(move || fs::metadata(path).unwrap_err()).await;
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    // Still mounted: nothing can be written into the folder below by mistake.
    let link = stage.mounted().snapshot().link;
    assert!(!link.connected, "and the status says so");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_can_be_killed() {
    let mut stage = Stage::new(&options(Duration::from_secs(3600)), fill).await;
    stage.host.take().unwrap().stop().await;
    let mut waiting: Vec<_> = ["stat", "cat", "ls"]
        .iter()
        .map(|program| {
            Command::new(program)
                // Names of their own: the kernel lets only one task look up a name.
                .arg(stage.mnt().join(program))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    // Each is inside a request once the mount counts it.
    while stage.mounted().snapshot().fuse.in_flight < 3 {
        tokio::task::yield_now().await;
    }
    for child in &mut waiting {
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
    }
    for mut child in waiting {
        blocking(move || child.wait().unwrap()).await;
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unmounting_from_outside_ends_the_mount_even_without_a_host() {
    let mut stage = Stage::new(&options(Duration::from_secs(3600)), fill).await;
    stage.host.take().unwrap().stop().await;
    let mnt = stage.mnt();
    let done = blocking(move || Command::new("umount").arg(mnt).status().unwrap()).await;
    assert!(done.success());
    stage.mounted().ended().await;
    stage.end().await;
}
