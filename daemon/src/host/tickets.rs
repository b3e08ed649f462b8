//! The tickets of one share: issued, found by their id, expired, revoked.
//!
//! A [`Book`] is plain data; `state` keeps it on disk. Issued tickets are shared with the sessions they
//! let in, so that revoking one ends what it allowed.
//!
//! A ticket is to look, or to look and change; what its holder may do in the end is up to the share's
//! rules as well. Each share has at most one *default* ticket of either kind, without limits: the one
//! `wormhole host` prints again after a restart, so that mounts which are there go on. Expired tickets
//! are remembered for a while: their holders are told "expired" rather than "unknown".

use super::limits::{EXPIRED_KEPT_SECS, TICKETS_MAX};
use super::rules::AccessWord;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use wormhole_protocol::limits::TICKET_SECRET_BYTES;
use wormhole_protocol::{Access, Secret, TicketId};

/// What a ticket allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TicketLimits {
    /// Until when, in seconds since 1970; for ever if `None`.
    pub expires: Option<u64>,
    /// How many mounts at once; any number if `None`.
    pub max_mounts: Option<u32>,
    /// What its holders may do, as far as the share's rules allow it.
    pub access: Access,
}

impl TicketLimits {
    /// Whether it lets any number of mounts in, for ever. Access is no limit in this sense: there is a
    /// lasting ticket of either kind.
    pub fn is_unlimited(&self) -> bool {
        self.expires.is_none() && self.max_mounts.is_none()
    }
}

/// A ticket as the host keeps it.
#[derive(Debug)]
pub(super) struct Ticket {
    /// Its name on the wire.
    pub(super) id: TicketId,
    /// Its secret.
    pub(super) secret: Secret,
    /// What it allows.
    pub(super) limits: TicketLimits,
    created: u64,
    default: bool,
    revoked: AtomicBool,
}

impl Ticket {
    /// What its holders may do at the most.
    pub(super) fn access(&self) -> Access {
        self.limits.access
    }

    /// Whether it lets anyone in at `now`.
    pub(super) fn good_at(&self, now: u64) -> bool {
        !self.revoked.load(Ordering::Relaxed) && !self.expired_at(now)
    }

    /// Whether its time is over at `now`.
    pub(super) fn expired_at(&self, now: u64) -> bool {
        self.limits.expires.is_some_and(|expires| now >= expires)
    }
}

/// A ticket at one moment, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TicketSnapshot {
    /// Its id, in hex; not secret.
    pub id: String,
    /// When it was issued, seconds since 1970.
    pub created: u64,
    /// When it ends, seconds since 1970.
    pub expires: Option<u64>,
    /// Whether that has passed.
    pub expired: bool,
    /// How many mounts it allows at once.
    pub max_mounts: Option<u32>,
    /// What its holders may do at the most.
    pub access: AccessWord,
    /// Whether it is the share's default ticket of its kind.
    pub default: bool,
}

/// A ticket on disk.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TicketRecord {
    secret: String,
    created: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_mounts: Option<u32>,
    /// Missing where it was written before there were others: read-only.
    #[serde(default, skip_serializing_if = "AccessWord::is_read_only")]
    access: AccessWord,
    #[serde(default)]
    default: bool,
}

impl TicketRecord {
    /// Whether it is more than a version that only reads would understand.
    pub(super) fn writes(&self) -> bool {
        !self.access.is_read_only()
    }
}

/// All tickets of a share are taken by ones that still hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the share has {TICKETS_MAX} valid tickets, which is the limit: revoke them first")]
pub(super) struct Full;

/// The tickets of one share.
#[derive(Debug, Clone, Default)]
pub(super) struct Book {
    tickets: Vec<Arc<Ticket>>,
}

impl Book {
    /// The default ticket for `access`, if there is one.
    pub(super) fn default_ticket(&self, access: Access) -> Option<&Arc<Ticket>> {
        let mut tickets = self.tickets.iter();
        tickets.find(|t| t.default && t.access() == access)
    }

