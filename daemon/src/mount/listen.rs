//! Listening to what the host tells of changes: taken in order, told to the kernel, acknowledged.
//!
//! One task for a mount. On each session it asks to be told, takes what comes and says how far it has heard; so
//! that writers elsewhere, who wait for that, wait no longer than they must, it says so at once, a few times in
//! parallel if need be. The same question renews the term of all leases, and is asked for that alone
//! while there is nothing to be told (`lease`).
//!
//! What this mount believed under leases of an earlier session is not believed any more when the next begins, nor
//! by the kernel: the host has forgotten whom it had promised what.
//!
//! Bytes of small files that were opened lately come behind the push that tells of them (`wanted`). They are claimed
//! before that is applied, so that whoever opens the file then waits for them; what was told is
//! acknowledged before they have come.
//!
//! Not here: what is believed (`beliefs`), how the kernel is told (`notify`).

use super::beliefs::Beliefs;
use super::bulk::Bulk;
use super::early::Early;
use super::fetch::{Fetcher, Whole};
use super::inodes::Inodes;
use super::lease::Leases;
use super::notify::{Forget, Notify};
use super::stats::{LeaseStats, add};
use super::wanted::WantedFiles;
use super::watch::Taps;
use crate::rpc::{CallError, Payload, Remote};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::time::{Instant, sleep, sleep_until};
use wormhole_protocol::codec::{Wire, body_len};
use wormhole_protocol::limits::{FRAME_PREFIX_BYTES, PUSH_BYTES_MAX};
use wormhole_protocol::{Fault, FileId, News, Push, Reply, Request};

/// Acknowledgements under way; what is heard meanwhile is said with the next.
const ACKS_MAX: usize = 4;
/// Between two tries to listen on a session that goes on.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two questions that only renew the term, at the least this part of it.
const RENEWALS_PER_TERM: u32 = 20;
/// Inodes the kernel is told of at a time.
const INODES_AT_A_TIME: usize = 4096;

/// What the task works on.
pub struct Listener {
    /// Who tells.
    pub remote: Arc<dyn Remote>,
    /// Leases.
    pub leases: Arc<Leases>,
    /// What is believed.
    pub beliefs: Arc<Beliefs>,
    /// What was made before the host knew.
    pub early: Arc<Early>,
    /// What the kernel knows.
    pub inodes: Arc<Inodes>,
    /// Takes the bytes that come.
    pub fetcher: Arc<Fetcher>,
    /// Counts them.
    pub bulk: Arc<Bulk>,
    /// Of which files they are to come.
    pub wanted: Arc<WantedFiles>,
    /// Who tells the kernel, once there is one.
    pub notify: Arc<OnceLock<Arc<dyn Notify>>>,
    /// What is counted.
    pub stats: Arc<LeaseStats>,
    /// Who hears of it besides.
    pub taps: Taps,
}

/// Why listening ended.
enum End {
    /// The host tells nobody: all is believed for the short term.
    Deaf(Fault),
    /// The session is over, or must be listened to anew.
    Over,
}

/// The task; it ends when this is dropped.
pub struct Listening(tokio::task::JoinHandle<()>);

