//! Tests of what is typed against what it means.

use super::super::flags::{Command, Flags};
use super::*;
use crate::config::{Address, OwnerMode};
use crate::mount::beliefs::PrefetchMetadata;
use crate::mount::durability::Durability;
use clap::{CommandFactory, Parser};

const ROOT: Powers = Powers {
    root: true,
    make_devices: true,
};
const NOBODY: Powers = Powers {
    root: false,
    make_devices: false,
};

fn host_of(args: &[&str]) -> anyhow::Result<HostPlan> {
    host_by(ROOT, args)
}

fn host_by(powers: Powers, args: &[&str]) -> anyhow::Result<HostPlan> {
    let all = [&["wormhole", "host", "--state-dir", "/s"], args].concat();
    match Flags::try_parse_from(all)?.command {
        Command::Host(flags) => host(flags, powers),
        _ => unreachable!(),
    }
}

fn order_of(args: &[&str]) -> anyhow::Result<MountOrder> {
    let all = [&["wormhole", "mount"], args].concat();
    match Flags::try_parse_from(all)?.command {
        Command::Mount(flags) => mount(flags, Caller::Person, None),
        _ => unreachable!(),
    }
}

fn mount_of(args: &[&str]) -> MountPlan {
    let all = [&["-", "/m", "--cache-dir", "/c"], args].concat();
    order_of(&all).unwrap().plan
}

