//! The page: whole, self-contained, and deaf to what peers call themselves.

use super::*;
use crate::report::sample;

/// Elements that need no end.
const VOID: [&str; 2] = ["meta", "!doctype"];

/// Checks that every element that begins also ends, in order; gives the names of all.
fn elements(page: &str) -> Vec<String> {
    let mut open: Vec<String> = Vec::new();
    let mut all = Vec::new();
    // What stands between the tags of a style sheet is no markup.
    let (before, rest) = page.split_once("<style>").expect("a style sheet");
    let (_, after) = rest.split_once("</style>").expect("its end");
    for piece in format!("{before}{after}").split('<').skip(1) {
        let (tag, _) = piece.split_once('>').expect("a tag ends");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "in order");
            continue;
        }
        let name = tag
            .split([' ', '/', '\n'])
            .next()
            .expect("a name")
            .to_owned();
        all.push(name.clone());
        if !tag.ends_with('/') && !VOID.contains(&name.as_str()) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
    all
}

#[test]
fn the_page_is_whole_and_loads_nothing() {
    let page = render(&sample::runs());
    let elements = elements(&page);
    for needed in [
        "svg",
        "table",
        "caption",
        "figure",
        "figcaption",
        "nav",
        "main",
        "h2",
    ] {
        assert!(elements.iter().any(|name| name == needed), "{needed}");
    }
    for forbidden in ["script", "img", "link", "iframe", "object", "use", "image"] {
        assert!(
            !elements.iter().any(|name| name == forbidden),
            "{forbidden}"
        );
    }
    for reference in [
        "http://",
        "https://",
        "url(",
        "@import",
        "src=",
        "javascript:",
    ] {
        assert!(!page.contains(reference), "{reference}");
    }
    assert!(page.contains("default-src 'none'"));
    assert!(page.len() < 4 << 20, "{} bytes", page.len());
}

#[test]
fn pictures_have_names_and_only_themed_colours() {
    let page = render(&sample::runs());
    let pictures = page.matches("<svg ").count();
    assert!(pictures > 40, "{pictures}");
    assert_eq!(page.matches("role=\"img\" aria-label=").count(), pictures);
    assert_eq!(page.matches("<title>").count(), pictures + 1);
    assert!(!page.contains("\"#0102"), "a stand-in colour is left");
    assert!(!page.contains("NaN"), "a coordinate is no number");
}

#[test]
fn everything_a_reader_needs_is_there() {
    let runs = sample::runs();
    let page = render(&runs);
    for entry in &runs[0].results {
        assert!(page.contains(&entry.workload) && page.contains(&entry.peer));
    }
    for text in [
        "Wormhole is ahead",
        "Wormhole is behind",
        "timed out at 37 %",
        "this kernel has no NFS client",
        "apt-get install nfs-common",
        "wormhole bench --profile wan-poor",
        "AMD EPYC",
        "Self-test measured",
        "Raw QUIC",
        "load average 1.4",
        "close: in the local cache only",
        "p95",
    ] {
        assert!(page.contains(text), "{text}");
    }
    for workload in crate::workload::WORKLOADS {
        assert!(page.contains(workload.about), "{}", workload.about);
    }
}

#[test]
fn hostile_text_stays_text() {
    let hostile = "</title></svg><script>x</script><img src=x onerror=\"y\" '>&\u{202e}\u{0}";
    let mut run = sample::wan_poor();
    run.profile = hostile.into();
    run.warnings = vec![hostile.into()];
    run.command = vec![hostile.into()];
    run.environment.cpu = hostile.into();
    run.link.backend = hostile.into();
    run.raw[0].protocol = hostile.into();
    for entry in run
        .results
        .iter_mut()
        .filter(|entry| entry.peer == "rclone")
    {
        entry.peer = hostile.into();
        entry.reason = Some(hostile.into());
    }
    for entry in run.results.iter_mut().filter(|e| e.workload == "walk-cold") {
        entry.workload = hostile.into();
        entry.unit = hostile.into();
    }
    for peer in &mut run.peers {
        for text in [&mut peer.version, &mut peer.durability] {
            *text = hostile.into();
        }
        peer.settings = vec![hostile.into()];
        peer.reason = Some(hostile.into());
        peer.install = Some(hostile.into());
    }
    let elements = elements(&render(&[run]));
    assert!(
        !elements
            .iter()
            .any(|name| name == "script" || name == "img")
    );
}

#[test]
fn odd_runs_make_a_page_too() {
    let mut empty = sample::wan_poor();
    empty.results.clear();
    empty.raw.clear();
    empty.peers.clear();
    let mut odd = sample::wan_poor();
    for (at, entry) in odd.results.iter_mut().enumerate() {
        entry.samples = vec![[0.0, 1e-300, 1e300, -1.0][at % 4]; at % 3];
        sample::summarise(entry);
        entry.timeline = vec![(0.0, 0.0); at % 3];
    }
    odd.link.rate_mbit = 0.0;
    odd.link.rtt_ms = 0.0;
    for runs in [vec![], vec![empty], vec![odd]] {
        let page = render(&runs);
        elements(&page);
        assert!(!page.contains("NaN") && !page.contains("inf\""));
    }
}

/// To look at it: `WORMHOLE_BENCH_PAGE=/tmp/page.html cargo test -p wormhole-benches page_to_look_at`.
#[test]
fn page_to_look_at() {
    let page = render(&sample::runs());
    assert!(page.ends_with("</html>\n"));
    if let Some(path) = std::env::var_os("WORMHOLE_BENCH_PAGE") {
        std::fs::write(path, page).expect("written");
    }
}
