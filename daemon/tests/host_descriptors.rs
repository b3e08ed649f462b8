//! A host that runs out of file descriptors goes on. A process of its own: the limit is the
//! process's.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use bytes::Bytes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::{self, File};
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use wormhole::host::{Gate, HostState, Share, SystemClock, TicketLimits};
use wormhole::rpc::loopback::Loopback;
use wormhole::rpc::{CallError, Gate as _, Remote};
use wormhole_protocol::{
    ByteRange, Epoch, Fault, Features, Hello, MountId, NodeRef, ReadUrgency, RelPath, Request,
    WireVersion,
};

async fn read(remote: &Loopback, path: &str) -> Result<Bytes, Fault> {
    let node = NodeRef {
        path: RelPath::new(path).unwrap(),
        expect: None,
    };
    let request = Request::Read {
        node,
        range: ByteRange::new(0, 100).unwrap(),
        urgency: ReadUrgency::Demand,
    };
    match remote.call(request).await {
        Ok(mut answer) => {
            let mut bytes = Vec::new();
            answer.payload.read_to_end(&mut bytes).await.unwrap();
            Ok(bytes.into())
        }
        Err(CallError::Fault(fault)) => Err(fault),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn files_beyond_the_limit_are_served_and_running_out_is_one_requests_fault() {
    let limit = Rlimit {
        current: Some(128),
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("share");
    fs::create_dir(&path).unwrap();
    for i in 0..500 {
        fs::write(path.join(format!("{i}")), format!("{i}")).unwrap();
    }
    let gate = Gate::new(Epoch(1), Arc::new(SystemClock::new()));
    let share = Share::open(&path, Share::name_for(&path)).unwrap();
    let state = HostState::open(&dir.path().join("state")).unwrap();
    let state = state.share(&share).unwrap();
    let secret = state.issue(TicketLimits::default(), 0).unwrap();
    gate.add_share(share, state).unwrap();
    let mount = MountId([1; 16]);
    let hello = Hello {
        oldest: WireVersion::OLDEST.number(),
        newest: WireVersion::NEWEST.number(),
        features: Features(0),
        ticket: secret.id(),
        proof: secret.prove(&[0; 32], mount),
        mount,
    };
    let session = gate.admit(&hello, &[0; 32]).await.unwrap().session;
    let remote = Loopback::new(session);
    let open_files = || gate.snapshot().shares[0].sessions[0].open_files;
    for i in 0..500 {
        assert_eq!(
            read(&remote, &format!("{i}")).await.unwrap(),
            format!("{i}")
        );
    }
    assert!((1..=64).contains(&open_files()), "{}", open_files());
    // Somebody takes every descriptor there is: files kept open make room for the next.
    let mut taken = Vec::new();
    let mut take_all = || {
        while let Ok(file) = File::open("/dev/null") {
            taken.push(file);
        }
    };
    take_all();
    let kept = open_files();
    assert_eq!(read(&remote, "0").await.unwrap(), "0");
    assert!(open_files() < kept);
    // And each that becomes free, until there is nothing left to close: then the request fails,
    // not the host.
    loop {
        take_all();
        match read(&remote, "1").await {
            Ok(bytes) => assert_eq!(bytes, "1"),
            Err(fault) => {
                assert_eq!(fault, Fault::Exhausted);
                break;
            }
        }
    }
    drop(taken);
    assert_eq!(read(&remote, "1").await.unwrap(), "1");
}