fn refusal(args: &[&str]) -> String {
    match order_of(args) {
        Ok(_) => panic!("accepted: {args:?}"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn the_grammar_is_sound() {
    Flags::command().debug_assert();
}

#[test]
fn every_command_has_help_with_examples() {
    for command in ["host", "mount", "unmount", "cache", "demo"] {
        let mut flags = Flags::command();
        let help = flags.find_subcommand_mut(command).unwrap();
        let text = help.render_long_help().to_string();
        assert!(text.contains("Examples:"), "{command}");
    }
}

#[test]
fn each_host_flag_changes_the_plan() {
    let plain = host_of(&["/f"]).unwrap();
    assert_eq!(plain.state_dir, Path::new("/s"));
    let change = |args: &[&str], change: fn(&mut HostPlan)| {
        let mut meant = plain.clone();
        change(&mut meant);
        assert_ne!(meant, plain);
        assert_eq!(
            host_of(&[&["/f"], args].concat()).unwrap(),
            meant,
            "{args:?}"
        );
    };
    change(&["/g"], |p| {
        p.folders.push(Folder {
            path: "/g".into(),
            name: None,
        });
    });
    change(&["--name", "a b"], |p| {
        p.folders[0].name = Some(Name::new(*b"a b").unwrap());
    });
    change(&["--listen", "127.0.0.1:0"], |p| {
        p.listen = Some(Address {
            ip: [127, 0, 0, 1].into(),
            port: Some(0),
        });
    });
    change(
        &["--advertise", "192.0.2.1", "--advertise", "[::1]:9"],
        |p| {
            p.advertise = vec!["192.0.2.1".parse().unwrap(), "[::1]:9".parse().unwrap()];
        },
    );
    change(&["--expires", "2h"], |p| {
        p.expires = Some(Duration::from_secs(7200));
    });
    change(&["--max-mounts", "3"], |p| p.max_mounts = Some(3));
    change(&["--new-ticket"], |p| p.new_ticket = true);
    change(&["--json"], |p| p.json = true);
    change(&["--metrics", "127.0.0.1:9"], |p| {
        p.metrics = Some("127.0.0.1:9".parse().unwrap());
    });
    assert_eq!(plain.rules, ShareRules::default());
    change(&["--rw"], |p| {
        p.rules.access = Access::ReadWrite;
        p.ticket_access = Access::ReadWrite;
    });
    change(&["--rw", "--ro"], |p| p.rules.access = Access::ReadWrite);
    change(&["--rw", "--map-users"], |p| {
        p.rules.access = Access::ReadWrite;
        p.ticket_access = Access::ReadWrite;
        p.rules.map_users = true;
    });
    change(&["--rw", "--allow-devices"], |p| {
        p.rules.access = Access::ReadWrite;
        p.ticket_access = Access::ReadWrite;
        p.rules.allow_devices = true;
    });
    assert_eq!(host_of(&["/f", "--ro"]).unwrap(), plain, "as it is anyway");
}

#[test]
fn what_only_the_mighty_can_do_is_refused_to_others_with_the_reason() {
    let said = |powers, args: &[&str]| {
        let all = [&["/f"], args].concat();
        format!("{:#}", host_by(powers, &all).unwrap_err())
    };
    for flag in ["--map-users", "--allow-devices"] {
        assert!(said(ROOT, &[flag]).contains("--rw"), "{flag}");
        assert!(said(ROOT, &[flag, "--ro"]).contains("--rw"), "{flag}");
    }
    assert!(said(NOBODY, &["--rw", "--map-users"]).contains("root"));
    assert!(said(NOBODY, &["--rw", "--allow-devices"]).contains("CAP_MKNOD"));
    let capable = Powers {
        make_devices: true,
        ..NOBODY
    };
    assert!(host_by(capable, &["/f", "--rw", "--allow-devices"]).is_ok());
    assert!(host_by(NOBODY, &["/f", "--rw"]).is_ok());
}

#[test]
fn nonsense_for_a_host_is_refused() {
    for args in [
        &[][..],
        &["/f", "/g", "--name", "a"],
        &["/f", "--name", "a/b"],
        &["/f", "--name", ".."],
        &["/f", "--name", ""],
        &["/f", "--max-mounts", "0"],
        &["/f", "--expires", "0"],
        &["/f", "--expires", "soon"],
        &["/f", "--listen", "here"],
        &["/f", "--metrics", "9090"],
    ] {
        assert!(host_of(args).is_err(), "{args:?}");
    }
    let many: Vec<_> = std::iter::once("/f")
        .chain((0..9).flat_map(|_| ["--advertise", "192.0.2.1"]))
        .collect();
    assert!(host_of(&many).is_err());
}

#[test]
fn each_mount_flag_and_option_changes_the_plan() {
    let plain = mount_of(&[]);
    assert_eq!(plain.mountpoint.0, Path::new("/m"));
    assert_eq!(plain.l1_bytes, config::L1_BYTES_DEFAULT);
    let change = |flag: &[&str], option: &str, change: fn(&mut MountPlan)| {
        let mut meant = plain.clone();
        change(&mut meant);
        assert_ne!(meant, plain);
        if !flag.is_empty() {
            assert_eq!(mount_of(flag), meant, "{flag:?}");
        }
        assert_eq!(mount_of(&["-o", option]), meant, "{option}");
    };
    change(&["--l1-size", "64M"], "l1_size=64M", |p| {
        p.l1_bytes = 64 << 20;
    });
    change(&["--l2-size", "1G"], "l2_size=1G", |p| {
        p.l2.as_mut().unwrap().budget_bytes = 1 << 30;
    });
    change(&["--durability", "memory"], "durability=memory", |p| {
        p.durability = Durability::Memory;
    });
    change(&["--write-buffer", "16M"], "write_buffer=16M", |p| {
        p.write_buffer_bytes = 16 << 20;
    });
    change(&["--ro"], "ro", |p| p.read_only = true);
    change(&["--attr-ttl", "0"], "attr_ttl=0", |p| {
        p.attr_ttl = Some(Duration::ZERO);
    });
    let what = ["--prefetch-metadata", "off"];
    change(&what, "prefetch_metadata=off", |p| {
        p.prefetch_metadata = PrefetchMetadata::Off;
    });
    let what = ["--prefetch-metadata", "all"];
    change(&what, "prefetch_metadata=all", |p| {
        p.prefetch_metadata = PrefetchMetadata::All;
    });
    change(&["--timeout", "5s"], "timeout=5s", |p| {
        p.timeout = Duration::from_secs(5);
    });
    change(&["--owner", "host"], "owner=host", |p| {
        p.owner = OwnerMode::Host;
    });
    change(&["--allow-other"], "allow_other", |p| p.allow_other = true);
    change(&["--no-passthrough"], "no_passthrough", |p| {
        p.passthrough = false;
    });
    change(&["--metrics", "[::1]:9"], "metrics=[::1]:9", |p| {
        p.metrics = Some("[::1]:9".parse().unwrap());
    });
    change(&[], "nonempty", |p| p.nonempty = true);
    change(&[], "noexec", |p| p.noexec = true);
}

#[test]
fn the_disk_cache_is_placed_or_left_out() {
    let l2 = |args: &[&str]| order_of(args).unwrap().plan.l2;
    assert_eq!(l2(&["-", "/m", "--no-l2"]), None);
    assert_eq!(l2(&["-", "/m", "-o", "no_l2"]), None);
    let at = l2(&["-", "/m", "-o", "cache_dir=/c,l2_size=1G"]).unwrap();
    assert_eq!(at.root.0, Path::new("/c"));
    // A flag outweighs an option.
    let at = l2(&["-", "/m", "-o", "cache_dir=/c", "--cache-dir", "/d"]).unwrap();
    assert_eq!(at.root.0, Path::new("/d"));
    assert!(refusal(&["-", "/m", "--no-l2", "--cache-dir", "/c"]).contains("--no-l2"));
    assert!(refusal(&["-", "/m", "-o", "no_l2,l2_size=1G"]).contains("leave one out"));
}

#[test]
fn where_the_ticket_comes_from() {
    let source = |args: &[&str]| order_of(args).unwrap().ticket;
    assert!(source(&["-", "/m"]) == TicketSource::Stdin);
    let file = TicketSource::File("/t".into());
    assert!(source(&["--ticket-file", "/t", "/m"]) == file);
    assert!(source(&["-o", "ticket_file=/t", "/m"]) == file);
    assert!(source(&["wh1abc", "/m"]) == TicketSource::Text("wh1abc".into()));
    assert!(refusal(&["/m"]).contains("no ticket"));
    assert!(refusal(&["wh1abc", "--ticket-file", "/t", "/m"]).contains("leave one out"));
    let ticket = format!("WH1{}", "q".repeat(90));
    let text = refusal(&[&ticket]);
    assert!(text.contains("mount point is missing"), "{text}");
    assert!(!text.contains("qqqq"), "the ticket is not repeated");
    let flags = MountFlags {
        places: vec!["m".into()],
        options: vec!["no_l2".into()],
        ..Default::default()
    };
    let order = mount(flags, Caller::Person, Some("wh1env".into())).unwrap();
    assert!(order.ticket == TicketSource::Text("wh1env".into()));
    assert!(order.plan.mountpoint.is_absolute());
}

#[test]
fn figures_out_of_range_and_conflicts_are_refused() {
    for args in [
        &["--l1-size", "1k"][..],
        &["--l2-size", "1M"],
        &["--timeout", "0"],
        &["--attr-ttl", "9999d"],
        &["--owner", "root"],
        &["--write-buffer", "1M"],
        &["-o", "what"],
        &["/n"],
    ] {
        let all = [&["-", "/m"], args].concat();
        assert!(order_of(&all).is_err(), "{args:?}");
    }
    assert!(order_of(&["-", ""]).is_err());
    assert!(order_of(&["-", "/m", "--daemon"]).unwrap().daemon);
}

#[test]
fn a_share_id_is_read_as_it_is_shown() {
    let id = ShareId([0xab; 16]);
    assert_eq!(share_id(&id.to_string()), Ok(id));
    for wrong in [
        "",
        "ab",
        "+baababababababababababababababab",
        &"g".repeat(32),
    ] {
        assert!(share_id(wrong).is_err(), "{wrong}");
    }
}