    /// A new ticket with `secret`; the default one of its kind if it has no limits.
    pub(super) fn issue(
        &mut self,
        secret: Secret,
        limits: TicketLimits,
        now: u64,
    ) -> Result<Arc<Ticket>, Full> {
        self.prune(now);
        if self.tickets.len() >= TICKETS_MAX {
            let oldest_expired = (0..self.tickets.len())
                .filter(|i| self.tickets[*i].expired_at(now))
                .min_by_key(|i| self.tickets[*i].limits.expires);
            self.tickets.remove(oldest_expired.ok_or(Full)?);
        }
        let default = limits.is_unlimited() && self.default_ticket(limits.access).is_none();
        let ticket = Arc::new(Ticket {
            id: secret.id(),
            secret,
            limits,
            created: now,
            default,
            revoked: AtomicBool::new(false),
        });
        self.tickets.push(ticket.clone());
        Ok(ticket)
    }

    /// The ticket named `id`, expired or not.
    pub(super) fn find(&self, id: TicketId) -> Option<&Arc<Ticket>> {
        self.tickets.iter().find(|t| t.id == id)
    }

    /// A book without tickets; those of this one hold no longer once [`Book::revoke`] is called.
    pub(super) fn emptied() -> Self {
        Self::default()
    }

    /// Ends every ticket, and with them the sessions they let in.
    pub(super) fn revoke(&self) {
        for ticket in &self.tickets {
            ticket.revoked.store(true, Ordering::Relaxed);
        }
    }

    /// What can be shown.
    pub(super) fn snapshot(&self, now: u64) -> Vec<TicketSnapshot> {
        let shown = |ticket: &Arc<Ticket>| TicketSnapshot {
            id: ticket.id.to_string(),
            created: ticket.created,
            expires: ticket.limits.expires,
            expired: ticket.expired_at(now),
            max_mounts: ticket.limits.max_mounts,
            access: ticket.access().into(),
            default: ticket.default,
        };
        self.tickets.iter().map(shown).collect()
    }

    /// As it stands on disk.
    pub(super) fn records(&self) -> Vec<TicketRecord> {
        let record = |ticket: &Arc<Ticket>| TicketRecord {
            secret: hex(ticket.secret.expose()),
            created: ticket.created,
            expires: ticket.limits.expires,
            max_mounts: ticket.limits.max_mounts,
            access: ticket.access().into(),
            default: ticket.default,
        };
        self.tickets.iter().map(record).collect()
    }

    /// From disk; `None` if a record is no ticket or there are too many.
    pub(super) fn from_records(records: &[TicketRecord]) -> Option<Self> {
        if records.len() > TICKETS_MAX {
            return None;
        }
        let ticket = |record: &TicketRecord| {
            let secret = Secret::from_bytes(unhex::<TICKET_SECRET_BYTES>(&record.secret)?);
            Some(Arc::new(Ticket {
                id: secret.id(),
                secret,
                limits: TicketLimits {
                    expires: record.expires,
                    max_mounts: record.max_mounts,
                    access: record.access.into(),
                },
                created: record.created,
                default: record.default,
                revoked: AtomicBool::new(false),
            }))
        };
        let tickets = records.iter().map(ticket).collect::<Option<_>>()?;
        Some(Self { tickets })
    }

