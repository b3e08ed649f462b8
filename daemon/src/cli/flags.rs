//! The command line as it is typed, with its help. What it means is decided in [`super::plan`].

use super::bench::BenchFlags;
use crate::config::{Address, OwnerMode, units};
use crate::mount::beliefs::PrefetchMetadata;
use crate::mount::durability::Durability;
use clap::{ArgAction, Args, Parser, Subcommand};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  On the machine that has the files:
    wormhole host ~/photos
  On any other machine, with the ticket that printed:
    wormhole mount wh1... ~/mnt
    wormhole unmount ~/mnt

  See it work on this machine alone:
    wormhole demo

A ticket lets whoever has it mount the share: hand it on as you would a password.";

const HOST_EXAMPLES: &str = "\
Examples:
  wormhole host ~/photos
  wormhole host /srv/music /srv/films --name music --name films
  wormhole host ~/report --expires 2h --max-mounts 1
  wormhole host /srv/data --listen 0.0.0.0:7117 --advertise 203.0.113.7
  wormhole host /srv/data --json | jq -r .ticket
  wormhole host ~/work --rw              holders of the ticket can change and delete what is in it
  wormhole host ~/work --rw --ro         the same folder, and a ticket only to look at it
  sudo wormhole host /srv/home --rw --map-users

Without --rw nobody can change anything, whatever ticket they hold. A folder has two lasting
tickets, one to look and one to change; with --rw both work, and --ro says which is printed.

The ticket stays the same when the host is started again for the same folder, unless it was limited
(--expires, --max-mounts) or --new-ticket ends the old ones. Do not mount a share inside its own
folder on the same machine: reading it would ask for itself, for ever.";

const MOUNT_EXAMPLES: &str = "\
Examples:
  wormhole mount wh1... ~/mnt                       until Ctrl-C
  wormhole mount --daemon --ticket-file ~/t ~/mnt   in the background
  ssh box wormhole host --json /srv | jq -r .ticket | wormhole mount - ~/mnt
  mount -t fuse.wormhole -o l1_size=1G /etc/wormhole/ticket /mnt
  /etc/fstab:
    /etc/wormhole/ticket /mnt fuse.wormhole ro,noauto,user,_netdev,l2_size=50G 0 0

On a command line every user of the machine can read the ticket. Prefer stdin (-), --ticket-file, or
the variable WORMHOLE_TICKET.

Options behind -o, as in fstab, each like the flag of that name:
  l1_size= l2_size= cache_dir= no_l2 write_buffer= durability= ro attr_ttl= prefetch_metadata=
  timeout= owner= allow_other no_passthrough metrics= ticket_file=
  nonempty   the mount may hide files that are in the directory
  noexec     programs in the mount cannot be started
  rw         what the ticket allows, which is the default
Generic ones (noauto, nofail, _netdev, user, x-...) are accepted; mount(8) deals with them.

mount(8) finds the program as mount.fuse.wormhole or mount.wormhole (a link to wormhole in /sbin) or,
where mount.fuse3 is installed, as wormhole. It then mounts in the background, and the source is a
ticket or the path of a file that holds one.";

const UNMOUNT_EXAMPLES: &str = "\
Examples:
  wormhole unmount ~/mnt
  wormhole unmount --lazy ~/mnt     although a program still has a file open in it
  wormhole unmount --force ~/mnt    although the host is gone and programs wait for it";

const CACHE_EXAMPLES: &str = "\
Examples:
  wormhole cache stats
  wormhole cache verify --json
  wormhole cache gc --older-than 7d --l2-size 2G
  wormhole cache clear --share 3f9c...";

const WARM_EXAMPLES: &str = "\
Examples:
  wormhole warm ~/mnt/project              fetch all of it; Ctrl-C stops, what was fetched stays
  wormhole warm --check ~/mnt/project      how much of it is here? exits with 1 if not all is
  wormhole warm --json ~/mnt/film.mkv

What is here is read without the network, for as long as it is not changed on the host and there is
room for it in the disk cache (`wormhole mount --l2-size`). To have it stay, pin it.";

const PIN_EXAMPLES: &str = "\
Examples:
  wormhole pin ~/mnt/project
  wormhole status                          lists what is pinned
  wormhole unpin ~/mnt/project

All of it is fetched, and not evicted from the disk cache until it is unpinned or `wormhole cache
clear` removes everything. Pins outlive the mount: when the share is mounted again with the same
cache, what changed meanwhile is fetched. They may take seven eighths of --l2-size.";

const DRAIN_EXAMPLES: &str = "\
Examples:
  wormhole mount --daemon --durability memory --ticket-file ~/t ~/mnt
  cp -r ~/project ~/mnt && wormhole drain ~/mnt && echo it is there

