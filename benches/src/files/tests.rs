//! Tests of the files that are read: that they are there, cold, and the same for the same seed.

use super::content::Writer;
use super::*;
use crate::tree::Random;
use crate::workload::tests::tiny;
use std::collections::HashMap;

fn content(data: Data, seed: u64, bytes: usize) -> Vec<u8> {
    Writer::new(data).next(bytes, &mut Random(seed)).to_vec()
}

/// About what an LZ compressor with a window of 64 KiB and no entropy coding makes of it: a byte and a
/// bit for a literal, three bytes for a repetition of four bytes or more.
fn compressed_bytes(content: &[u8]) -> usize {
    let mut seen: HashMap<&[u8], usize> = HashMap::new();
    let (mut at, mut bits) = (0, 0);
    while at + 4 <= content.len() {
        let earlier = seen.insert(&content[at..at + 4], at);
        let repeated = earlier.filter(|e| at - e < 1 << 16).map_or(0, |earlier| {
            let pairs = content[at..].iter().zip(&content[earlier..]);
            pairs.take_while(|(a, b)| a == b).count()
        });
        (at, bits) = match repeated {
            0 => (at + 1, bits + 9),
            repeated => (at + repeated, bits + 24),
        };
    }
    bits / 8
}

#[test]
fn text_compresses_and_random_bytes_do_not() {
    let bytes = 1 << 20;
    let random = compressed_bytes(&content(Data::Random, 1, bytes));
    assert!(random > bytes, "{random}");
    // With the entropy coding they do on top, gzip -6 and zstd -3 make a quarter of it.
    let text = compressed_bytes(&content(Data::Text, 1, bytes));
    assert!(text * 5 < bytes * 3, "{text}");
}

#[test]
fn content_follows_from_its_seed() {
    for data in [Data::Random, Data::Text] {
        let one = content(data, 1, 1001);
        assert_eq!(one.len(), 1001);
        assert_eq!(one, content(data, 1, 1001));
        assert_ne!(one, content(data, 2, 1001));
    }
}

fn all_files(folder: &Path, into: &mut HashMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("listed") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all_files(&path, into);
        } else {
            let content = fs::read(&path).expect("read");
            into.insert(path, content);
        }
    }
}

fn made(round: u32, seed: u64) -> HashMap<PathBuf, Vec<u8>> {
    let share = tempfile::tempdir().expect("a folder");
    let make = || {
        Ground::make(
            share.path(),
            round,
            &Family::ALL,
            &tiny(),
            Data::Random,
            seed,
        )
    };
    let ground = make().expect("files");
    let again = make().expect_err("they are there already");
    assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    let mut files = HashMap::new();
    all_files(&ground.folder, &mut files);
    let files = files
        .into_iter()
        .map(|(path, content)| {
            let name = path
                .strip_prefix(&ground.folder)
                .expect("a name")
                .to_owned();
            (name, content)
        })
        .collect();
    ground.remove().expect("removed");
    assert_eq!(fs::read_dir(share.path()).expect("listed").count(), 0);
    files
}

#[test]
fn a_round_is_the_same_each_time_and_unlike_any_other() {
    let files = made(0, 1);
    assert_eq!(files, made(0, 1));
    for other in [made(1, 1), made(0, 2)] {
        assert_eq!(files.len(), other.len());
        for (name, content) in &files {
            let long_enough = content.len() > 16;
            assert!(
                !long_enough || *content != other[name],
                "{}",
                name.display()
            );
        }
    }
    let bytes: usize = files.values().map(Vec::len).sum();
    assert_eq!(bytes as u64, Ground::bytes(&Family::ALL, &tiny()));
    let mut contents: Vec<&Vec<u8>> = files.values().filter(|c| !c.is_empty()).collect();
    let all = contents.len();
    contents.sort();
    contents.dedup();
    assert_eq!(contents.len(), all, "no two files are the same");
}
