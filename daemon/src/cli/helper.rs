//! The forms in which mount(8) calls: `mount.wormhole SRC DIR [-sfnv] [-o OPTIONS]`.
//!
//! mount(8) looks for `/sbin/mount.TYPE`; for the type `fuse.wormhole` it also finds mount.fuse3, which
//! runs `wormhole SRC DIR -o OPTIONS`. SRC is a ticket, or the path of a file that holds one. Both mount
//! in the background, as mount(8) expects.

use super::flags::MountFlags;
use super::options::Caller;
use super::plan::resembles_ticket;
use anyhow::{Context, bail};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What mount(8) wants.
pub(super) struct HelperCall {
    /// As flags of `wormhole mount`.
    pub(super) flags: MountFlags,
    /// Who is asking.
    pub(super) caller: Caller,
    /// Times `-v` was given.
    pub(super) verbose: u8,
    /// Everything but the mount itself (`-f`).
    pub(super) fake: bool,
}

/// Reads `argv`, the program's name included; `None` if it is not of a form that mount(8) uses.
pub(super) fn recognise(argv: &[OsString]) -> Option<anyhow::Result<HelperCall>> {
    let (program, args) = argv.split_first()?;
    let program = Path::new(program).file_name();
    let by_name = [Some("mount.wormhole"), Some("mount.fuse.wormhole")]
        .iter()
        .any(|name| program == name.map(OsStr::new));
    // No subcommand has a slash in it or looks like a ticket.
    let by_source = |first: &OsString| {
        resembles_ticket(first)
            || (first.as_bytes().contains(&b'/') && !first.as_bytes().starts_with(b"-"))
    };
    (by_name || args.first().is_some_and(by_source)).then(|| read(args))
}

fn read(args: &[OsString]) -> anyhow::Result<HelperCall> {
    let mut call = HelperCall {
        flags: MountFlags {
            daemon: true,
            ..MountFlags::default()
        },
        caller: Caller::MountProgram { sloppy: false },
        verbose: 0,
        fake: false,
    };
    let mut places = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_bytes() {
            b"--" => places.extend(args.by_ref().cloned()),
            [b'-', letters @ ..] if !letters.is_empty() => take(letters, &mut args, &mut call)?,
            _ => places.push(arg.clone()),
        }
    }
    let [source, mountpoint]: [OsString; 2] = places.try_into().map_err(|_| {
        anyhow::anyhow!("usage: mount.wormhole TICKET|TICKET-FILE MOUNTPOINT [-sfnv] [-o OPTIONS]")
    })?;
    name_source(source, mountpoint, &mut call.flags);
    Ok(call)
}

/// A cluster of letters as getopt(3) reads them: `-sfn`, `-oro`, `-o ro`.
fn take<'a>(
    letters: &[u8],
    rest: &mut impl Iterator<Item = &'a OsString>,
    call: &mut HelperCall,
) -> anyhow::Result<()> {
    for (at, letter) in letters.iter().enumerate() {
        match letter {
            b's' => call.caller = Caller::MountProgram { sloppy: true },
            b'f' => call.fake = true,
            b'v' => call.verbose += 1,
            // There is no mtab any more.
            b'n' => {}
            b'o' | b't' | b'N' => {
                let value = match &letters[at + 1..] {
                    [] => rest.next().cloned(),
                    glued => Some(OsStr::from_bytes(glued).to_owned()),
                };
                let shown = char::from(*letter);
                let value = value.with_context(|| format!("-{shown} needs a value"))?;
                match letter {
                    b'o' => {
                        let list = value.into_string();
                        let list = list.map_err(|_| anyhow::anyhow!("-o: not text"))?;
                        call.flags.options.push(list);
                    }
                    b'N' => bail!("-N (mount in another namespace) is not supported"),
                    // The type, which is ours: else we had not been called.
                    _ => {}
                }
                return Ok(());
            }
            _ => bail!("unknown flag -{}", char::from(*letter).escape_default()),
        }
    }
    Ok(())
}

