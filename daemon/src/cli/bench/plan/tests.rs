//! Tests of what `wormhole bench` is told against what it means, and of what its help says.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::super::flags::BenchAction;
use super::*;
use crate::cli::flags::{Command, Flags};
use clap::{CommandFactory, Parser};
use std::time::Duration;
use tempfile::TempDir;
use wormhole_benches::netem::Loss;
use wormhole_benches::peer;
use wormhole_benches::sizes::Sizes;
use wormhole_benches::workload::Family;

/// What a call means.
enum Meant {
    Run(RunPlan),
    Shell(ShellPlan),
    Other,
}

fn meant(args: &[&str]) -> anyhow::Result<Meant> {
    let all = [&["wormhole", "bench"], args].concat();
    let Command::Bench(flags) = Flags::try_parse_from(all)?.command else {
        unreachable!("it was called");
    };
    Ok(match flags.action {
        None => Meant::Run(run(flags.run, vec!["as".into(), "typed".into()])?),
        Some(BenchAction::Shell(flags)) => Meant::Shell(shell(*flags)?),
        Some(_) => Meant::Other,
    })
}

fn run_of(args: &[&str]) -> RunPlan {
    match meant(args) {
        Ok(Meant::Run(plan)) => plan,
        Ok(_) => panic!("not a run: {args:?}"),
        Err(error) => panic!("{args:?}: {error:#}"),
    }
}

fn shell_of(args: &[&str]) -> ShellPlan {
    match meant(&[&["shell"], args].concat()) {
        Ok(Meant::Shell(plan)) => plan,
        Ok(_) => panic!("not a shell: {args:?}"),
        Err(error) => panic!("{args:?}: {error:#}"),
    }
}

/// The order of a run on one link.
fn order_of(args: &[&str]) -> RunOrder {
    let mut orders = run_of(args).orders;
    assert_eq!(orders.len(), 1, "{args:?}");
    orders.remove(0)
}

fn refusal(args: &[&str]) -> String {
    match meant(args) {
        Ok(_) => panic!("accepted: {args:?}"),
        Err(error) => format!("{error:#}"),
    }
}

/// It is refused, and what is said about it has all of `words`.
fn refused(args: &[&str], words: &[&str]) {
    let said = refusal(args);
    for word in words {
        assert!(said.contains(word), "{args:?}: no {word:?} in: {said}");
    }
}

fn file(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn links_of(args: &[&str]) -> Vec<Profile> {
    let orders = run_of(args).orders.into_iter();
    orders.map(|order| order.link.profile).collect()
}

#[test]
fn without_flags_there_is_a_default_for_everything() {
    let plan = run_of(&[]);
    assert_eq!(plan.place, PathBuf::from("/var/tmp"));
    let order = &plan.orders[0];
    assert_eq!(
        order.link,
        LinkOrder {
            profile: Profile::WAN_GOOD,
            backend: None,
            congestion_control: None,
            seed: 1,
        }
    );
    assert_eq!((order.mode, order.data), (Mode::Standard, Data::Random));
    assert_eq!(order.families, Family::ALL);
    assert!(order.peers.is_empty() && order.own_peers.is_none());
    assert!(order.rounds.is_none() && order.flamegraphs.is_none());
    assert_eq!(order.program, std::env::current_exe().unwrap());
    assert_eq!(order.command, ["as", "typed"]);
    let outputs = &plan.outputs;
    assert!(outputs.json.is_none() && outputs.markdown.is_none() && outputs.html.is_none());
    assert!(outputs.save_baseline.is_none() && outputs.baseline.is_none());
}

#[test]
fn profiles_are_named_one_by_one_or_described() {
    assert_eq!(links_of(&["--profile", "lan"]), [Profile::LAN]);
    let several = ["--profile", "wan-bad,none", "--profile", "lan"];
    let [bad, none, lan] = [Profile::WAN_BAD, Profile::NONE, Profile::LAN];
    assert_eq!(links_of(&several), [bad, none, lan], "in the order given");
    refused(&["--profile", "lan,wan"], &["\"wan\"", "wan-good", "none"]);
    refused(&["--profile", ""], &["\"\""]);
    let custom = links_of(&["--rtt", "80ms", "--rate", "50mbit"]).remove(0);
    assert_eq!(custom.name, "custom");
    assert_eq!(custom.rtt, Duration::from_millis(80));
    assert_eq!(custom.rate_bits_per_sec, Some(50_000_000));
    let changed = links_of(&["--profile", "lan,wan-poor", "--loss", "3%"]);
    let names: Vec<_> = changed.iter().map(|profile| &*profile.name).collect();
    assert_eq!(names, ["lan+loss=3%", "wan-poor+loss=3%"]);
    assert_eq!(changed[1].rtt, Profile::WAN_POOR.rtt);
}

#[test]
fn profiles_come_from_a_file_too() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(
        &folder,
        "good",
        "[link.office]\nrtt = \"80ms\"\nburst = \"1%,20%,50%\"\n",
    );
    let links = links_of(&["--profiles", &good, "--profile", "office,lan"]);
    assert_eq!(links[0].rtt, Duration::from_millis(80));
    assert_eq!(links[1], Profile::LAN, "those built in stay");
    let args = ["--profiles", &good, "--profile", "office", "--rtt", "1s"];
    let changed = links_of(&args).remove(0);
    assert_eq!(&*changed.name, "office+rtt=1s");
    assert!(matches!(changed.loss, Loss::Bursts { .. }));
    refused(&["--profiles", &good, "--profile", "ofice"], &["office"]);
    let typo = file(&folder, "typo", "[link.a]\nrtd = \"80ms\"\n");
    refused(&["--profiles", &typo], &["--profiles", "link.a", "rtd"]);
    let form = file(&folder, "form", "[link.a");
    refused(&["--profiles", &form], &["--profiles", "line 1"]);
    refused(&["--profiles", "/nowhere/at/all"], &["/nowhere/at/all"]);
}

