//! What a made-up host promises, and tells: what a test has it tell.

use super::FakeHost;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use wormhole::rpc::{Sink, SinkClosed};
use wormhole_protocol::codec::Wire;
use wormhole_protocol::*;

pub const TERM: Duration = Duration::from_secs(10);

pub struct Telling {
    given: AtomicBool,
    /// The number of the last push, and the stream it went to.
    to: Mutex<(u64, Option<mpsc::UnboundedSender<Vec<u8>>>)>,
    /// Up to where a mount said that it heard.
    pub heard: watch::Sender<u64>,
    /// What it said that it wants, all of it.
    pub wanted: Mutex<Vec<WantedName>>,
    /// The next answer is on its way so much longer; who wants to know when it has been given.
    late: Mutex<Option<(Duration, oneshot::Sender<()>)>>,
}

impl Default for Telling {
    fn default() -> Self {
        Self {
            given: AtomicBool::new(false),
            to: Mutex::default(),
            heard: watch::Sender::new(0),
            wanted: Mutex::default(),
            late: Mutex::default(),
        }
    }
}

impl Telling {
    pub fn given(&self) -> bool {
        self.given.load(SeqCst)
    }

    pub(super) fn heard(&self, through: u64, wanted: &[WantedName]) -> Reply {
        self.wanted.lock().unwrap().extend_from_slice(wanted);
        let (pushed, to) = &*self.to.lock().unwrap();
        if to.is_none() {
            return Reply::Fault(Fault::Invalid);
        }
        self.heard.send_replace(through);
        Reply::Heard { pushed: *pushed }
    }

    /// An answer was given, and is on its way.
    pub(super) async fn dawdle(&self) {
        let late = self.late.lock().unwrap().take();
        if let Some((delay, given)) = late {
            given.send(()).unwrap();
            tokio::time::sleep(delay).await;
        }
    }

    pub(super) fn is_listened_to(&self) -> bool {
        self.to.lock().unwrap().1.is_some()
    }

    /// A reply as it is when there are leases: everything is under one, once somebody listens.
    pub(super) fn grant(&self, request: &Request, reply: Reply) -> Reply {
        if self.to.lock().unwrap().1.is_none() {
            return reply;
        }
        let answer = match (request, reply) {
            (Request::Lookup { .. } | Request::Getattr { .. }, Reply::Attr(attr)) => {
                Leased::Attr(attr)
            }
            (Request::Lookup { .. }, Reply::Fault(Fault::NotFound)) => Leased::Absent,
            (_, Reply::Unchanged(attr)) => Leased::Unchanged(attr),
            (_, reply) => return reply,
        };
        Reply::Leased { answer }
    }

    pub(super) fn listing(&self, attr: Attr) -> Reply {
        if self.to.lock().unwrap().1.is_none() {
            return Reply::Listing(attr);
        }
        Reply::Leased {
            answer: Leased::Listing(attr),
        }
    }
}

impl FakeHost {
    /// From now on leases are given to who listens.
    pub fn give_leases(&self) {
        self.leases.given.store(true, SeqCst);
    }

    /// The next answer will be so late. Resolves when it has been given.
    pub fn delay_next_answer(&self, delay: Duration) -> impl Future<Output = ()> + use<> {
        let (given, is_given) = oneshot::channel();
        *self.leases.late.lock().unwrap() = Some((delay, given));
        async { is_given.await.unwrap() }
    }

    pub(super) async fn listen(&self, sink: &mut dyn Sink) -> Result<(), SinkClosed> {
        let (to, mut pushes) = mpsc::unbounded_channel();
        *self.leases.to.lock().unwrap() = (0, Some(to));
        self.leases.heard.send_replace(0);
        // No answer comes at the moment of its question.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let term_ms = TERM.as_millis() as u32;
        sink.reply(Reply::Listening { term_ms }).await?;
        while let Some(push) = pushes.recv().await {
            sink.send(push.into()).await?;
        }
        Ok(())
    }

    /// Tells the mount; the number of the push.
    pub fn tell(&self, news: News) -> u64 {
        self.tell_with(news, &[])
    }

    /// The same, with the bytes that belong to it.
    pub fn tell_with(&self, news: News, content: &[u8]) -> u64 {
        let (number, to) = &mut *self.leases.to.lock().unwrap();
        *number += 1;
        let push = Push {
            number: *number,
            news,
        };
        let mut bytes = push.to_frame().unwrap();
        bytes.extend(content);
        to.as_ref().unwrap().send(bytes).unwrap();
        *number
    }

    /// Tells of names in a directory, as they are now, and waits until that was heard.
    pub async fn tell_of(&self, dir: &str, names: &[&str]) {
        let attr_of = |path: &str| self.attr_of(path);
        let attr = attr_of(dir).unwrap();
        let names = names.iter().map(|name| {
            let path = if dir.is_empty() {
                (*name).to_owned()
            } else {
                format!("{dir}/{name}")
            };
            NameNews {
                name: Name::new(*name).unwrap(),
                attr: attr_of(&path),
                brings: false,
            }
        });
        let number = self.tell(News::Entries {
            dir: attr.id,
            attr: Some(attr),
            names: names.collect(),
        });
        self.wait_heard(number).await;
    }

    /// Waits until the mount said that it heard so much.
    pub async fn wait_heard(&self, number: u64) {
        let mut heard = self.leases.heard.subscribe();
        heard.wait_for(|heard| *heard >= number).await.unwrap();
    }
}