impl Listening {
    /// Ends the task, and with it its hold on the session.
    pub async fn end(mut self) {
        self.0.abort();
        let _ = (&mut self.0).await;
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listener {
    /// Starts the task. Must be called within the runtime.
    pub fn start(self) -> Listening {
        Listening(tokio::spawn(self.run()))
    }

    async fn run(self) {
        let own = self.remote.clone();
        loop {
            let session = self.remote.session().await.unwrap_or_else(|| own.clone());
            let ended = self.listen(&*session).await;
            self.leases.lost();
            self.beliefs.nobody_listens();
            if let End::Deaf(fault) = ended {
                tracing::info!(?fault, "the host gives no leases");
                session.closed().await;
                continue;
            }
            tokio::select! {
                () = session.closed() => {}
                () = sleep(PAUSE) => {}
            }
        }
    }

    /// Listens on a session to its end.
    async fn listen(&self, session: &dyn Remote) -> End {
        // Until the host knows of what was made under the leases there were, it is to keep others out.
        tokio::select! {
            () = self.early.share_all() => {}
            () = session.closed() => return End::Over,
        }
        let sent = Instant::now();
        self.leases.begin(sent);
        self.wanted.begin();
        self.taps.tell(None);
        self.forget_all().await;
        let answer = match session.call(Request::Listen).await {
            Ok(answer) => answer,
            Err(CallError::Fault(fault)) => return End::Deaf(fault),
            Err(_) => return End::Over,
        };
        let Reply::Listening { term_ms } = answer.reply else {
            return End::Over;
        };
        let term = Duration::from_millis(term_ms.into());
        self.leases.listening(sent, term, Instant::now());
        self.beliefs.revalidate(&self.inodes);
        let error = tokio::select! {
            error = self.take(answer.payload) => error,
            error = self.acknowledge(session, term) => error,
            () = session.closed() => CallError::Link,
        };
        tracing::debug!("the host is no longer listened to: {error}");
        End::Over
    }

    /// Takes what is told. What came together is told to the kernel together.
    async fn take(&self, payload: Payload) -> CallError {
        let mut payload = BufReader::with_capacity(PUSH_BYTES_MAX, payload);
        let mut last = 0;
        loop {
            let mut batch = Batch::default();
            loop {
                let push = match next_push(&mut payload).await {
                    Ok(push) => push,
                    Err(error) => return error,
                };
                if push.number <= last {
                    return CallError::Violation;
                }
                last = push.number;
                add(&self.stats.pushes, 1);
                batch.content = match self.claim(&push) {
                    Some(content) => content,
                    None => return CallError::Violation,
                };
                self.apply(push.news, &mut batch).await;
                // What follows is no push.
                if !batch.content.is_empty() {
                    break;
                }
                if batch.forget.attributes.len() >= INODES_AT_A_TIME || !is_next_there(&payload) {
                    break;
                }
            }
            if !batch.over.is_empty() {
                let entries = self.inodes.entries_of(&batch.over);
                batch.forget.attributes.extend(entries);
            }
            self.tell(batch.forget).await;
            self.leases.applied(last, Instant::now());
            for (len, whole) in batch.content {
                if let Err(error) = self.bring(&mut payload, len, whole).await {
                    return error;
                }
            }
        }
    }

    /// Claims the files whose bytes follow a push, with their lengths; none if that cannot be.
    fn claim(&self, push: &Push) -> Option<Vec<(usize, Option<Whole>)>> {
        let mut lens = push.content_lens()?.into_iter();
        let News::Entries { dir, names, .. } = &push.news else {
            return Some(Vec::new());
        };
        let mut content = Vec::new();
        for news in names {
            let brought = match news.attr {
                Some(attr) if news.brings => Some((attr, lens.next()?)),
                _ => None,
            };
            let bytes = brought.map(|(attr, _)| attr.size);
            self.wanted.told(*dir, &news.name, bytes, &self.bulk.stats);
            if let Some((attr, len)) = brought {
                let size = u32::try_from(len).ok()?;
                let whole = self.fetcher.claim_whole(attr.id, attr.version, size);
                content.push((len, whole));
            }
        }
        Some(content)
    }

    /// Takes the bytes of a file that follow; if they are here already, or under way, nobody needs them.
    async fn bring(
        &self,
        payload: &mut BufReader<Payload>,
        len: usize,
        whole: Option<Whole>,
    ) -> Result<(), CallError> {
        let mut bytes = vec![0; len];
        read_exact(payload, &mut bytes).await?;
        if let Some(whole) = whole {
            self.fetcher.bring(whole, bytes.into());
        }
        Ok(())
    }

    async fn apply(&self, news: News, batch: &mut Batch) {
        let now = Instant::now();
        let is_all = matches!(news, News::AllOver);
        let told = match &news {
            News::Entries { dir, .. } | News::Over { dir } => Some(*dir),
            News::Shared { .. } => None,
            News::AllOver => None,
        };
        match news {
            News::Entries { dir, attr, names } => {
                add(&self.stats.names, names.len() as u64);
                let forget = self
                    .beliefs
                    .take_news(&self.inodes, dir, attr.as_ref(), &names);
                batch.forget.add(forget);
            }
            News::Over { dir } => {
                add(&self.stats.ended, 1);
                self.leases.over(dir, now);
                self.early.share(dir).await;
                batch.over.insert(dir);
                batch.forget.names = true;
            }
            News::Shared { dir } => self.early.share(dir).await,
            News::AllOver => {
                add(&self.stats.ended, 1);
                self.leases.all_over(now);
                self.early.share_all().await;
                self.forget_all().await;
            }
        }
        if told.is_some() || is_all {
            self.taps.tell(told);
        }
    }

    /// The kernel forgets whatever it believed under leases.
    async fn forget_all(&self) {
        self.beliefs.kernel_forgot_names();
        let all = self.inodes.numbers_in_use();
        for some in all.chunks(INODES_AT_A_TIME) {
            let forget = Forget {
                names: true,
                attributes: some.to_vec(),
                ..Forget::default()
            };
            self.tell(forget).await;
        }
    }

    async fn tell(&self, forget: Forget) {
        if forget.is_empty() {
            return;
        }
        if forget.names {
            add(&self.stats.names_forgotten, 1);
        }
        if let Some(notify) = self.notify.get() {
            notify.forget(forget).await;
        }
    }

    /// Says how far this mount has heard, and renews the term.
    async fn acknowledge(&self, session: &dyn Remote, term: Duration) -> CallError {
        let mut changes = self.leases.changes();
        let mut under_way = FuturesUnordered::new();
        let (mut said, mut last) = (0, Instant::now());
        loop {
            let now = Instant::now();
            let heard = self.leases.applied_number();
            let wanted = self.leases.next_heartbeat(now).map(|due| {
                let spaced = last + term / RENEWALS_PER_TERM;
                if self.leases.is_wanted() {
                    due
                } else {
                    due.max(spaced)
                }
            });
            let due = wanted.filter(|_| under_way.is_empty());
            if under_way.len() < ACKS_MAX && (heard > said || due.is_some_and(|due| due <= now)) {
                self.leases.asking();
                (said, last) = (heard, now);
                add(&self.stats.heard, 1);
                under_way.push(self.say(session, heard));
                continue;
            }
            tokio::select! {
                Some(result) = under_way.next(), if !under_way.is_empty() => {
                    if let Err(error) = result {
                        return error;
                    }
                }
                _ = changes.changed() => {}
                () = sleep_until(due.unwrap_or(now)), if due.is_some() => {}
            }
        }
    }

    async fn say(&self, session: &dyn Remote, through: u64) -> Result<(), CallError> {
        let sent = Instant::now();
        let wanted = self.wanted.take(session.path());
        let question = Request::Heard { through, wanted };
        match session.call(question).await?.reply {
            Reply::Heard { pushed } => {
                self.leases.heard(sent, pushed, Instant::now());
                Ok(())
            }
            _ => Err(CallError::Violation),
        }
    }
}

/// Pushes that came together.
#[derive(Default)]
struct Batch {
    forget: Forget,
    /// Directories whose leases are over.
    over: HashSet<FileId>,
    /// Files whose bytes follow the last one.
    content: Vec<(usize, Option<Whole>)>,
}

/// Whether a whole push has arrived already.
fn is_next_there(payload: &BufReader<Payload>) -> bool {
    let arrived = payload.buffer();
    let Some(prefix) = arrived.first_chunk::<FRAME_PREFIX_BYTES>() else {
        return false;
    };
    body_len::<Push>(*prefix).is_ok_and(|len| arrived.len() >= FRAME_PREFIX_BYTES + len)
}

async fn next_push(payload: &mut BufReader<Payload>) -> Result<Push, CallError> {
    let mut prefix = [0; FRAME_PREFIX_BYTES];
    read_exact(payload, &mut prefix).await?;
    let len = body_len::<Push>(prefix).map_err(|_| CallError::Violation)?;
    let mut body = vec![0; len];
    read_exact(payload, &mut body).await?;
    Push::from_body(&body).map_err(|_| CallError::Violation)
}

async fn read_exact(payload: &mut BufReader<Payload>, buf: &mut [u8]) -> Result<(), CallError> {
    match payload.read_exact(buf).await {
        Ok(_) => Ok(()),
        Err(error) => Err(CallError::from_io(&error)),
    }
}
