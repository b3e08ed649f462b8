//! Where a ticket comes from: the command line, stdin, a file or the environment.
//!
//! A ticket lets whoever has it in. On a command line every user of the machine can read it, so there
//! are three other ways, and a file that others can read is warned about.

use anyhow::{Context, bail};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use wormhole_protocol::Ticket;
use wormhole_protocol::limits::TICKET_CHARS_MAX;

/// The environment variable that may hold a ticket.
pub(super) const TICKET_VARIABLE: &str = "WORMHOLE_TICKET";
/// Longest input that is read for one: a ticket, and blank lines around it.
const INPUT_BYTES_MAX: u64 = 4 * TICKET_CHARS_MAX as u64;

/// Where to look. Holds the text of the ticket if that is where it stood, so it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum TicketSource {
    /// It stood on the command line, or in the environment.
    Text(String),
    /// The first input of the process.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl TicketSource {
    /// Chooses: what was typed, else the file, else the environment.
    ///
    /// # Errors
    /// If there is none, or both a ticket and a file were given.
    pub(super) fn choose(
        typed: Option<&str>,
        file: Option<&Path>,
        environment: Option<String>,
    ) -> anyhow::Result<Self> {
        match (typed, file, environment) {
            (Some(_), Some(_), _) => {
                bail!("both a ticket and a ticket file are given; leave one out")
            }
            (Some("-"), None, _) => Ok(Self::Stdin),
            (Some(text), None, _) => Ok(Self::Text(text.to_owned())),
            (None, Some(file), _) if file == Path::new("-") => Ok(Self::Stdin),
            (None, Some(file), _) => Ok(Self::File(file.to_owned())),
            (None, None, Some(text)) => Ok(Self::Text(text)),
            (None, None, None) => bail!(
                "no ticket given: name it (or - to read it from stdin), use --ticket-file, or set {TICKET_VARIABLE}"
            ),
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// If it cannot be read, or is no ticket.
    pub(super) fn read(&self) -> anyhow::Result<Ticket> {
        match self {
            Self::Text(text) => Ok(text.parse()?),
            Self::Stdin => {
                if rustix::termios::isatty(io::stdin()) {
                    eprintln!("Paste the ticket, then press Enter:");
                }
                read_line(io::stdin().lock()).context("reading the ticket from stdin")
            }
            Self::File(path) => {
                let shown = path.display();
                let file = File::open(path).with_context(|| format!("ticket file {shown}"))?;
                if others_can_read(&file) {
                    tracing::warn!(
                        "{shown} is readable by others, who could mount the share too: chmod 600 {shown}"
                    );
                }
                read_whole(file).with_context(|| format!("ticket file {shown}"))
            }
        }
    }
}

/// Whether somebody else may read the file.
fn others_can_read(file: &File) -> bool {
    file.metadata()
        .is_ok_and(|found| found.is_file() && found.mode() & 0o077 != 0)
}

/// The first line that is not blank: what follows may be meant for somebody else.
fn read_line(mut input: impl Read) -> anyhow::Result<Ticket> {
    let mut line = Vec::new();
    let mut byte = [0];
    while input.read(&mut byte)? == 1 {
        match byte {
            [b'\n'] if line.trim_ascii().is_empty() => line.clear(),
            [b'\n'] => break,
            [byte] => line.push(byte),
        }
        if line.len() as u64 > INPUT_BYTES_MAX {
            bail!("too long for a ticket");
        }
    }
    parse(&line)
}

fn read_whole(input: impl Read) -> anyhow::Result<Ticket> {
    let mut text = Vec::new();
    input.take(INPUT_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > INPUT_BYTES_MAX {
        bail!("too long for a ticket");
    }
    parse(&text)
}

fn parse(text: &[u8]) -> anyhow::Result<Ticket> {
    if text.trim_ascii().is_empty() {
        bail!("it is empty");
    }
    Ok(String::from_utf8_lossy(text).parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use wormhole_protocol::{HostKey, Secret};

    fn ticket() -> Ticket {
        Ticket {
            host: HostKey([7; 32]),
            secret: Secret::from_bytes([9; 16]),
            addresses: vec!["192.0.2.1:7117".parse().unwrap()],
        }
    }

    #[test]
    fn what_was_typed_wins_then_the_file_then_the_environment() {
        let file = Path::new("/t");
        let env = || Some("env".to_owned());
        let choose = |typed, file, env| TicketSource::choose(typed, file, env).ok();
        assert!(choose(Some("wh1"), None, env()) == Some(TicketSource::Text("wh1".into())));
        assert!(choose(Some("-"), None, env()) == Some(TicketSource::Stdin));
        assert!(choose(None, Some(file), env()) == Some(TicketSource::File("/t".into())));
        assert!(choose(None, Some(Path::new("-")), None) == Some(TicketSource::Stdin));
        assert!(choose(None, None, env()) == Some(TicketSource::Text("env".into())));
        assert!(choose(None, None, None).is_none());
        assert!(choose(Some("wh1"), Some(file), None).is_none());
    }

    #[test]
    fn one_is_read_from_a_stream_with_other_lines() {
        let text = format!("\n  \n {} \r\nfor somebody else\n", ticket());
        assert_eq!(read_line(text.as_bytes()).unwrap(), ticket());
        assert_eq!(
            read_line(ticket().to_string().as_bytes()).unwrap(),
            ticket()
        );
        assert!(read_line(&b""[..]).is_err());
        assert!(read_line(io::repeat(b'a')).is_err());
        assert!(read_whole(io::repeat(b'a')).is_err());
    }

    #[test]
    fn one_is_read_from_a_file_whose_mode_is_looked_at() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "{}", ticket()).unwrap();
        let source = TicketSource::File(file.path().to_owned());
        assert_eq!(source.read().unwrap(), ticket());
        assert!(!others_can_read(file.as_file()));
        for mode in [0o640, 0o604] {
            let open = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(file.path(), open).unwrap();
            assert!(others_can_read(file.as_file()));
        }
    }

    #[test]
    fn an_error_names_the_file_but_not_the_ticket() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut text = ticket().to_string();
        let swapped = if text.ends_with('q') { "p" } else { "q" };
        text.replace_range(text.len() - 1.., swapped);
        write!(file, "{text}").unwrap();
        let source = TicketSource::File(file.path().to_owned());
        let error = format!("{:#}", source.read().unwrap_err());
        assert!(error.contains("typo"), "{error}");
        assert!(error.contains(&*file.path().to_string_lossy()), "{error}");
        assert!(!error.contains(&text[10..40]), "{error}");
    }
}
