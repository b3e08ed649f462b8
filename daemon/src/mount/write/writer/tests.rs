//! Writers against a host that dawdles, answers out of order and fails; the clock is the test's.

#![allow(
    clippy::cast_possible_truncation,
    reason = "the numbers of a test are small"
)]

use super::*;
use crate::mount::write::{FILE_SEGMENTS_MAX, SEGMENT_BYTES};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use wormhole_protocol::{ContentVersion, FileId, FileKind, Timestamp};

const MIB: usize = 1024 * 1024;
const CALLER: Caller = Caller { uid: 7, gid: 7 };
const MINUTE: Duration = Duration::from_secs(60);

/// A file at a host far away.
struct Far {
    bytes: Mutex<Vec<u8>>,
    /// Segments as they arrived.
    arrived: Mutex<Vec<(u64, usize)>>,
    /// Those with which the file was to be made durable.
    synced: Mutex<Vec<(u64, SyncWhat)>>,
    /// Attributes that were to be set.
    set: Mutex<Vec<AttrChange>>,
    /// Why they are not.
    unset: Mutex<Option<Fault>>,
    /// What is under way: from, until.
    under_way: Mutex<Vec<(u64, u64)>>,
    under_way_max: AtomicUsize,
    /// How long each takes, in turn, the last one for all that follow.
    delays: Mutex<Vec<Duration>>,
    /// Fails segments that begin here.
    fails_at: Mutex<Option<(u64, FsError)>>,
    panics: AtomicBool,
    changes: AtomicU64,
}

impl Far {
    fn new(delays_ms: &[u64]) -> Arc<Self> {
        let delays = delays_ms.iter().rev().map(|ms| Duration::from_millis(*ms));
        Arc::new(Self {
            bytes: Mutex::default(),
            arrived: Mutex::default(),
            synced: Mutex::default(),
            set: Mutex::default(),
            unset: Mutex::default(),
            under_way: Mutex::default(),
            under_way_max: AtomicUsize::new(0),
            delays: Mutex::new(delays.collect()),
            fails_at: Mutex::default(),
            panics: AtomicBool::new(false),
            changes: AtomicU64::new(0),
        })
    }

    fn delay(&self) -> Duration {
        let mut delays = self.delays.lock();
        match delays.len() {
            1 => delays[0],
            _ => delays.pop().unwrap(),
        }
    }

    fn begin(&self, range: (u64, u64)) {
        let mut under_way = self.under_way.lock();
        for other in under_way.iter() {
            assert!(
                range.1 <= other.0 || other.1 <= range.0,
                "two segments overlap under way"
            );
        }
        under_way.push(range);
        self.under_way_max.fetch_max(under_way.len(), SeqCst);
    }

    fn apply(&self, offset: u64, body: Body) {
        let (mut at, mut bytes) = (usize::try_from(offset).unwrap(), self.bytes.lock());
        for piece in body.into_pieces() {
            let end = at + piece.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[at..end].copy_from_slice(&piece);
            at = end;
        }
    }

    fn attr(&self) -> Attr {
        let changed = self.changes.fetch_add(1, SeqCst) + 1;
        let changed = Timestamp::new(changed.cast_signed(), 0).unwrap();
        Attr {
            id: FileId {
                device: 1,
                inode: 2,
                birth: 3,
            },
            kind: FileKind::File,
            mode: 0o644,
            links: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: self.bytes.lock().len() as u64,
            blocks: 0,
            accessed: changed,
            modified: changed,
            changed,
            xattrs: false,
            version: ContentVersion([0; 16]),
        }
    }
}

impl Deliver for Far {
    fn write(
        &self,
        offset: u64,
        body: Body,
        after: AfterWrite,
    ) -> BoxFuture<'_, Result<Delivered, FsError>> {
        let synced = after.sync.map(|what| (offset, what));
        self.synced.lock().extend(synced);
        self.set.lock().extend(after.set);
        async move {
            assert!(!self.panics.load(SeqCst), "the host is gone");
            let range = (offset, offset + body.len() as u64);
            self.begin(range);
            self.arrived.lock().push((offset, body.len()));
            let failure = self.fails_at.lock().filter(|(at, _)| *at == offset);
            let answer = match failure {
                Some((_, error)) => Err(error),
                None => {
                    self.apply(offset, body);
                    let unset = after.set.and_then(|_| *self.unset.lock());
                    Ok(Delivered {
                        attr: self.attr(),
                        unset,
                    })
                }
            };
            // The answer takes its time: so one that was made first may come last.
            tokio::time::sleep(self.delay()).await;
            self.under_way.lock().retain(|other| *other != range);
            answer
        }
        .boxed()
    }

    fn caller(&self) -> Caller {
        CALLER
    }
}