Returns when the host has done all that programs were told is done, however long that takes; Ctrl-C
stops waiting, not what is waited for. Exits with 1 and says what was lost if any of it was since this
was asked last. Of a mount with --durability strict only files that are still open are to be waited
for. What `fsync` was not called for may not be on the host's disk yet.";

const WATCH_EXAMPLES: &str = "\
Examples:
  wormhole watch ~/mnt/project             until Ctrl-C
  wormhole watch --json ~/mnt/project | while read -r change; do make; done

One line for each name that was created, removed, modified (content) or got other attributes (mode, owner,
times). A rename is a removal and a creation; what was in a removed folder went with it. Of
changes in quick succession the last may be all that is told. inotify in a mount tells what programs do
through that mount; this tells what is done elsewhere, and, up to half a minute later, the rest.

With --json each line is an object: first {\"event\":\"watching\",\"directories\":N,\"names\":N}, when everything
from then on will be told, then {\"event\":\"created\",\"path\":\"/mnt/a\",\"kind\":\"file\"}; kinds are file,
directory, symlink and other. Bytes in paths that are no text are written \\xNN.";

const DEMO_EXAMPLES: &str = "\
Examples:
  wormhole demo                 a generated tree of 256 MiB
  wormhole demo --size 1G
  wormhole demo ~/photos        a folder of yours, which is only read";

/// Host a folder, mount it from afar.
#[derive(Debug, Parser)]
#[command(name = "wormhole", version, about, after_help = EXAMPLES, max_term_width = 100)]
pub(super) struct Flags {
    /// Say more on stderr; twice for everything. RUST_LOG overrides it
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(super) verbose: u8,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Share folders with whoever has the ticket
    Host(HostFlags),
    /// Mount a shared folder
    Mount(MountFlags),
    /// Unmount, and wait until it is gone
    #[command(alias = "umount")]
    Unmount(UnmountFlags),
    /// Show the mounts and hosts on this machine
    Status(StatusFlags),
    /// Fetch a file or folder of a mount into its disk cache ahead of need
    Warm(WarmFlags),
    /// Keep a file or folder of a mount in its disk cache, whatever else is read
    Pin(PinFlags),
    /// Let a file or folder that was pinned leave the disk cache again
    Unpin(UnpinFlags),
    /// Wait until all that programs wrote to a mount is on the host
    Drain(DrainFlags),
    /// Tell what changes in a file or folder of a mount, wherever it is changed
    Watch(WatchFlags),
    /// Look after the disk cache
    Cache(CacheFlags),
    /// Host, mount, read and verify a folder on this machine alone
    Demo(DemoFlags),
    /// Measure Wormhole and others over emulated links
    Bench(Box<BenchFlags>),
    /// Measure what the bare transport carries; for `wormhole bench`
    #[command(hide = true)]
    BenchLink(BenchLinkFlags),
    /// The background half of `mount --daemon`; not for people
    #[command(hide = true)]
    MountDaemon(MountDaemonFlags),
}

#[derive(Debug, Args)]
#[command(after_help = HOST_EXAMPLES)]
pub(super) struct HostFlags {
    /// Folders to share, each with a ticket of its own
    #[arg(required = true, value_name = "FOLDER")]
    pub(super) folders: Vec<PathBuf>,
    /// Name that mounts see, once per folder in the same order [default: the folder's own name]
    #[arg(long = "name", value_name = "NAME")]
    pub(super) names: Vec<OsString>,
    /// Listen here only [default: every address, port 7117 or the one used last time]
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub(super) listen: Option<Address>,
    /// Address to put into the ticket, instead of those of this machine; repeatable, at most 8
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub(super) advertise: Vec<Address>,
    /// Let nobody in with this ticket after this time (2h, 7d)
    #[arg(long, value_name = "TIME", value_parser = units::parse_time)]
    pub(super) expires: Option<Duration>,
    /// Let at most this many mounts in at once with this ticket
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_mounts: Option<u32>,
    /// Let holders of read-write tickets change and delete files, and print such a ticket
    #[arg(long)]
    pub(super) rw: bool,
    /// Print a ticket that is only to look. Without --rw every ticket is only that, and this changes nothing
    #[arg(long)]
    pub(super) ro: bool,
    /// Make new files belong to the user (by number) who makes them on the mounting machine; needs --rw
    /// and root [default: all belongs to whoever runs this]
    #[arg(long)]
    pub(super) map_users: bool,
    /// Let device nodes be made; needs --rw, and root or CAP_MKNOD
    #[arg(long)]
    pub(super) allow_devices: bool,
    /// End every ticket given out before for these folders, of either kind
    #[arg(long)]
    pub(super) new_ticket: bool,
    /// Print one JSON object on one line when ready, instead of text
    #[arg(long)]
    pub(super) json: bool,
    /// Serve metrics for Prometheus at http://ADDR:PORT/metrics
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) metrics: Option<SocketAddr>,
    /// Keep the host's identity and tickets here [default: ~/.local/state/wormhole]
    #[arg(long, value_name = "DIR")]
    pub(super) state_dir: Option<PathBuf>,
}

#[derive(Default, Args)]
#[command(
    after_help = MOUNT_EXAMPLES,
    override_usage = "wormhole mount [OPTIONS] TICKET MOUNTPOINT\n       wormhole mount [OPTIONS] --ticket-file FILE MOUNTPOINT\n       WORMHOLE_TICKET=... wormhole mount [OPTIONS] MOUNTPOINT"
)]
pub(super) struct MountFlags {
    /// The ticket that `wormhole host` printed (- reads it from stdin), and an empty directory
    #[arg(required = true, num_args = 1..=2, value_names = ["TICKET", "MOUNTPOINT"])]
    pub(super) places: Vec<OsString>,
    /// Read the ticket from a file
    #[arg(long, value_name = "FILE")]
    pub(super) ticket_file: Option<PathBuf>,
    /// Size of the cache in memory [default: 256M]
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    pub(super) l1_size: Option<u64>,
    /// Size of the cache on disk [default: 10G]
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    pub(super) l2_size: Option<u64>,
    /// Directory of the cache on disk [default: ~/.cache/wormhole]
    #[arg(long, value_name = "DIR")]
    pub(super) cache_dir: Option<PathBuf>,
    /// Keep nothing on disk
    #[arg(long, conflicts_with_all = ["l2_size", "cache_dir"])]
    pub(super) no_l2: bool,
    /// Memory for what was written and is not on the host yet; who writes more waits [default: 64M]
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    pub(super) write_buffer: Option<u64>,
    /// When programs are told that what they changed is done: when the host has applied it, or when it is in
    /// memory here and on its way, as on a local disk (`wormhole drain` waits for it). `fsync` always means the
    /// host's disk [default: strict]
    #[arg(long, value_name = "WHEN")]
    pub(super) durability: Option<Durability>,
    /// Only read, whatever the ticket allows
    #[arg(long)]
    pub(super) ro: bool,
    /// How long names and attributes are believed that the host does not promise to tell of; what is in use is
    /// renewed before. 0 asks each time, and takes no promise [default: 1s, or ten round trips if that is longer]
    #[arg(long, value_name = "TIME", value_parser = units::parse_time)]
    pub(super) attr_ttl: Option<Duration>,
    /// What to fetch of names and attributes before anybody asks: nothing, what is beneath a directory that is
    /// listed or around two that are used (up to 100,000 entries), or the whole share from the start (up to
    /// 1,000,000). Unless off, what was listed is also remembered in the disk cache, for the next mount
    /// [default: lazy]
    #[arg(long, value_name = "WHAT")]
    pub(super) prefetch_metadata: Option<PrefetchMetadata>,
    /// How long programs wait for a lost host before they get an error [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = units::parse_time)]
    pub(super) timeout: Option<Duration>,
    /// Show files as yours, or with the owners' numbers of the host [default: me]
    #[arg(long, value_name = "WHO")]
    pub(super) owner: Option<OwnerMode>,
    /// Let other users of this machine in
    #[arg(long)]
    pub(super) allow_other: bool,
    /// Read every file through this program. Else, as root, files that are wholly in the cache on disk are
    /// handed to the kernel, which reads them as fast as any on this machine
    #[arg(long)]
    pub(super) no_passthrough: bool,
    /// Go on in the background once the mount answers
    #[arg(long)]
    pub(super) daemon: bool,
    /// Serve metrics for Prometheus at http://ADDR:PORT/metrics
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) metrics: Option<SocketAddr>,
    /// Options as in fstab, separated by commas (see below)
    #[arg(short, value_name = "OPT[,OPT...]")]
    pub(super) options: Vec<String>,
}

