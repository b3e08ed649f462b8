//! How it was measured: what a reader needs in order to believe a number, or to doubt it.

use super::escaped;
use crate::record::Run;
use crate::workload::WORKLOADS;
use std::fmt::Write;

const RULES: [&str; 7] = [
    "Every peer runs on the same emulated link, between two network namespaces of one machine; what is \
     asked of the link is measured before, and stands above as the self-test.",
    "Peers take turns, round by round, so that a slow minute of the machine hits all of them.",
    "“Cold” and “never touched” mean files that nobody has read or listed on a fresh mount with an empty \
     cache. “Warm” means read three times before.",
    "Before each measurement the memory it will fill is touched and freed: a virtual machine may get memory \
     only at first touch, which would slow down whoever moves most bytes.",
    "Throughput stands beside what a plain transfer got on the same link, over TCP and over Wormhole's own \
     QUIC, so that the share of the link is honest.",
    "A peer that does not finish in time is stopped; how far it came is its result.",
    "Ahead and behind are said only where the 99 % confidence interval of the ratio of medians \
     (percentile bootstrap, widened by 5 %) leaves no doubt and the difference is more than a twentieth; \
     with fewer than three samples, only where the worst of one is better than the best of the other.",
];

pub(super) fn write(page: &mut String, runs: &[Run]) {
    page.push_str("<section class=\"run\" id=\"method\" aria-labelledby=\"methodh\">\n<h2 id=\"methodh\">How it was measured</h2>\n<ul>\n");
    for rule in RULES {
        let _ = writeln!(page, "<li>{rule}</li>");
    }
    let kept = runs.iter().any(|run| !run.environment.drops_page_cache);
    page.push_str(if kept {
        "<li>The page cache could not be dropped (that needs root), so cold reads of the host may come from its memory.</li>\n"
    } else {
        "<li>Both page caches were dropped before whatever is called cold.</li>\n"
    });
    page.push_str("</ul>\n<details open><summary>What each workload does</summary>\n<dl style=\"margin-top:1rem\">\n");
    let measured = |name: &str| {
        runs.iter()
            .any(|run| run.results.iter().any(|entry| entry.workload == name))
    };
    for workload in WORKLOADS.iter().filter(|known| measured(known.name)) {
        let _ = writeln!(
            page,
            "<dt>{}</dt><dd>{} <span class=\"faint\">({})</span></dd>",
            escaped(workload.name),
            escaped(workload.about),
            escaped(workload.unit)
        );
    }
    page.push_str("</dl></details>\n");
    page.push_str("<p class=\"note\" style=\"margin-top:1.5rem\">What a write that returned has made safe differs between peers: see “What is safe when” of each. The raw samples are in the JSON report.</p>\n</section>\n");
}