#[test]
fn each_flag_of_a_link_changes_it() {
    let plain = order_of(&["--profile", "lan"]).link;
    let change = |flag: &str, value: &str, change: fn(&mut LinkOrder)| {
        let mut expected = plain.clone();
        change(&mut expected);
        let mut got = order_of(&["--profile", "lan", flag, value]).link;
        got.profile.name = plain.profile.name.clone();
        assert_eq!(got, expected, "{flag} {value}");
        assert_ne!(got, plain, "{flag} {value}");
        let shell = shell_of(&["--profile", "lan", flag, value]).order.link;
        assert_eq!(shell.profile.rtt, expected.profile.rtt, "{flag} of a shell");
        assert_eq!(shell.backend, expected.backend, "{flag} of a shell");
    };
    change("--rtt", "1.5s", |link| {
        link.profile.rtt = Duration::from_millis(1500);
    });
    change("--rate", "9600bit", |link| {
        link.profile.rate_bits_per_sec = Some(9600);
    });
    change("--loss", "0.5%", |link| {
        link.profile.loss = Loss::Random { ppm: 5_000 };
    });
    change("--jitter", "250us", |link| {
        link.profile.jitter = Duration::from_micros(250);
    });
    change("--queue", "256k", |link| {
        link.profile.queue_bytes = Some(256 << 10);
    });
    change("--burst", "1%,20%,50%,0.1%", |link| {
        link.profile.loss = Loss::Bursts {
            enter_ppm: 10_000,
            leave_ppm: 200_000,
            bad_loss_ppm: 500_000,
            good_loss_ppm: 1_000,
        };
    });
    change("--link", "tc", |link| link.backend = Some(Backend::Tc));
    change("--link", "tun", |link| link.backend = Some(Backend::Tun));
    change("--cc", "cubic", |link| {
        link.congestion_control = Some("cubic".to_owned());
    });
    change("--seed", "7", |link| link.seed = 7);
}

#[test]
fn nonsense_about_a_link_is_refused_with_the_reason() {
    for (flag, value, word) in [
        ("--rtt", "80", "80ms"),
        ("--rtt", "80 ms", "80ms"),
        ("--rtt", "fast", "cannot be read"),
        ("--rate", "50", "50mbit"),
        ("--rate", "50MB", "50mbit"),
        ("--loss", "0.5", "0.5%"),
        ("--loss", "101%", "too much"),
        ("--loss", "0.00001%", "too fine"),
        ("--jitter", "5", "5"),
        ("--queue", "256kB", "256kB"),
        ("--burst", "1%", "1%,20%,50%"),
        ("--link", "veth", "tc, tun"),
        ("--link", "", "tc, tun"),
    ] {
        refused(&["--profile", "lan", flag, value], &[flag, word]);
        refused(&["shell", "--profile", "lan", flag, value], &[flag, word]);
    }
    refused(&["--rtt", "-80ms"], &["-8"]);
    refused(&["--seed", "x"], &["--seed"]);
    refused(&["--burst", "1%,20%,50%", "--loss", "1%"], &["--loss"]);
    refused(&["--queue", "64k"], &["queue", "rate"]);
    refused(&["--rtt", "10ms", "--jitter", "20ms"], &["jitter"]);
}