/// A ticket may stand among the places, so they are not shown.
impl std::fmt::Debug for MountFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MountFlags").finish_non_exhaustive()
    }
}

#[derive(Debug, Args)]
#[command(after_help = UNMOUNT_EXAMPLES)]
pub(super) struct UnmountFlags {
    /// Where the share is mounted
    pub(super) mountpoint: PathBuf,
    /// Break off what waits for the host, then as --lazy
    #[arg(long, conflicts_with = "lazy")]
    pub(super) force: bool,
    /// Take it away at once; programs keep the files they have open until they close them
    #[arg(long)]
    pub(super) lazy: bool,
}

#[derive(Debug, Args)]
pub(super) struct StatusFlags {
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = WARM_EXAMPLES)]
pub(super) struct WarmFlags {
    /// A file or folder in a mount, or a mount point
    pub(super) path: PathBuf,
    /// Fetch nothing; say how much is here, and exit with 1 if not all of it is
    #[arg(long)]
    pub(super) check: bool,
    /// Print one JSON object at the end
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = PIN_EXAMPLES)]
pub(super) struct PinFlags {
    /// A file or folder in a mount, or a mount point
    pub(super) path: PathBuf,
    /// Print one JSON object at the end
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct UnpinFlags {
    /// What was pinned; it need not be there any more
    pub(super) path: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = DRAIN_EXAMPLES)]
