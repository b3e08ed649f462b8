//! One sample of everything said about leases, for [`super`].

use super::{Sample, attr, file_id, name, node};
use wormhole_protocol::{
    Attr, FileKind, KnownListing, Leased, ListingDigest, NameNews, News, Push, Reply, Request,
    Verdict, WantedName,
};

/// Every request about leases.
pub(crate) fn requests() -> Vec<Sample<Request>> {
    vec![
        ("listen", Request::Listen),
        ("heard", heard()),
        (
            "revalidate",
            Request::Revalidate {
                listings: vec![known_listing()],
            },
        ),
    ]
}

/// Every reply that has to do with leases.
pub(crate) fn replies() -> Vec<Sample<Reply>> {
    let dir = attr(FileKind::Directory);
    let answers = [
        Leased::Attr(attr(FileKind::File)),
        Leased::Absent,
        Leased::Listing(dir),
        Leased::Unchanged(dir),
    ];
    let mut replies: Vec<_> = answers
        .into_iter()
        .map(|answer| (leased_label(&answer), answer))
        .map(|(label, answer)| (label, Reply::Leased { answer }))
        .collect();
    replies.push(("listening", Reply::Listening { term_ms: 10_000 }));
    replies.push(("heard", Reply::Heard { pushed: 1 << 40 }));
    let leased = true;
    let holds = Verdict::Holds { attr: dir, leased };
    let verdicts = vec![holds, Verdict::Changed];
    replies.push(("revalidated", Reply::Revalidated(verdicts)));
    replies
}

fn heard() -> Request {
    let wanted = WantedName {
        dir: file_id(),
        name: name(b"notes.txt"),
        bytes_max: 65_536,
    };
    Request::Heard {
        through: 70_000,
        wanted: vec![wanted],
    }
}

fn known_listing() -> KnownListing {
    KnownListing {
        dir: node(b"src", Some(file_id())),
        digest: ListingDigest(*b"0123456789abcdef0123456789abcdef"),
    }
}

fn leased_label(answer: &Leased) -> &'static str {
    match answer {
        Leased::Attr(_) => "leased: attr",
        Leased::Absent => "leased: absent",
        Leased::Listing(_) => "leased: listing",
        Leased::Unchanged(_) => "leased: unchanged",
    }
}

/// Every push.
pub(crate) fn pushes() -> Vec<Sample<Push>> {
    let dir = file_id();
    let names = vec![
        NameNews {
            name: name(b"new \xff"),
            attr: Some(attr(FileKind::File)),
            brings: false,
        },
        NameNews {
            name: name(b"gone"),
            attr: None,
            brings: false,
        },
    ];
    let brought = NameNews {
        name: name(b"notes.txt"),
        attr: Some(Attr {
            size: 40_000,
            ..attr(FileKind::File)
        }),
        brings: true,
    };
    let news = [
        News::Entries {
            dir,
            attr: Some(attr(FileKind::Directory)),
            names,
        },
        News::Entries {
            dir,
            attr: None,
            names: vec![],
        },
        News::Over { dir },
        News::AllOver,
        News::Entries {
            dir,
            attr: None,
            names: vec![brought],
        },
        News::Shared { dir },
    ];
    let numbered = (70_000u64..).zip(news);
    numbered
        .map(|(number, news)| (push_label(&news), Push { number, news }))
        .collect()
}

fn push_label(news: &News) -> &'static str {
    match news {
        News::Entries { names, .. } if names.is_empty() => "push: entries, none",
        News::Entries { names, .. } if names[0].brings => "push: entries, with bytes",
        News::Entries { .. } => "push: entries",
        News::Over { .. } => "push: over",
        News::AllOver => "push: all over",
        News::Shared { .. } => "push: shared",
    }
}