fn name_source(source: OsString, mountpoint: OsString, flags: &mut MountFlags) {
    if resembles_ticket(&source) || source == "-" {
        flags.places = vec![source, mountpoint];
        return;
    }
    // `none` stands in fstab where the source is said elsewhere (ticket_file=).
    if source != "none" {
        // Written with or without the type in front, as mount.fuse3 allows.
        let bytes = source.as_bytes();
        let path = bytes.strip_prefix(b"wormhole#").unwrap_or(bytes);
        flags.ticket_file = Some(OsStr::from_bytes(path).into());
    }
    flags.places = vec![mountpoint];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::plan;
    use crate::cli::ticket_source::TicketSource;

    fn argv(args: &[&str]) -> Vec<OsString> {
        args.iter().map(OsString::from).collect()
    }

    fn call(args: &[&str]) -> HelperCall {
        recognise(&argv(args)).unwrap().unwrap()
    }

    fn ticket() -> String {
        format!("wh1{}", "q".repeat(90))
    }

    #[test]
    fn the_forms_of_mount_are_recognised_and_others_left_alone() {
        let ticket = ticket();
        for form in [
            &["/sbin/mount.wormhole", "t", "/m"][..],
            &["mount.fuse.wormhole", "t", "/m"],
            &["wormhole", "/etc/t", "/m"],
            &["wormhole", "./t", "/m"],
            &["wormhole", &ticket, "/m"],
        ] {
            assert!(recognise(&argv(form)).is_some(), "{form:?}");
        }
        for other in [
            &["wormhole"][..],
            &["wormhole", "mount", "/m"],
            &["wormhole", "--help"],
            &["wormhole", "-o/x"],
            &["wormhole", "wh1"],
            &[],
        ] {
            assert!(recognise(&argv(other)).is_none(), "{other:?}");
        }
    }

    #[test]
    fn a_call_of_mount_becomes_an_order() {
        // As mount(8) really writes it.
        let call = call(&[
            "/sbin/mount.fuse.wormhole",
            "/etc/t",
            "/m",
            "-n",
            "-v",
            "-o",
            "rw,nosuid,noexec,nodev,l1_size=64M,nofail,_netdev,user",
        ]);
        assert_eq!(call.verbose, 1);
        assert!(!call.fake);
        let order = plan::mount(call.flags, call.caller, None).unwrap();
        assert!(order.daemon && !order.plan.read_only && order.plan.noexec);
        assert_eq!(order.plan.l1_bytes, 64 << 20);
        assert!(order.ticket == TicketSource::File("/etc/t".into()));
        assert_eq!(order.plan.mountpoint.0, Path::new("/m"));
    }

    #[test]
    fn a_call_of_mount_fuse3_becomes_an_order() {
        let ticket = ticket();
        let call = call(&["wormhole", &ticket, "/m", "-o", "ro,no_l2,dev,suid"]);
        let order = plan::mount(call.flags, call.caller, None).unwrap();
        assert!(order.ticket == TicketSource::Text(ticket));
        assert!(order.daemon && order.plan.read_only);
        assert_eq!(order.plan.l2, None);
    }

    #[test]
    fn letters_may_be_clustered_and_values_glued() {
        let call = call(&[
            "mount.wormhole",
            "-sfoowner=host,later",
            "none",
            "/m",
            "-tfuse.x",
            "-oticket_file=/t",
        ]);
        assert!(call.fake);
        let order = plan::mount(call.flags, call.caller, None).unwrap();
        assert!(order.ticket == TicketSource::File("/t".into()));
        assert_eq!(order.plan.owner, crate::config::OwnerMode::Host);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for args in [
            &["mount.wormhole"][..],
            &["mount.wormhole", "t"],
            &["mount.wormhole", "t", "/m", "/n"],
            &["mount.wormhole", "t", "/m", "-o"],
            &["mount.wormhole", "t", "/m", "-x"],
            &["mount.wormhole", "t", "/m", "-N", "7"],
        ] {
            assert!(recognise(&argv(args)).unwrap().is_err(), "{args:?}");
        }
        let dashed = call(&["mount.wormhole", "--", "t", "-rf"]);
        assert_eq!(dashed.flags.places, ["-rf"]);
    }
}
