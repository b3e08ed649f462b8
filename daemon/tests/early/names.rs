//! Files made early that get other names at once: nobody is told what he did himself, nor asks again.

use crate::maker::{CALLER, Maker, world_with};
use std::fs;
use std::time::Duration;
use tokio::time::sleep;
use wormhole_protocol::RenameHow;

// The host of a runtime of one thread has others close and rename, in either order.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_made_and_renamed_at_once_is_no_news_to_its_maker() {
    let world = world_with(&["d"]);
    let maker = Maker::new(&world, 1).await;
    let dir = maker.prepared("d").await;
    let told = || maker.vfs.lease_stats().snapshot().names;
    let before = told();
    for n in 0..20 {
        let name = format!("f{n}");
        maker.make(dir, "new", &name).await.unwrap();
        let (from, to) = ((dir, &b"new"[..]), (dir, name.as_bytes()));
        let renamed = maker.vfs.rename(CALLER, from, to, RenameHow::Replace);
        renamed.await.unwrap();
    }
    // Whatever there was to be told has been by then.
    let mark = world.folder().join("d/mark");
    fs::write(&mark, "").unwrap();
    while !maker.names(dir).await.contains(&"mark".to_owned()) {
        sleep(Duration::from_millis(10)).await;
    }
    // The host may be busy, and rename before it closes. As a rule it does not.
    assert!(told() - before < 10, "{}", told() - before);
}

#[tokio::test(start_paused = true)]
async fn what_has_one_name_again_is_believed_again() {
    let world = world_with(&["d"]);
    let maker = Maker::new(&world, 1).await;
    let dir = maker.prepared("d").await;
    // As git makes its objects.
    for n in 0..5 {
        let (tmp, name) = (format!("tmp{n}"), format!("f{n}"));
        let file = maker.create(dir, &tmp, true).await.unwrap();
        maker.write(file, "content").await.unwrap();
        maker.close(file).await.unwrap();
        let linked = maker.vfs.link(CALLER, file.ino, dir, name.as_bytes());
        assert_eq!(linked.await.unwrap().attr.links, 2);
        let unlinked = maker.vfs.unlink(CALLER, dir, tmp.as_bytes());
        unlinked.await.unwrap();
    }
    let asked = || maker.vfs.fetcher().remote_stats.snapshot().getattr;
    let before = asked();
    for n in 0..5 {
        let name = format!("f{n}");
        let found = maker.vfs.lookup(dir, name.as_bytes()).await.unwrap();
        let ino = found.unwrap().node.ino;
        let (attr, _) = maker.vfs.getattr(ino, None).await.unwrap();
        assert_eq!(attr.links, 1);
    }
    assert_eq!(asked(), before);
}