#[test]
fn a_shell_is_at_one_link() {
    let plan = shell_of(&["--profile", "lan", "--", "ls", "-l", "--seed"]);
    assert_eq!(plan.order.link.profile, Profile::LAN);
    assert_eq!(plan.order.command, ["ls", "-l", "--seed"]);
    assert!(shell_of(&[]).order.command.is_empty());
    assert_eq!(
        shell_of(&["--scratch", "/s"]).place,
        PathBuf::from("/s"),
        "it has files as well"
    );
    refused(&["shell", "--profile", "lan,none"], &["one --profile"]);
    refused(&["shell", "--peers", "local"], &["--peers"]);
    refused(&["shell", "ls"], &["ls"]);
}

#[test]
fn each_flag_of_a_run_changes_the_order() {
    let plain = order_of(&[]);
    let change = |args: &[&str], change: fn(&mut RunOrder)| {
        let mut expected = plain.clone();
        change(&mut expected);
        assert_ne!(expected, plain);
        assert_eq!(order_of(args), expected, "{args:?}");
    };
    change(&["--peers", "local,sshfs"], |order| {
        order.peers = vec!["local".to_owned(), "sshfs".to_owned()];
    });
    change(&["--only", "seq-read,mount,seq-read"], |order| {
        order.families = vec![Family::Mount, Family::SeqRead];
    });
    change(&["--quick"], |order| order.mode = Mode::Quick);
    change(&["--full"], |order| order.mode = Mode::Full);
    change(&["--rounds", "3"], |order| order.rounds = Some(3));
    change(&["--data", "text"], |order| order.data = Data::Text);
    change(&["--flamegraph", "flames"], |order| {
        order.flamegraphs = Some(std::env::current_dir().unwrap().join("flames"));
    });
    change(&["--flamegraph", "/flames"], |order| {
        order.flamegraphs = Some("/flames".into());
    });
    assert_eq!(run_of(&["--scratch", "/s"]).place, PathBuf::from("/s"));
}

#[test]
fn wrong_words_of_a_run_are_refused_with_the_right_ones() {
    refused(&["--quick", "--full"], &["--quick", "--full"]);
    refused(&["--only", "seq"], &["--only", "\"seq\"", "seq-read"]);
    refused(&["--only", ""], &["--only", "first-byte"]);
    refused(&["--peers", "ssfs"], &["--peers", "\"ssfs\"", "sshfs"]);
    refused(&["--rounds", "0"], &["--rounds", "1..=100"]);
    refused(&["--rounds", "101"], &["--rounds"]);
    refused(&["--data", "zeros"], &["--data", "random", "text"]);
    refused(&["--profile", "lan", "shell"], &["shell"]);
}

#[test]
fn peers_of_a_file_are_known_beside_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[peer.bind]\nmount = [\"mount\", \"--bind\", \"{share}\", \"{mountpoint}\"]\n";
    let good = file(&folder, "good", text);
    let order = order_of(&["--peers-file", &good, "--peers", "bind,local"]);
    assert_eq!(order.own_peers.as_deref(), Some(text));
    assert_eq!(order.peers, ["bind", "local"]);
    assert!(order_of(&["--peers-file", &good]).peers.is_empty(), "all");
    refused(&["--peers", "bind"], &["--peers", "bind"]);
    refused(&["--peers-file", &good, "--peers", "bund"], &["bind"]);
    for (text, word) in [
        ("[peer.local]\nmount = [\"true\"]\n", "local"),
        ("[peer.x]\n", "mount"),
        ("[peer.x]\nmount = [\"m\", \"{home}\"]\n", "{home}"),
        ("[pear.x]\n", "pear"),
        ("[peer.x", "line 1"),
    ] {
        let bad = file(&folder, "bad", text);
        refused(&["--peers-file", &bad], &["--peers-file", word]);
    }
    refused(&["--peers-file", "/nowhere"], &["/nowhere"]);
}

#[test]
fn outputs_go_where_they_should() {
    let flags = ["--json", "j", "--markdown", "m", "--html", "h"];
    let outputs = run_of(&flags).outputs;
    assert_eq!(outputs.json, Some("j".into()));
    assert_eq!(outputs.markdown, Some("m".into()));
    assert_eq!(outputs.html, Some("h".into()));
    let flags = [
        "--save-baseline",
        "new",
        "--baseline",
        "v1.0",
        "--fail-if-slower",
        "50%",
    ];
    let outputs = run_of(&flags).outputs;
    assert_eq!(outputs.save_baseline, Some("new".parse().unwrap()));
    let gate = ("v1.0".parse().unwrap(), Some("50%".parse().unwrap()));
    assert_eq!(outputs.baseline, Some(gate));
    let gate = ("v1.0".parse().unwrap(), None);
    let outputs = run_of(&["--baseline", "v1.0"]).outputs;
    assert_eq!(outputs.baseline, Some(gate), "to look at, without a gate");
    assert!(outputs.save_baseline.is_none());
}

