//! Which replies a request may be answered with. A host that answers otherwise breaks the protocol.

use wormhole_protocol::{AfterWrite, Change, Leased, Reply, Request};

/// Whether a reply is of the kind its request is answered with.
pub(super) fn answers(request: &Request, reply: &Reply) -> bool {
    matches!(
        (request, reply),
        (
            Request::Lookup { .. } | Request::Getattr { .. },
            Reply::Attr(_)
                | Reply::Leased {
                    answer: Leased::Attr(_),
                    ..
                }
        ) | (
            Request::Lookup { .. },
            Reply::Leased {
                answer: Leased::Absent,
                ..
            }
        ) | (
            Request::List { .. },
            Reply::Leased {
                answer: Leased::Listing(_),
                ..
            }
        ) | (
            Request::List { known: Some(_), .. },
            Reply::Leased {
                answer: Leased::Unchanged(_),
                ..
            }
        ) | (Request::Listen, Reply::Listening { .. })
            | (Request::Heard { .. }, Reply::Heard { .. })
            | (Request::Tree { .. }, Reply::Tree)
            | (Request::Reserve { .. }, Reply::Reserved(_))
            | (Request::Readlink { .. }, Reply::Link(_))
            | (Request::List { .. }, Reply::Listing(_))
            | (Request::List { known: Some(_), .. }, Reply::Unchanged(_))
            | (Request::Read { .. }, Reply::Data { .. })
            | (Request::ReadMany { .. }, Reply::Many(_))
            | (Request::Vouch { .. }, Reply::Vouched(_))
            | (Request::Revalidate { .. }, Reply::Revalidated(_))
            | (Request::StatFs, Reply::StatFs(_))
            | (Request::GetXattr { .. }, Reply::Xattr(_))
            | (Request::ListXattr { .. }, Reply::XattrNames(_))
            | (Request::Seek { .. }, Reply::Offset(_))
            | (Request::TestLock { .. }, Reply::Conflict(_))
            | (Request::Lock { .. }, Reply::Attr(_))
            | (
                Request::Unlock { .. } | Request::UnlockAll { .. },
                Reply::Done
            )
    ) || matches!(request, Request::Change { change, .. } if fits(change, reply))
}

/// Whether a reply is of the kind a change is answered with.
fn fits(change: &Change, reply: &Reply) -> bool {
    matches!(
        (change, reply),
        (
            Change::Open { .. }
                | Change::Write { .. }
                | Change::Allocate { .. }
                | Change::SetAttr { .. }
                | Change::SetXattr { .. }
                | Change::RemoveXattr { .. },
            Reply::Attr(_)
        ) | (
            Change::Create { .. }
                | Change::MakeNode { .. }
                | Change::Symlink { .. }
                | Change::Link { .. },
            Reply::Made { .. }
        ) | (
            Change::Unlink { .. } | Change::RemoveDir { .. },
            Reply::Removed { .. }
        ) | (
            Change::Close { .. } | Change::Sync { .. } | Change::SyncDir { .. },
            Reply::Done
        ) | (Change::Rename { .. }, Reply::Renamed { .. })
            | (
                Change::Write {
                    after: AfterWrite { set: Some(_), .. },
                    ..
                },
                Reply::Unset { .. }
            )
            | (Change::NameReserved(_), Reply::Named(_))
            | (Change::MakeDir { .. }, Reply::MadeDir(_))
            | (Change::Append { .. }, Reply::Appended { .. })
            | (Change::Copy { .. }, Reply::Copied { .. })
    )
}
