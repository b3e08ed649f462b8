//! The flags of `wormhole bench`, as typed. What they mean is decided in [`super::plan`].

use clap::{Args, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  sudo wormhole bench --profile wan-poor                 some minutes; every peer that is installed
  sudo wormhole bench --profile lan,wan-good --quick     under two minutes each
  sudo wormhole bench --rtt 80ms --rate 50mbit --loss 0.5% --html report.html
  sudo wormhole bench --profile wan-good --only first-byte,seq-read --peers wormhole,sshfs
  sudo wormhole bench --profile wan-good --save-baseline before
  sudo wormhole bench --profile wan-good --baseline before --fail-if-slower 50%
  sudo wormhole bench shell --profile wan-poor           try it by hand
  wormhole bench compare before.json after.json
  wormhole bench history

Profiles (latency is the added round trip; rate and loss hold in each direction):
  none, lan (1 ms, 1 Gbit/s), wan-good (50 ms, 100 Mbit/s), wan-poor (150 ms, 10 Mbit/s, 1 % loss),
  wan-bad (300 ms, 1 Mbit/s, 5 % loss); others by --rtt and so on, or from a file (--profiles):
    [link.office]
    rtt = \"80ms\"
    rate = \"50mbit\"
    loss = \"0.5%\"

Nothing leaves this machine, and nothing on it is changed: links, mounts and processes live in
namespaces of their own, which end with the run, also if it is killed. Root is needed to drop the
page cache before what is called cold, and on most machines for namespaces at all.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(in crate::cli) struct BenchFlags {
    #[command(subcommand)]
    pub(super) action: Option<BenchAction>,
    #[command(flatten)]
    pub(super) run: RunFlags,
}

#[derive(Debug, Subcommand)]
pub(super) enum BenchAction {
    /// Open a shell, or run a command, at one end of an emulated link
    Shell(Box<ShellFlags>),
    /// Compare two reports (--json) with each other
    Compare(CompareFlags),
    /// Show how results changed over time
    History(HistoryFlags),
    /// The half that runs in a sandbox; not for people
    #[command(hide = true)]
    Inside(InsideFlags),
    /// Does one job on a mount; not for people
    #[command(hide = true)]
    Worker,
}

/// The link.
#[derive(Debug, Args)]
pub(super) struct LinkFlags {
    /// Profiles to emulate, one after the other [default: wan-good]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub(super) profile: Vec<String>,
    /// TOML file with profiles of your own
    #[arg(long, value_name = "FILE")]
    pub(super) profiles: Option<PathBuf>,
    /// Added round-trip time (80ms, 1.5s)
    #[arg(long, value_name = "TIME")]
    pub(super) rtt: Option<String>,
    /// Rate of each direction (50mbit, 1gbit)
    #[arg(long, value_name = "RATE")]
    pub(super) rate: Option<String>,
    /// Loss in each direction (0.5%)
    #[arg(long, value_name = "PERCENT")]
    pub(super) loss: Option<String>,
    /// Jitter of each direction, even, up to so much more or less (5ms); packets may overtake
    #[arg(long, value_name = "TIME")]
    pub(super) jitter: Option<String>,
    /// Queue of each direction (256k) [default: one bandwidth-delay product, at least 64k]
    #[arg(long, value_name = "SIZE")]
    pub(super) queue: Option<String>,
    /// Loss in bursts: chances to enter and to leave a burst at each packet, of loss in it, and outside
    #[arg(
        long,
        value_name = "ENTER%,LEAVE%,LOSS%[,LOSS%]",
        conflicts_with = "loss"
    )]
    pub(super) burst: Option<String>,
    /// How to emulate [default: tc where the kernel has netem, else tun]
    #[arg(long, value_name = "tc|tun")]
    pub(super) link: Option<String>,
    /// Congestion control of TCP at both ends (cubic, bbr) [default: the kernel's]
    #[arg(long, value_name = "NAME")]
    pub(super) cc: Option<String>,
    /// What data, positions and losses are derived from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
    /// Where the files of the run are kept until it ends [default: /var/tmp]
    #[arg(long, value_name = "FOLDER")]
    pub(super) scratch: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum DataFlag {
    /// Incompressible
    Random,
    /// Compresses as text does
    Text,
}

/// A run.
#[derive(Debug, Args)]
pub(super) struct RunFlags {
    #[command(flatten)]
    pub(super) link: LinkFlags,
    /// Whom to measure: wormhole, sshfs, nfs, rclone, local, or peers of --peers-file
    /// [default: whoever is available]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub(super) peers: Vec<String>,
    /// TOML file with peers of your own, as command templates
    #[arg(long, value_name = "FILE")]
    pub(super) peers_file: Option<PathBuf>,
    /// What to measure: mount, first-byte, seq-read, scrub, random, stat, readdir, walk, small-files,
    /// parallel, concurrent, fresh, write, create [default: all]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub(super) only: Vec<String>,
    /// Under two minutes for a profile
    #[arg(long, conflicts_with = "full")]
    pub(super) quick: bool,
    /// Large and long, for publication
    #[arg(long)]
    pub(super) full: bool,
    /// How often each peer has its turn [default: quick 1, otherwise 2, full 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) rounds: Option<u32>,
    /// What files are made of
    #[arg(long, value_enum, default_value = "random")]
    pub(super) data: DataFlag,
    /// Write everything measured, raw samples included
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write the report as Markdown
    #[arg(long, value_name = "FILE")]
    pub(super) markdown: Option<PathBuf>,
    /// Write the report as one page with charts
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Remember the results under this name
    #[arg(long, value_name = "NAME")]
    pub(super) save_baseline: Option<String>,
    /// Compare with the results remembered under this name
    #[arg(long, value_name = "NAME")]
    pub(super) baseline: Option<String>,
    /// Fail if Wormhole is slower than the baseline by more than this, beyond noise
    #[arg(long, value_name = "PERCENT", requires = "baseline")]
    pub(super) fail_if_slower: Option<String>,
    /// Put a flame graph of Wormhole's processes for each workload here (needs perf)
    #[arg(long, value_name = "FOLDER")]
    pub(super) flamegraph: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ShellFlags {
    #[command(flatten)]
    pub(super) link: LinkFlags,
    /// Run this instead of a shell
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(super) struct CompareFlags {
    /// The report of before
    pub(super) before: PathBuf,
    /// The report of after
    pub(super) after: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct HistoryFlags {
    /// Only this profile
    #[arg(long, value_name = "NAME")]
    pub(super) profile: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct InsideFlags {
    /// The folder of the run, with its order
    pub(super) scratch: PathBuf,
    /// Carry it out; otherwise, be process 1 and have it carried out
    #[arg(long)]
    pub(super) carry_out: bool,
}