pub(super) struct DrainFlags {
    /// A mount point, or anything in a mount
    pub(super) path: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = WATCH_EXAMPLES)]
pub(super) struct WatchFlags {
    /// A file or folder in a mount, or a mount point
    pub(super) path: PathBuf,
    /// Print one JSON object for each change
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = CACHE_EXAMPLES)]
pub(super) struct CacheFlags {
    #[command(subcommand)]
    pub(super) action: CacheAction,
}

#[derive(Debug, Subcommand)]
pub(super) enum CacheAction {
    /// Show what the cache holds
    Stats(CacheShareFlags),
    /// Check every byte against its checksum, and drop what does not match
    Verify(CacheShareFlags),
    /// Remove what the cache holds, and what is pinned in it
    Clear(CacheShareFlags),
    /// Remove what has not been used for long, or does not fit, and is not pinned
    Gc(CacheGcFlags),
}

#[derive(Debug, Args)]
pub(super) struct CachePlace {
    /// Directory of the cache [default: ~/.cache/wormhole]
    #[arg(long, value_name = "DIR")]
    pub(super) cache_dir: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct CacheShareFlags {
    #[command(flatten)]
    pub(super) place: CachePlace,
    /// Only what belongs to this share (its id, as `wormhole status` shows it)
    #[arg(long, value_name = "ID", value_parser = super::plan::share_id)]
    pub(super) share: Option<wormhole_protocol::ShareId>,
}

#[derive(Debug, Args)]
pub(super) struct CacheGcFlags {
    #[command(flatten)]
    pub(super) place: CachePlace,
    /// Remove what has not been used for this long (7d)
    #[arg(long, value_name = "TIME", value_parser = units::parse_time)]
    pub(super) older_than: Option<Duration>,
    /// Then remove the least used until this much is left, all shares together [default: 10G]
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    pub(super) l2_size: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = DEMO_EXAMPLES)]
pub(super) struct DemoFlags {
    /// Folder to share; a generated tree if left out
    #[arg(conflicts_with = "size")]
    pub(super) folder: Option<PathBuf>,
    /// Size of the generated tree [default: 1G]
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    pub(super) size: Option<u64>,
    /// Print one JSON object at the end
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct BenchLinkFlags {
    #[command(subcommand)]
    pub(super) action: BenchLinkAction,
}

#[derive(Debug, Subcommand)]
pub(super) enum BenchLinkAction {
    /// Stream bytes to whoever has the key, until Ctrl-C; prints address and key as JSON
    Serve(BenchLinkServeFlags),
    /// Receive bytes, or wait for answers, and print what was measured as JSON
    Fetch(BenchLinkFetchFlags),
}

#[derive(Debug, Args)]
pub(super) struct BenchLinkServeFlags {
    /// Listen here; port 0 takes any
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) listen: SocketAddr,
}

#[derive(Debug, Args)]
pub(super) struct BenchLinkFetchFlags {
    /// Where `serve` listens
    pub(super) address: SocketAddr,
    /// The key that `serve` printed
    #[arg(long)]
    pub(super) key: String,
    /// Receive for so long [default: 10]
    #[arg(long, value_name = "S", conflicts_with = "exchanges", value_parser = clap::value_parser!(u32).range(1..=600))]
    pub(super) seconds: Option<u32>,
    /// Between two entries of the timeline [default: 100ms]
    #[arg(long, value_name = "TIME", conflicts_with = "exchanges", value_parser = units::parse_time)]
    pub(super) interval: Option<Duration>,
    /// Instead ask for 4 KiB so many times, with idle gaps, and print each latency
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) exchanges: Option<u32>,
}

#[derive(Debug, Args)]
pub(super) struct MountDaemonFlags {
    /// For whoever reads the process list; the plan comes through stdin
    pub(super) mountpoint: OsString,
}