    fn prune(&mut self, now: u64) {
        self.tickets.retain(|ticket| {
            let kept_until = |expires: u64| expires.saturating_add(EXPIRED_KEPT_SECS);
            ticket.limits.expires.is_none_or(|e| now < kept_until(e))
        });
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The `N` bytes behind `2 N` hexadecimal digits.
pub(super) fn unhex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let digits = digits.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |d: u8| {
            char::from(d)
                .to_digit(16)
                .and_then(|d| u8::try_from(d).ok())
        };
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(n: usize) -> Secret {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        Secret::from_bytes(bytes)
    }

    fn until(expires: u64) -> TicketLimits {
        TicketLimits {
            expires: Some(expires),
            ..TicketLimits::default()
        }
    }

    fn writing() -> TicketLimits {
        TicketLimits {
            access: Access::ReadWrite,
            ..TicketLimits::default()
        }
    }

    #[test]
    fn expired_tickets_are_remembered_for_a_while() {
        let mut book = Book::default();
        let ticket = book.issue(secret(1), until(100), 50).unwrap();
        assert!(ticket.good_at(99) && !ticket.good_at(100));
        book.issue(secret(2), until(u64::MAX), 100 + EXPIRED_KEPT_SECS - 1)
            .unwrap();
        assert!(book.find(secret(1).id()).is_some());
        book.issue(secret(3), until(u64::MAX), 100 + EXPIRED_KEPT_SECS)
            .unwrap();
        assert!(book.find(secret(1).id()).is_none());
        assert_eq!(book.tickets.len(), 2);
    }

    #[test]
    fn a_full_book_forgets_expired_tickets_but_never_good_ones() {
        let mut book = Book::default();
        for n in 0..TICKETS_MAX {
            book.issue(secret(n), until(if n == 7 { 10 } else { 1000 }), 5)
                .unwrap();
        }
        assert_eq!(
            book.issue(secret(9999), until(1000), 9).unwrap_err(),
            Full,
            "nothing has expired yet"
        );
        book.issue(secret(9999), until(1000), 10).unwrap();
        assert_eq!(book.tickets.len(), TICKETS_MAX);
        assert!(book.find(secret(7).id()).is_none());
        assert!(book.find(secret(0).id()).is_some());
    }

    #[test]
    fn one_default_ticket_for_each_access() {
        let mut book = Book::default();
        let free = TicketLimits::default();
        assert!(book.issue(secret(1), free, 0).unwrap().default);
        assert!(!book.issue(secret(2), free, 0).unwrap().default);
        assert!(book.issue(secret(3), writing(), 0).unwrap().default);
        assert!(!book.issue(secret(4), writing(), 0).unwrap().default);
        let default = |access| book.default_ticket(access).unwrap().secret.clone();
        assert_eq!(default(Access::Read), secret(1));
        assert_eq!(default(Access::ReadWrite), secret(3));
    }

    #[test]
    fn a_record_without_access_is_of_a_ticket_to_look() {
        let text = format!(r#"{{"secret":"{}","created":1}}"#, "ab".repeat(16));
        let record: TicketRecord = serde_json::from_str(&text).unwrap();
        let book = Book::from_records(&[record]).unwrap();
        assert_eq!(book.tickets[0].access(), Access::Read);
        let kept = serde_json::to_string(&book.records()).unwrap();
        assert!(!kept.contains("access"), "earlier versions read it: {kept}");
        let wrong = text.replace("}", r#","access":"all"}"#);
        assert!(serde_json::from_str::<TicketRecord>(&wrong).is_err());
    }

    #[test]
    fn records_come_back_and_broken_ones_do_not() {
        let mut book = Book::default();
        book.issue(secret(1), TicketLimits::default(), 3).unwrap();
        book.issue(secret(2), until(9), 4).unwrap();
        book.issue(secret(3), writing(), 4).unwrap();
        let records = book.records();
        let back = Book::from_records(&records).unwrap();
        assert_eq!(back.tickets[2].access(), Access::ReadWrite);
        assert_eq!(back.snapshot(5), book.snapshot(5));
        for broken in [
            "",
            "00",
            &"0g".repeat(16),
            &"é".repeat(16),
            &"00".repeat(17),
        ] {
            let mut records = records.clone();
            broken.clone_into(&mut records[1].secret);
            assert!(Book::from_records(&records).is_none(), "{broken}");
        }
        assert!(Book::from_records(&vec![records[0].clone(); TICKETS_MAX + 1]).is_none());
    }

    #[test]
    fn nothing_shows_a_secret() {
        let mut book = Book::default();
        let ticket = book.issue(secret(0xabcdef), until(9), 1).unwrap();
        let digits = hex(&secret(0xabcdef).expose()[..3]);
        let shown = format!("{ticket:?} {book:?} {:?}", book.snapshot(2));
        assert!(!shown.contains(&digits), "{shown}");
        assert!(!shown.contains("239, 205, 171"), "{shown}");
    }
}
