//! One peer's turn in one round: served, mounted, measured, unmounted.

use super::ledger::Ledger;
use super::{Progress, flame, memory, mounting};
use crate::files::Ground;
use crate::order::RunOrder;
use crate::pages;
use crate::peer::{Mounted, Peer, PeerError, Served, Site};
use crate::record::{Mode, State};
use crate::sizes::{Sizes, plan};
use crate::usage;
use crate::worker::run_job;
use crate::workload::{Family, Job, Outcome};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// No mount is given less, however short the run: there would be nothing to measure on.
const MOUNT_TIME_MIN: Duration = Duration::from_secs(10);

/// Mounts that are timed over all rounds, if there is time.
fn mounts(mode: Mode) -> u32 {
    match mode {
        Mode::Quick => 3,
        Mode::Standard | Mode::Full => 10,
    }
}

pub(super) struct Turn<'a> {
    pub(super) order: &'a RunOrder,
    pub(super) sizes: &'a Sizes,
    pub(super) site: &'a Site,
    pub(super) share: &'a Path,
    pub(super) round: u32,
    /// For all that this turn writes.
    pub(super) folder: PathBuf,
    /// When it should be over.
    pub(super) end: Instant,
    /// When the whole run should be.
    pub(super) run_end: Instant,
}

impl Turn<'_> {
    /// Takes it. What goes wrong is a result.
    pub(super) fn take(&self, peer: &dyn Peer, progress: &mut dyn Progress, ledger: &mut Ledger) {
        let families = &self.order.families;
        let fail = |families: &[Family], reason: &PeerError, ledger: &mut Ledger| {
            let state = match reason {
                PeerError::Late(_) => State::Timeout,
                _ => State::Failed,
            };
            for family in families {
                ledger.family(peer.name(), *family, state, &reason.to_string());
            }
        };
        self.say(progress, peer, "serving");
        let mut served = match self.serve(peer) {
            Ok(served) => served,
            Err(error) => return fail(families, &error, ledger),
        };
        let mounted = match self.mounts(peer, served.as_mut(), progress, ledger) {
            Ok(mounted) => mounted,
            Err(error) => return fail(families, &error, ledger),
        };
        self.measure(peer, served.as_mut(), mounted, progress, ledger);
    }

    fn say(&self, progress: &mut dyn Progress, peer: &dyn Peer, what: &str) {
        let step = format!(
            "round {} of {}: {}: {what}",
            self.round + 1,
            self.sizes.rounds,
            peer.name()
        );
        progress.step(
            &step,
            self.run_end.saturating_duration_since(Instant::now()),
        );
    }

    fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    fn serve(&self, peer: &dyn Peer) -> Result<Box<dyn Served>, PeerError> {
        let folder = self.folder.join("server");
        fs::create_dir_all(&folder)?;
        peer.serve(self.site, self.share, &folder)
    }

    /// Mounts, several times if that is to be measured; the last one stays.
    fn mounts(
        &self,
        peer: &dyn Peer,
        served: &mut dyn Served,
        progress: &mut dyn Progress,
        ledger: &mut Ledger,
    ) -> Result<Box<dyn Mounted>, PeerError> {
        let timed = self.order.families.contains(&Family::Mount);
        let later = self
            .order
            .families
            .iter()
            .copied()
            .filter(|f| *f != Family::Mount);
        let share = plan::next_deadline(self.left(), self.sizes, Family::Mount, later);
        let until = Instant::now() + share;
        let wanted = if timed {
            mounts(self.order.mode).div_ceil(self.sizes.rounds)
        } else {
            1
        };
        let mut took = Vec::new();
        loop {
            self.say(progress, peer, "mount");
            pages::drop_all(self.share);
            let folder = self.folder.join(format!("mount-{}", took.len()));
            let before = usage::of(&served.processes());
            let (mounted, time) =
                mounting::mount(served, self.site, &folder, share.max(MOUNT_TIME_MIN))?;
            took.push(time.as_secs_f64() * 1e3);
            if timed {
                let server = before.again().since(&before);
                let client = usage::of(&mounted.processes()).since(&usage::Snapshot::default());
                ledger.cost(peer.name(), Family::Mount, client, server);
            }
            progress.fraction(took.len() as f64 / f64::from(wanted));
            // Another one like the longest so far must fit in.
            let longest = took.iter().copied().fold(0.0, f64::max);
            let next = Instant::now() + Duration::from_secs_f64(longest / 1e3);
            if took.len() >= wanted as usize || next >= until {
                if timed {
                    self.enter_mounts(peer, took, ledger);
                }
                return Ok(mounted);
            }
            mounted.unmount()?;
        }
    }

    fn enter_mounts(&self, peer: &dyn Peer, samples: Vec<f64>, ledger: &mut Ledger) {
        for workload in Family::Mount.workloads() {
            let samples = samples.clone();
            ledger.add(
                peer.name(),
                Outcome {
                    workload,
                    samples,
                    timeline: Vec::new(),
                    state: State::Ok,
                    reason: None,
                },
            );
        }
    }

    /// Every other family, on one mount; on a new one after one that hung.
    fn measure(
        &self,
        peer: &dyn Peer,
        served: &mut dyn Served,
        mounted: Box<dyn Mounted>,
        progress: &mut dyn Progress,
        ledger: &mut Ledger,
    ) {
        let families = self.order.families.iter().copied();
        let (doable, other): (Vec<Family>, Vec<Family>) = families
            .filter(|family| *family != Family::Mount)
            .partition(|family| peer.writes() || !family.writes());
        for family in other {
            let reason = format!("mounts of {} are read-only", peer.name());
            ledger.family(peer.name(), family, State::Unavailable, &reason);
        }
        let mut mounted = Some(mounted);
        for (at, &family) in doable.iter().enumerate() {
            let present = match mounted.take() {
                Some(present) => Ok(present),
                None => self.remount(served, at),
            };
            let mut present = match present {
                Ok(present) => present,
                Err(error) => {
                    let reason = format!("its mount hung and was killed; anew: {error}");
                    ledger.family(peer.name(), family, State::Failed, &reason);
                    continue;
                }
            };
            let later = doable[at + 1..].iter().copied();
            let deadline = plan::next_deadline(self.left(), self.sizes, family, later);
            self.say(progress, peer, family.name());
            let on = &mut *present;
            let hung = self.family(peer, family, deadline, served, on, progress, ledger);
            // A mount that was killed is dropped, which unmounts it.
            mounted = (!hung).then_some(present);
        }
        if let Some(Err(error)) = mounted.map(|mounted| mounted.unmount()) {
            tracing::warn!("{}: {error}", peer.name());
        }
        self.remove_written(peer);
    }

    /// Where a family that writes has its files, beneath the shared folder or a mount of it.
    fn written(&self, root: &Path, peer: &dyn Peer, family: Family) -> PathBuf {
        let (round, family) = (self.round, family.name());
        root.join(format!("written-{}-{round}-{family}", peer.name()))
    }

    /// Removes what was written, so that the disk need not hold the files of all peers.
    fn remove_written(&self, peer: &dyn Peer) {
        let families = self.order.families.iter().filter(|f| f.writes());
        for family in families {
            // Not there if nothing was written; what stays goes with the rest at the end.
            let _ = fs::remove_dir_all(self.written(self.share, peer, *family));
        }
    }

    /// A mount in place of one that hung, with caches of its own.
    fn remount(&self, served: &mut dyn Served, at: usize) -> Result<Box<dyn Mounted>, PeerError> {
        let folder = self.folder.join(format!("again-{at}"));
        let (mounted, _) = mounting::mount(served, self.site, &folder, MOUNT_TIME_MIN)?;
        Ok(mounted)
    }

    /// Does one family; whether the mount is lost.
    #[expect(
        clippy::too_many_arguments,
        reason = "a job, its mount, and who is told of both"
    )]
    fn family(
        &self,
        peer: &dyn Peer,
        family: Family,
        deadline: Duration,
        served: &dyn Served,
        mounted: &mut dyn Mounted,
        progress: &mut dyn Progress,
        ledger: &mut Ledger,
    ) -> bool {
        pages::drop_all(self.share);
        memory::make_ready(self.sizes.moved_bytes(family));
        let root = mounted.root().to_path_buf();
        let folder = match family.writes() {
            true => self.written(&root, peer, family),
            false => Ground::folder(&root, self.round, family),
        };
        let origin = Ground::folder(self.share, self.round, family);
        let job = Job {
            family,
            folder,
            origin,
            sizes: self.sizes.clone(),
            data: self.order.data,
            seed: self.order.link.seed.wrapping_add(u64::from(self.round)),
            deadline,
        };
        let (client, server) = (mounted.processes(), served.processes());
        usage::forget_peaks(&client);
        usage::forget_peaks(&server);
        let before = (usage::of(&client), usage::of(&server));
        let flame = self.flame(peer, family, &client, &server);
        let mut worker = Command::new(&self.order.program);
        worker.args(["bench", "worker"]);
        let done = run_job(
            &mut worker,
            &self.site.mount,
            &job,
            |fraction| progress.fraction(fraction),
            || mounted.kill(),
        );
        if let Some(flame) = flame {
            flame.finish();
        }
        let spent = (
            before.0.again().since(&before.0),
            before.1.again().since(&before.1),
        );
        ledger.cost(peer.name(), family, spent.0, spent.1);
        for outcome in done.outcomes {
            ledger.add(peer.name(), outcome);
        }
        done.hung
    }

    /// Records Wormhole's own processes, if that was asked for.
    fn flame(
        &self,
        peer: &dyn Peer,
        family: Family,
        client: &[u32],
        server: &[u32],
    ) -> Option<flame::Recording> {
        let folder = self.order.flamegraphs.as_deref()?;
        if peer.name() != "wormhole" || self.round > 0 {
            return None;
        }
        let processes: Vec<u32> = client.iter().chain(server).copied().collect();
        let started = flame::Recording::start(folder, &self.folder, family.name(), &processes);
        started
            .inspect_err(|error| tracing::warn!("no flame graph of {}: {error}", family.name()))
            .ok()
    }
}
