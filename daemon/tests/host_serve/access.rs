//! Who may only look, and who may change as well.

use crate::world::{BINDING, Mount, NOW, World, hello, node};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use wormhole::host::{HostState, Service, Share, ShareRules, TicketLimits};
use wormhole::rpc::Gate as _;
use wormhole::rpc::loopback::Loopback;
use wormhole_protocol::{
    Access, Caller, Change, Fault, Lock, LockKind, LockMode, LockOwner, LockRange, OpenId, Reply,
    Request, SeekWhat, Seq, Welcome,
};

/// A folder beside the world's, served under `rules`.
pub(crate) fn serve(world: &World, name: &str, rules: ShareRules) -> Arc<Service> {
    let path = world.outside(name);
    std::fs::create_dir(&path).unwrap();
    let share = Share::open(&path, Share::name_for(&path)).unwrap();
    let state = HostState::open(&world.outside("state")).unwrap();
    let state = state.share(&share).unwrap();
    world.gate.add_share_with(share, state, rules).unwrap()
}

/// Rules under which mounts may change what is there.
pub(crate) fn writable() -> ShareRules {
    ShareRules {
        access: Access::ReadWrite,
        ..ShareRules::default()
    }
}

/// A mount with the lasting ticket for `access`, and what it was told.
pub(crate) async fn mount(
    world: &World,
    service: &Service,
    access: Access,
    number: u8,
) -> (Mount, Welcome) {
    let limits = TicketLimits {
        access,
        ..TicketLimits::default()
    };
    let secret = service.state().issue(limits, NOW).unwrap();
    let admitted = world.gate.admit(&hello(&secret, number), &BINDING).await;
    let admitted = admitted.unwrap();
    let mount = Mount(Loopback::new(admitted.session));
    (mount, admitted.welcome)
}

fn change(change: Change) -> Request {
    Request::Change {
        seq: Seq(1),
        settled: Seq(1),
        caller: Caller { uid: 0, gid: 0 },
        change,
    }
}

/// One of each that a mount which only looks must not ask.
fn forbidden() -> Vec<Request> {
    let lock = Lock {
        open: OpenId(1),
        owner: LockOwner(1),
        kind: LockKind::Record,
        range: LockRange::ALL,
    };
    let mode = LockMode::Shared;
    vec![
        change(Change::Open {
            truncate: false,
            node: node("f"),
            access: Access::Read,
            open: OpenId(1),
        }),
        change(Change::SyncDir { dir: node("") }),
        Request::Lock {
            lock,
            mode,
            wait: false,
        },
        Request::Lock {
            lock,
            mode,
            wait: true,
        },
        Request::Unlock { lock },
        Request::UnlockAll {
            open: OpenId(1),
            owner: LockOwner(1),
        },
        Request::TestLock { lock, mode },
    ]
}

#[tokio::test]
async fn a_session_may_what_both_the_ticket_and_the_share_allow() {
    let world = World::new();
    let services = [
        (serve(&world, "closed", ShareRules::default()), Access::Read),
        (serve(&world, "open", writable()), Access::ReadWrite),
    ];
    for (service, allowed) in services {
        for granted in [Access::Read, Access::ReadWrite] {
            let (mount, welcome) = mount(&world, &service, granted, 1).await;
            let expected = allowed.min(granted);
            assert_eq!(welcome.access, expected, "{allowed:?} {granted:?}");
            std::fs::write(service.share().path().join("f"), "x").unwrap();
            for request in forbidden() {
                let answer = mount.call(request.clone()).await;
                let refused = answer == Err(Fault::ReadOnly);
                assert_eq!(refused, expected == Access::Read, "{request:?}: {answer:?}");
            }
            let shown = service.snapshot(NOW);
            assert_eq!(shown.access, allowed.into());
            assert_eq!(shown.sessions[0].access, expected.into());
            assert_eq!(shown.tickets.last().unwrap().access, granted.into());
        }
    }
}

#[tokio::test]
async fn a_mount_is_told_whether_users_are_mapped() {
    let world = World::new();
    let rules = ShareRules {
        map_users: true,
        ..writable()
    };
    let mapping = serve(&world, "mapping", rules);
    let (_, welcome) = mount(&world, &mapping, Access::ReadWrite, 1).await;
    assert!(welcome.maps_users);
    let plain = serve(&world, "plain", writable());
    let (_, welcome) = mount(&world, &plain, Access::ReadWrite, 1).await;
    assert!(!welcome.maps_users);
}

#[tokio::test]
async fn who_only_looks_finds_data_and_holes() {
    let world = World::new();
    let mib = 1 << 20;
    let file = std::fs::File::create(world.at("sparse")).unwrap();
    file.write_all_at(b"x", 4 * mib).unwrap();
    file.set_len(8 * mib).unwrap();
    std::fs::create_dir(world.at("dir")).unwrap();
    let mount = world.mount().await;
    let seek = async |path: &str, offset, what| {
        let node = node(path);
        mount.call(Request::Seek { node, offset, what }).await
    };
    let Reply::Offset(data) = seek("sparse", 0, SeekWhat::Data).await.unwrap() else {
        panic!("an offset")
    };
    // A file system without holes says that all is data.
    if data > 0 {
        assert!(data > 3 * mib && data <= 4 * mib);
        let none = seek("sparse", 6 * mib, SeekWhat::Data).await;
        assert_eq!(none, Err(Fault::NoData));
    }
    let end = seek("sparse", 8 * mib, SeekWhat::Hole).await;
    assert_eq!(end, Err(Fault::NoData));
    let fault = seek("dir", 0, SeekWhat::Data).await;
    assert_eq!(fault, Err(Fault::IsDirectory));
    let fault = seek("sparse", u64::MAX, SeekWhat::Data).await;
    assert_eq!(fault, Err(Fault::Invalid));
}
