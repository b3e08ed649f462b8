//! Trees as bytes: what is written is read, and whatever is read ends, within its bounds.

#[expect(dead_code, reason = "shared with the tests of frames")]
#[path = "support/mutate.rs"]
mod mutate;
#[expect(dead_code, reason = "shared with the tests of frames")]
#[path = "support/samples.rs"]
mod samples;

use mutate::Random;
use std::io::Write;
use wormhole_protocol::codec::Wire;
use wormhole_protocol::limits::TREE_WINDOW_LOG;
use wormhole_protocol::{
    Entry, FileKind, Name, RelPath, TreeDecoder, TreeEncoder, TreeError, TreeFrame,
};

fn directory(path: &str, names: std::ops::Range<usize>, last: bool) -> TreeFrame {
    TreeFrame::Directory {
        path: RelPath::new(path).expect("valid"),
        attr: samples::attr(FileKind::Directory),
        leased: true,
        entries: entries(names),
        last,
    }
}

fn entries(names: std::ops::Range<usize>) -> Vec<Entry> {
    names
        .map(|i| Entry {
            name: Name::new(format!("file {i}")).expect("valid"),
            attr: samples::attr(FileKind::File),
        })
        .collect()
}

fn more(names: std::ops::Range<usize>, last: bool) -> TreeFrame {
    TreeFrame::More {
        entries: entries(names),
        last,
    }
}

fn tree() -> Vec<TreeFrame> {
    let mut frames = vec![directory("", 0..256, false), more(256..300, true)];
    frames.extend((0..40).map(|i| directory(&format!("dir/{i}"), 0..i, true)));
    frames.push(TreeFrame::End { whole: true });
    frames
}

fn bytes_of(frames: &[TreeFrame], flush_each: usize) -> Vec<u8> {
    let mut encoder = TreeEncoder::open().expect("valid");
    let mut bytes = Vec::new();
    for (i, frame) in frames.iter().enumerate() {
        encoder.push(frame).expect("valid");
        if i % flush_each == 0 {
            bytes.extend(encoder.flush().expect("valid"));
        }
    }
    bytes.extend(encoder.finish().expect("valid"));
    bytes
}

/// All frames, from pieces of so many bytes.
fn read(bytes: &[u8], piece: usize, most: usize) -> Result<(Vec<TreeFrame>, bool), TreeError> {
    let mut decoder = TreeDecoder::open(most)?;
    let mut frames = Vec::new();
    for mut piece in bytes.chunks(piece) {
        while let Some(frame) = decoder.next(&mut piece)? {
            frames.push(frame);
        }
        assert!(piece.is_empty());
    }
    Ok((frames, decoder.is_at_end()))
}

#[test]
fn what_is_written_is_read_however_it_is_cut() {
    let frames = tree();
    for flush_each in [1, 7, 1000] {
        let bytes = bytes_of(&frames, flush_each);
        for piece in [1, 2, 3, 1000, bytes.len()] {
            assert_eq!(read(&bytes, piece, 2000), Ok((frames.clone(), true)));
        }
    }
}

#[test]
fn what_was_flushed_can_be_read_at_once() {
    let mut encoder = TreeEncoder::open().expect("valid");
    let mut decoder = TreeDecoder::open(2000).expect("valid");
    for frame in tree() {
        encoder.push(&frame).expect("valid");
        assert!(encoder.plain_bytes() > 0);
        let bytes = encoder.flush().expect("valid");
        assert_eq!(decoder.next(&mut bytes.as_slice()), Ok(Some(frame)));
    }
}

#[test]
fn a_tree_that_was_cut_has_no_end() {
    let bytes = bytes_of(&tree(), 1);
    for cut in (0..bytes.len() - 1).step_by(11) {
        let (_, ended) = read(&bytes[..cut], 4096, 2000).expect("valid");
        assert!(!ended || cut > bytes.len() - 8, "cut at {cut}");
    }
}