fn set_up(buffer_bytes: u64, delays_ms: &[u64]) -> (Arc<Writer>, Arc<dyn Deliver>, Arc<Far>) {
    let far = Far::new(delays_ms);
    let writer = Writer::new(WriteBuffer::new(buffer_bytes));
    (writer, far.clone(), far)
}

fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| ((i * 31 + seed * 7) % 251) as u8)
        .collect()
}

async fn ended(writer: &Arc<Writer>) {
    // Its task holds one of them.
    tokio::time::timeout(MINUTE, async {
        while Arc::strong_count(writer) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("the task of a clean writer ends");
    assert!(writer.is_clean());
    assert_eq!(writer.buffer.stats().dirty_bytes, 0);
    let drained = tokio::time::timeout(Duration::ZERO, writer.buffer.drain()).await;
    drained.expect("no room was lost");
}

#[tokio::test(start_paused = true)]
async fn a_long_file_goes_in_full_segments_many_at_once() {
    let (writer, to, far) = set_up(64 << 20, &[100]);
    let data = pattern(1, 40 * MIB);
    for (n, piece) in data.chunks(MIB / 8).enumerate() {
        let offset = (n * MIB / 8) as u64;
        writer.write(&to, offset, piece).await.unwrap();
    }
    assert_eq!(writer.end(), Some(data.len() as u64));
    let answered = writer.flush().await.unwrap();
    assert_eq!(answered.attr.size, data.len() as u64);
    assert!(*far.bytes.lock() == data);
    assert_eq!(far.arrived.lock().len(), 40);
    assert_eq!(far.under_way_max.load(SeqCst), 40);
    let stats = writer.buffer.stats();
    assert_eq!((stats.segments, stats.waits), (40, 0));
    assert_eq!(stats.written_bytes, data.len() as u64);
    ended(&writer).await;
}

#[tokio::test(start_paused = true)]
async fn what_rests_is_sent_without_being_asked_for() {
    let (writer, to, far) = set_up(1 << 20, &[0]);
    writer.write(&to, 0, b"abc").await.unwrap();
    tokio::time::sleep(IDLE / 2).await;
    writer.write(&to, 3, b"def").await.unwrap();
    tokio::time::sleep(IDLE * 3 / 4).await;
    assert!(far.arrived.lock().is_empty(), "it is still being added to");
    assert!(writer.overlaps(5, 1) && !writer.overlaps(6, 1));
    tokio::time::sleep(IDLE).await;
    assert_eq!(*far.arrived.lock(), [(0, 6)]);
    ended(&writer).await;
}

#[tokio::test(start_paused = true)]
async fn a_trickle_is_sent_now_and_then() {
    let (writer, to, far) = set_up(1 << 20, &[0]);
    for at in 0..500 {
        writer.write(&to, at, b"x").await.unwrap();
        tokio::time::sleep(IDLE / 4).await;
    }
    assert!((2..5).contains(&far.arrived.lock().len()));
    writer.flush().await;
    assert_eq!(far.bytes.lock().len(), 500);
    ended(&writer).await;
}

#[tokio::test(start_paused = true)]
async fn later_bytes_win_however_slow_the_earlier_ones_are() {
    let (writer, to, far) = set_up(64 << 20, &[900, 1, 300, 5]);
    let mut model = vec![0; 3 * MIB];
    for (n, (offset, len)) in [
        (0, 2 * MIB),
        (MIB / 2, MIB),
        (0, 100),
        (MIB, 2 * MIB),
        (50, 10),
    ]
    .into_iter()
    .enumerate()
    {
        let data = pattern(n, len);
        model[offset..offset + len].copy_from_slice(&data);
        writer.write(&to, offset as u64, &data).await.unwrap();
    }
    writer.flush().await;
    assert!(*far.bytes.lock() == model);
    ended(&writer).await;
}

#[tokio::test(start_paused = true)]
async fn the_attributes_are_those_of_the_last_change() {
    // The first answer comes last.
    let (writer, to, _far) = set_up(64 << 20, &[500, 1, 400]);
    writer.write(&to, 0, &pattern(0, 3 * MIB)).await.unwrap();
    let answered = writer.flush().await.unwrap();
    assert_eq!(answered.attr.size, 3 * MIB as u64);
    assert_eq!(answered.attr.changed.secs(), 3);
    ended(&writer).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_lets_writers_wait_and_bounds_memory() {
    let room = 4 * MIB as u64;
    let (writer, to, far) = set_up(room, &[1000]);
    let data = pattern(0, 16 * MIB);
    let began = Instant::now();
    for (n, piece) in data.chunks(MIB).enumerate() {
        writer.write(&to, (n * MIB) as u64, piece).await.unwrap();
        assert!(writer.buffer.stats().dirty_bytes <= room);
    }
    assert_eq!(began.elapsed().as_secs(), 3, "four at a time");
    assert_eq!(far.under_way_max.load(SeqCst), 4);
    writer.flush().await;
    assert!(*far.bytes.lock() == data);
    assert!(writer.buffer.stats().waits > 0);
    ended(&writer).await;
}

#[tokio::test(start_paused = true)]
async fn scattered_bytes_count_as_pages_and_few_of_a_file_are_under_way() {
    let (writer, to, far) = set_up(256 * 4096, &[10]);
    for n in 0..1000 {
        writer.write(&to, n * 8192, &[1]).await.unwrap();
        assert!(writer.buffer.stats().dirty_bytes <= 256);
    }
    writer.flush().await;
    assert_eq!(far.arrived.lock().len(), 1000);
    assert_eq!(far.under_way_max.load(SeqCst), FILE_SEGMENTS_MAX);
    ended(&writer).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_larger_than_all_room_gets_through() {
    let (writer, to, far) = set_up(10_000, &[1]);
    let data = pattern(3, MIB);
    writer.write(&to, 5, &data).await.unwrap();
    writer.flush().await;
    assert!(far.bytes.lock()[5..] == data);
    ended(&writer).await;
}

#[tokio::test(start_paused = true)]
async fn who_needs_room_gets_it_from_a_file_that_waits_for_more() {
    let buffer = WriteBuffer::new(8192);
    let far = Far::new(&[1]);
    let to: Arc<dyn Deliver> = far.clone();
    let (idle, busy) = (Writer::new(buffer.clone()), Writer::new(buffer));
    idle.write(&to, 0, &[1; 8192]).await.unwrap();
    let began = Instant::now();
    busy.write(&to, 8192, &[2; 8192]).await.unwrap();
    assert!(began.elapsed() < IDLE);
    busy.flush().await;
    ended(&idle).await;
    ended(&busy).await;
}

#[tokio::test(start_paused = true)]
async fn one_file_does_not_starve_another() {
    let (greedy, to, _far) = set_up(MIB as u64, &[10]);
    let modest = Writer::new(greedy.buffer.clone());
    let elsewhere: Arc<dyn Deliver> = Far::new(&[10]);
    let hog = {
        let (greedy, to) = (greedy.clone(), to.clone());
        tokio::spawn(async move { greedy.write(&to, 0, &pattern(0, 50 * MIB)).await })
    };
    tokio::time::sleep(Duration::from_millis(15)).await;
    let began = Instant::now();
    modest.write(&elsewhere, 0, b"me too").await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(50));
    assert!(!hog.is_finished());
    hog.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_to_each_handle_once_and_the_rest_is_written() {
    let (writer, to, far) = set_up(64 << 20, &[10]);
    let no_space = FsError::Fault(Fault::NoSpace);
    *far.fails_at.lock() = Some((MIB as u64, no_space));
    let (mut a, mut b) = (writer.error_mark(), writer.error_mark());
    let data = pattern(0, 3 * MIB);
    writer.write(&to, 0, &data).await.unwrap();
    writer.flush().await;
    assert_eq!(writer.error_since(&mut a), Some(no_space));
    assert_eq!(writer.error_since(&mut a), None);
    *far.fails_at.lock() = None;
    writer.write(&to, 0, b"again").await.unwrap();
    assert!(writer.flush().await.is_some());
    assert_eq!(writer.error_since(&mut a), None);
    assert_eq!(writer.error_since(&mut b), Some(no_space));
    let bytes = far.bytes.lock().clone();
    assert!(bytes[2 * MIB..] == data[2 * MIB..] && bytes[MIB..2 * MIB] == vec![0; MIB]);
    assert_eq!(writer.buffer.stats().failed, 1);
    ended(&writer).await;
}

#[tokio::test(start_paused = true)]
async fn attributes_from_before_a_failure_are_not_told() {
    let (writer, to, far) = set_up(64 << 20, &[10]);
    *far.fails_at.lock() = Some((MIB as u64, FsError::Io));
    writer.write(&to, 0, &pattern(0, 2 * MIB)).await.unwrap();
    assert_eq!(writer.flush().await, None);
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_is_sent_though_the_writer_was_killed() {
    let (writer, to, far) = set_up(2 * MIB as u64, &[50]);
    let data = pattern(0, 8 * MIB);
    let killed = tokio::time::timeout(Duration::from_millis(10), writer.write(&to, 0, &data));
    assert!(killed.await.is_err());
    let taken = usize::try_from(writer.buffer.stats().taken_bytes).unwrap();
    let waiter = tokio::time::timeout(Duration::from_millis(10), writer.flush());
    assert!(waiter.await.is_err());
    writer.flush().await;
    assert!(taken > 0 && *far.bytes.lock() == data[..taken]);
    ended(&writer).await;
}

#[tokio::test(start_paused = true)]
async fn a_flush_does_not_wait_for_what_is_written_after_it() {
    let (writer, to, _far) = set_up(64 << 20, &[10, 60_000]);
    writer.write(&to, 0, b"before").await.unwrap();
    let flush = tokio::spawn({
        let writer = writer.clone();
        async move { writer.flush().await }
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    writer.write(&to, 100, b"after").await.unwrap();
    let flushed = tokio::time::timeout(Duration::from_millis(100), flush);
    assert!(flushed.await.unwrap().unwrap().is_some());
    assert!(!writer.is_clean());
}

#[tokio::test(start_paused = true)]
async fn draining_sends_all_files_and_waits_for_the_last() {
    let (one, to, far) = set_up(64 << 20, &[100]);
    let two = Writer::new(one.buffer.clone());
    one.write(&to, 0, b"one").await.unwrap();
    two.write(&to, 10, b"two").await.unwrap();
    let drained = tokio::time::timeout(Duration::from_millis(10), one.buffer.drain()).await;
    assert!(drained.is_err());
    assert_eq!(far.under_way.lock().len(), 2, "sent at once");
    one.buffer.drain().await;
    ended(&one).await;
    ended(&two).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_for_a_task_that_broke() {
    let (writer, to, far) = set_up(1 << 20, &[10]);
    let mut mark = writer.error_mark();
    far.panics.store(true, SeqCst);
    writer.write(&to, 0, b"lost").await.unwrap();
    assert_eq!(writer.flush().await, None);
    assert_eq!(writer.error_since(&mut mark), Some(FsError::Io));
    far.panics.store(false, SeqCst);
    writer.write(&to, 0, b"well").await.unwrap();
    assert!(writer.flush().await.is_some());
    ended(&writer).await;
}

#[tokio::test]
async fn nothing_lies_beyond_the_largest_offset() {
    let (writer, to, _far) = set_up(1 << 20, &[0]);
    for offset in [OFFSET_MAX, u64::MAX] {
        let answer = writer.write(&to, offset, b"x").await;
        assert_eq!(answer, Err(FsError::Fault(Fault::FileTooLarge)));
    }
    assert!(writer.write(&to, OFFSET_MAX, b"").await.is_ok());
    assert!(writer.is_clean());
}

/// On several threads: a gigabyte through little room, nothing lost on the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gigabyte_goes_through() {
    struct Count(AtomicU64, Far);
    impl Deliver for Count {
        fn write(
            &self,
            _offset: u64,
            body: Body,
            _after: AfterWrite,
        ) -> BoxFuture<'_, Result<Delivered, FsError>> {
            self.0.fetch_add(body.len() as u64, SeqCst);
            let delivered = Delivered {
                attr: self.1.attr(),
                unset: None,
            };
            futures_util::future::ready(Ok(delivered)).boxed()
        }

        fn caller(&self) -> Caller {
            CALLER
        }
    }
    let far = Arc::into_inner(Far::new(&[0])).unwrap();
    let count = Arc::new(Count(AtomicU64::new(0), far));
    let to: Arc<dyn Deliver> = count.clone();
    let writer = Writer::new(WriteBuffer::new(16 << 20));
    let piece = vec![7; MIB / 8];
    for n in 0..8 * 1024 {
        writer
            .write(&to, n * piece.len() as u64, &piece)
            .await
            .unwrap();
    }
    writer.flush().await;
    assert_eq!(count.0.load(SeqCst), 1 << 30);
    assert!(
        writer.buffer.stats().segments < 1500,
        "of a mebibyte, mostly"
    );
    assert_eq!(SEGMENT_BYTES, MIB);
}

#[tokio::test(start_paused = true)]
async fn one_segment_makes_the_file_durable_on_its_way() {
    let (writer, to, far) = set_up(16 << 20, &[100]);
    assert!(!writer.flush_durably(&to, SyncWhat::All).await);
    writer.write(&to, 0, b"data").await.unwrap();
    assert!(writer.flush_durably(&to, SyncWhat::Data).await);
    assert_eq!(*far.synced.lock(), [(0, SyncWhat::Data)]);
    assert!(!writer.flush_durably(&to, SyncWhat::Data).await);
    // Of two who want it the one who wants more.
    writer.write(&to, 4, b"more").await.unwrap();
    let (all, data) = tokio::join!(
        writer.flush_durably(&to, SyncWhat::All),
        writer.flush_durably(&to, SyncWhat::Data)
    );
    assert!(all && data);
    assert_eq!(far.synced.lock()[1..], [(4, SyncWhat::All)]);
    assert_eq!(*far.arrived.lock(), [(0, 4), (4, 4)]);
    ended(&writer).await;
}

#[tokio::test(start_paused = true)]
async fn more_than_one_segment_does_not_nor_what_was_sent_nor_what_goes_elsewhere() {
    let (writer, to, far) = set_up(16 << 20, &[100]);
    for offset in [0, 100] {
        writer.write(&to, offset, b"data").await.unwrap();
    }
    assert!(!writer.flush_durably(&to, SyncWhat::All).await);
    writer.write(&to, 200, b"sent").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(far.arrived.lock().len(), 3);
    assert!(!writer.flush_durably(&to, SyncWhat::All).await);
    let elsewhere: Arc<dyn Deliver> = Far::new(&[10]);
    writer.write(&to, 300, b"data").await.unwrap();
    assert!(!writer.flush_durably(&elsewhere, SyncWhat::All).await);
    assert!(far.synced.lock().is_empty());
    // What fails makes nothing durable.
    *far.fails_at.lock() = Some((400, FsError::Io));
    writer.write(&to, 400, b"data").await.unwrap();
    assert!(!writer.flush_durably(&to, SyncWhat::All).await);
    assert_eq!(*far.synced.lock(), [(400, SyncWhat::All)]);
    ended(&writer).await;
}

#[tokio::test(start_paused = true)]
async fn one_segment_takes_attributes_along_for_him_who_wrote_it() {
    let (writer, to, far) = set_up(16 << 20, &[100]);
    let mode = |mode| AttrChange {
        mode: Some(mode),
        ..AttrChange::default()
    };
    assert_eq!(writer.flush_setting(CALLER, mode(1)).await, None);
    writer.write(&to, 0, b"data").await.unwrap();
    // Of two who want to the other asks himself; who wants it durable comes along.
    let (first, second, durable) = tokio::join!(
        writer.flush_setting(CALLER, mode(2)),
        writer.flush_setting(CALLER, mode(3)),
        writer.flush_durably(&to, SyncWhat::All)
    );
    assert_eq!((first, second, durable), (Some(None), None, true));
    assert_eq!(*far.set.lock(), [mode(2)]);
    *far.unset.lock() = Some(Fault::NotPermitted);
    writer.write(&to, 4, b"more").await.unwrap();
    let unset = writer.flush_setting(CALLER, mode(4)).await;
    assert_eq!(unset, Some(Some(Fault::NotPermitted)));
    let mark = &mut ErrorMark::default();
    assert_eq!(writer.error_since(mark), None, "the bytes are there");
    *far.unset.lock() = None;
    // What is written over and after what was to be followed by that is no part of it.
    writer.write(&to, 8, b"more").await.unwrap();
    let (set, (), ()) = tokio::join!(
        writer.flush_setting(CALLER, mode(5)),
        async { writer.write(&to, 8, b"over").await.unwrap() },
        async { writer.write(&to, 12, b"after").await.unwrap() },
    );
    assert_eq!(set, Some(None));
    writer.flush().await;
    assert_eq!(&far.bytes.lock()[8..], b"overafter");
    assert_eq!(far.arrived.lock()[2..], [(8, 4), (8, 9)]);
    let somebody = Caller { uid: 8, gid: 7 };
    writer.write(&to, 8, b"more").await.unwrap();
    assert_eq!(writer.flush_setting(somebody, mode(9)).await, None);
    *far.fails_at.lock() = Some((12, FsError::Io));
    writer.write(&to, 12, b"lost").await.unwrap();
    assert_eq!(writer.flush_setting(CALLER, mode(6)).await, None);
    assert_eq!(*far.set.lock(), [mode(2), mode(4), mode(5), mode(6)]);
    ended(&writer).await;
}