#[test]
fn a_baseline_is_a_name_and_a_threshold_a_percentage() {
    for name in ["../b", "/b", "a/b", "..", ".b", "", "a b", "a\nb"] {
        for flag in ["--baseline", "--save-baseline"] {
            refused(&[flag, name], &[flag, "name of a baseline"]);
        }
    }
    refused(&["--save-baseline", &"a".repeat(65)], &["up to 64"]);
    refused(&["--fail-if-slower", "50%"], &["--baseline"]);
    for percent in ["50", "0%", "nan%", "-5%", "1e3%", "fast", ""] {
        let flag = format!("--fail-if-slower={percent}");
        refused(&["--baseline", "b", &flag], &["--fail-if-slower", "50%"]);
    }
}

#[test]
fn compare_and_history_take_what_they_need() {
    assert!(matches!(
        meant(&["compare", "a.json", "b.json"]),
        Ok(Meant::Other)
    ));
    refused(&["compare", "a.json"], &["<AFTER>"]);
    assert!(matches!(
        meant(&["history", "--profile", "lan"]),
        Ok(Meant::Other)
    ));
}

mod help {
    use super::*;

    fn of(flag: &str) -> String {
        let flags = Flags::command();
        let bench = flags.find_subcommand("bench").unwrap();
        let flag = bench.get_arguments().find(|arg| arg.get_id() == flag);
        flag.unwrap().get_help().unwrap().to_string()
    }

    fn examples() -> String {
        let flags = Flags::command();
        let bench = flags.find_subcommand("bench").unwrap();
        bench.get_after_help().unwrap().to_string()
    }

    /// The list that stands in `text` after a colon, up to `end`.
    fn list(text: &str, end: &str) -> Vec<String> {
        let (_, list) = text.split_once(": ").unwrap();
        let (list, _) = list.split_once(end).unwrap();
        list.split(',').map(|name| name.trim().to_owned()).collect()
    }

    #[test]
    fn every_workload_is_listed_and_no_other() {
        let listed = list(&of("only"), " [default: all]");
        assert_eq!(listed, Family::ALL.map(Family::name));
    }

    #[test]
    fn every_peer_is_listed_by_its_program() {
        let listed = list(&of("peers"), ", or peers of");
        let names = |peers: Vec<Box<dyn peer::Peer>>| -> Vec<String> {
            peers.iter().map(|peer| peer.name().to_owned()).collect()
        };
        let meant = choose(&listed, Vec::new()).unwrap();
        assert_eq!(names(meant), names(peer::all()));
    }

    #[test]
    fn numbers_of_rounds_are_those_of_a_run() {
        let rounds = |mode| Sizes::of(mode, None, Duration::ZERO).rounds;
        let defaults = format!(
            "[default: quick {}, otherwise {}, full {}]",
            rounds(Mode::Quick),
            rounds(Mode::Standard),
            rounds(Mode::Full)
        );
        assert!(of("rounds").ends_with(&defaults), "{}", of("rounds"));
    }

    #[test]
    fn other_defaults_are_true() {
        let says = |flag, default| of(flag).ends_with(&format!("[default: {default}]"));
        assert!(says("profile", PROFILE_DEFAULT));
        assert!(says("scratch", SCRATCH_DEFAULT));
        for profile in Profile::ALL {
            assert!(examples().contains(&*profile.name), "{}", profile.name);
        }
    }

    #[test]
    fn every_example_means_something() {
        let examples = examples();
        let (commands, _) = examples.split_once("\n\n").unwrap();
        let mut count = 0;
        for line in commands.lines().skip(1) {
            let command = line.trim_start().trim_start_matches("sudo ");
            let words: Vec<&str> = match command.split_once("   ") {
                Some((command, _)) => command.split(' ').collect(),
                None => command.split(' ').collect(),
            };
            assert_eq!(words[..2], ["wormhole", "bench"], "{line}");
            if let Err(error) = meant(&words[2..]) {
                panic!("{line}: {error:#}");
            }
            count += 1;
        }
        assert!(count > 5, "{commands}");
    }

    #[test]
    fn no_line_of_the_examples_is_broken() {
        // clap breaks what is longer than a hundred columns, however wide the terminal.
        let examples = examples();
        let long = examples.lines().find(|line| line.len() > 100);
        assert_eq!(long, None);
    }

    #[test]
    fn the_example_of_a_file_of_profiles_can_be_read() {
        let examples = examples();
        let (_, file) = examples.split_once("(--profiles):\n").unwrap();
        let (file, _) = file.split_once("\n\n").unwrap();
        let catalog = Catalog::parse(file).unwrap();
        assert_eq!(
            catalog.find("office").unwrap().rtt,
            Duration::from_millis(80)
        );
    }
}