#[test]
fn more_entries_or_directories_than_were_asked_for_are_refused() {
    let bytes = bytes_of(&tree(), 1000);
    let count: usize = tree().iter().map(TreeFrame::entries_len).sum();
    assert!(read(&bytes, 4096, count).is_ok());
    assert_eq!(read(&bytes, 4096, count - 1), Err(TreeError::TooMuch));
    // Empty directories for ever.
    let empty = vec![directory("d", 0..0, true); 1000];
    let bytes = bytes_of(&empty, 1000);
    assert_eq!(read(&bytes, 4096, 100), Err(TreeError::TooMuch));
}

#[test]
fn directories_out_of_order_are_refused() {
    let end = || TreeFrame::End { whole: true };
    for frames in [
        vec![more(0..1, true)],
        vec![directory("", 0..1, true), more(1..2, true)],
        vec![end(), directory("", 0..1, true)],
        vec![end(), end()],
    ] {
        let bytes = bytes_of(&frames, 1);
        assert_eq!(read(&bytes, 4096, 100), Err(TreeError::Order), "{frames:?}");
    }
}

/// What could not be read to its end is given up, and the next begins.
#[test]
fn a_directory_may_be_broken_off() {
    let frames = vec![
        directory("", 0..1, false),
        directory("d", 0..1, false),
        TreeFrame::End { whole: false },
    ];
    let bytes = bytes_of(&frames, 1);
    assert_eq!(read(&bytes, 4096, 100), Ok((frames, true)));
}

fn compressed(plain: &[u8], window_log: u32) -> Vec<u8> {
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 3).expect("valid");
    let window = zstd::stream::raw::CParameter::WindowLog(window_log);
    zstd.set_parameter(window).expect("valid");
    zstd.write_all(plain).expect("valid");
    zstd.finish().expect("valid")
}

#[test]
fn a_bomb_is_given_up_at_its_first_frame() {
    // A gigabyte of zeros: frames of no bytes.
    let zeros = compressed(&vec![0; 64 << 20], TREE_WINDOW_LOG);
    assert!(zeros.len() < 16 * 1024);
    assert!(matches!(read(&zeros, 4096, 1000), Err(TreeError::Frame(_))));
    // One frame that claims to be too long, or is no frame.
    for len in [300 * 1024, u32::MAX, 1 << 31, 100_000] {
        let plain = [&len.to_le_bytes()[..], &vec![7; 200_000]].concat();
        let bytes = compressed(&plain, TREE_WINDOW_LOG);
        assert!(matches!(read(&bytes, 4096, 1000), Err(TreeError::Frame(_))));
    }
}

#[test]
fn a_window_that_takes_too_much_memory_is_refused() {
    let frame = TreeFrame::End { whole: true }.to_frame().expect("valid");
    // Without a size, zstd declares the window it was told.
    let wide = compressed(&frame, TREE_WINDOW_LOG + 4);
    assert_eq!(read(&wide, 4096, 100), Err(TreeError::Compression));
    assert!(read(&compressed(&frame, TREE_WINDOW_LOG), 4096, 100).is_ok());
}

#[test]
fn what_follows_the_end_of_the_stream_is_refused() {
    let bytes = bytes_of(&tree(), 1);
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    for junk in [&[0][..], &skippable, &bytes] {
        let long = [&bytes, junk].concat();
        assert_eq!(read(&long, 4096, 2000), Err(TreeError::Trailing));
    }
    let before = [&skippable, bytes.as_slice()].concat();
    assert_eq!(read(&before, 4096, 2000), Err(TreeError::Trailing));
}

#[test]
fn damage_is_survived() {
    let good = bytes_of(&tree(), 3);
    let mut random = Random(11);
    for _ in 0..20_000 {
        let mut bad = good.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(bad.len());
            bad[at] ^= 1 << random.below(8);
        }
        bad.truncate(random.below(bad.len()) + 1);
        if let Ok((frames, _)) = read(&bad, 4096, 1000) {
            let entries: usize = frames.iter().map(TreeFrame::entries_len).sum();
            assert!(entries <= 1000);
        }
    }
}
