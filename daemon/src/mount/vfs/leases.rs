//! What the host promised to speak of: begun, ended, shown.

use super::Vfs;
use crate::mount::lease::Leases;
use crate::mount::listen::Listener;
use crate::mount::notify::Forget;
use crate::mount::stats::LeaseStats;
use std::sync::Arc;
use wormhole_protocol::{Attr, FileId, NameNews};

impl Vfs {
    /// Begins to listen to what the host tells of changes, so that it gives leases. Not where nothing is
    /// to be believed.
    pub fn listen(&self) {
        if self.beliefs.believes_nothing() {
            return;
        }
        let listener = Listener {
            remote: self.remote.clone(),
            leases: self.leases.clone(),
            beliefs: self.beliefs.clone(),
            early: self.early.clone(),
            inodes: self.inodes.clone(),
            fetcher: self.fetcher.clone(),
            bulk: self.bulk.clone(),
            wanted: self.wanted.clone(),
            notify: self.notify.clone(),
            stats: self.lease_stats.clone(),
            taps: self.taps.clone(),
        };
        *self.listening.lock() = Some(listener.start());
    }

    /// Listens no more, so that the connection can be ended.
    pub async fn stop_listening(&self) {
        let listening = self.listening.lock().take();
        if let Some(listening) = listening {
            listening.end().await;
        }
    }

    /// Takes what the host told of a directory; says what the kernel must forget.
    pub fn take_news(&self, dir: FileId, attr: Option<&Attr>, names: &[NameNews]) -> Forget {
        self.beliefs.take_news(&self.inodes, dir, attr, names)
    }

    /// What is counted of leases.
    pub fn lease_stats(&self) -> &LeaseStats {
        &self.lease_stats
    }

    /// What this mount has leases on.
    pub fn leases(&self) -> &Arc<Leases> {
        &self.leases
    }
}
