//! Threads do not get heaps of their own. Alone in its program, since heaps that are there stay.
#![cfg(target_env = "gnu")]

use std::hint::black_box;
use std::sync::Barrier;

const THREADS: usize = 8;

/// How many heaps glibc has, by its own account (malloc_info(3)).
fn heaps() -> usize {
    let mut text = std::ptr::null_mut();
    let mut len = 0;
    // SAFETY: both places outlive the stream, which is closed before they are read; the text is then of `len`
    // bytes and ours to free.
    let info = unsafe {
        let stream = libc::open_memstream(&raw mut text, &raw mut len);
        assert!(!stream.is_null());
        assert_eq!(libc::malloc_info(0, stream), 0);
        assert_eq!(libc::fclose(stream), 0);
        let info = std::slice::from_raw_parts(text.cast::<u8>(), len).to_vec();
        libc::free(text.cast());
        info
    };
    String::from_utf8_lossy(&info).matches("<heap nr=").count()
}

#[test]
fn threads_share_one_heap() {
    wormhole::heap::share_one();
    let before = heaps();
    let all = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                all.wait();
                let held = black_box(vec![1_u8; 64 * 1024]);
                all.wait();
                drop(held);
            });
        }
    });
    assert_eq!(heaps(), before);
}
