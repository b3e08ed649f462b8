//! Peers that users describe: commands with placeholders, in TOML.
//!
//! ```toml
//! [peer.myfs]
//! serve = ["myfsd", "--listen", "{host}:{port}", "{share}"]
//! mount = ["myfs", "{host}:{port}", "{mountpoint}", "--cache", "{folder}"]
//! ```
//!
//! `serve` and `mount` run on the two ends of the link, in the foreground or going on in the background
//! by themselves. Optional: `ready` (a command that succeeds once the server can be mounted; without
//! it, a server that is given `{port}` is ready when that accepts TCP), `unmount` (instead of the
//! kernel's `umount`), `check` (succeeds if the peer can run here; what it says otherwise is the
//! reason), `install`, `version` (a command), `writes`, `durability`, `settings`.

mod server;
mod template;

use super::{Peer, PeerError, Served, Site, Unavailable, choice, describe};
use crate::process;
use crate::record::PeerInfo;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use template::{Placeholder, Template, Values};

/// How long `check` and `version` may take.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Why a description of peers is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CustomError {
    /// It is no TOML, or has keys or values that mean nothing.
    #[error("{0}")]
    Form(String),
    /// A name that cannot be a peer's.
    #[error(
        "peer {0}: is no new name of lower-case letters, digits and hyphens, beginning with a letter"
    )]
    Name(String),
    /// One of its commands.
    #[error("peer {peer}: {key}: {problem}")]
    Command {
        /// Whose.
        peer: String,
        /// Which.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// What stands in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    peer: BTreeMap<String, Description>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    serve: Option<Vec<String>>,
    ready: Option<Vec<String>>,
    mount: Vec<String>,
    unmount: Option<Vec<String>>,
    check: Option<Vec<String>>,
    version: Option<Vec<String>>,
    install: Option<String>,
    #[serde(default)]
    writes: bool,
    durability: Option<String>,
    #[serde(default)]
    settings: Vec<String>,
}

/// A peer of the user's.
#[derive(Debug, Clone)]
pub struct Custom(Arc<Commands>);

/// A description, understood.
#[derive(Debug)]
struct Commands {
    name: String,
    serve: Option<Template>,
    ready: Option<Template>,
    mount: Template,
    unmount: Option<Template>,
    check: Option<Template>,
    version: Option<Template>,
    install: Option<String>,
    writes: bool,
    durability: String,
    settings: Vec<String>,
}

impl Custom {
    /// The peers that `text` describes, by name.
    ///
    /// # Errors
    /// [`CustomError`], which says what is wrong and where.
    pub fn parse(text: &str) -> Result<Vec<Self>, CustomError> {
        let document: Document =
            toml::from_str(text).map_err(|error| CustomError::Form(error.to_string()))?;
        let peers = document.peer.into_iter();
        peers
            .map(|(name, description)| Ok(Self(Arc::new(understand(name, description)?))))
            .collect()
    }
}

fn understand(name: String, from: Description) -> Result<Commands, CustomError> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !begins || !name.chars().all(letters) || choice::is_taken(&name) {
        return Err(CustomError::Name(name));
    }
    let parse = |key: &str, words: &Option<Vec<String>>, known: &[Placeholder]| {
        let words = words.as_deref();
        words
            .map(|words| Template::parse(&name, key, words, known))
            .transpose()
    };
    Ok(Commands {
        serve: parse("serve", &from.serve, Placeholder::OF_SERVER)?,
        ready: parse("ready", &from.ready, Placeholder::OF_SERVER)?,
        mount: Template::parse(&name, "mount", &from.mount, Placeholder::OF_MOUNT)?,
        unmount: parse("unmount", &from.unmount, Placeholder::OF_MOUNT)?,
        check: parse("check", &from.check, &[])?,
        version: parse("version", &from.version, &[])?,
        install: from.install,
        writes: from.writes,
        durability: from.durability.unwrap_or_else(|| "not stated".to_owned()),
        settings: from.settings,
        name,
    })
}

impl Commands {
    /// Its version, if it can run here.
    fn version(&self) -> Result<String, Unavailable> {
        let unavailable = |reason: String| Unavailable {
            reason,
            install: self.install.clone(),
        };
        let values = Values::default();
        for template in [&self.serve, &Some(self.mount.clone())]
            .into_iter()
            .flatten()
        {
            let program = template.program(&values);
            if !program.is_empty() && process::which(&program).is_none() {
                return Err(unavailable(format!("there is no program {program}")));
            }
        }
        if let Some(check) = &self.check {
            answer(&mut check.command(&values)).map_err(unavailable)?;
        }
        let version = self.version.as_ref();
        let version = version.map(|version| answer(&mut version.command(&values)));
        version
            .unwrap_or_else(|| Ok(String::new()))
            .map_err(unavailable)
    }
}

/// The first line that `command` says, or the last as an error if it fails.
fn answer(command: &mut Command) -> Result<String, String> {
    let output = process::run(command, ANSWER_MAX).map_err(|error| error.to_string())?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    if output.status.success() {
        return Ok(lines.next().unwrap_or_default().to_owned());
    }
    let program = command.get_program().to_string_lossy();
    let problem = lines.next_back().map(str::to_owned);
    Err(problem.unwrap_or_else(|| format!("{program} ended with {}", output.status)))
}

impl Peer for Custom {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn info(&self, _site: &Site) -> PeerInfo {
        let settings: Vec<&str> = self.0.settings.iter().map(String::as_str).collect();
        describe(
            &self.0.name,
            self.0.version(),
            &settings,
            &self.0.durability,
        )
    }

    fn writes(&self) -> bool {
        self.0.writes
    }

    fn serve(
        &self,
        site: &Site,
        share: &Path,
        folder: &Path,
    ) -> Result<Box<dyn Served>, PeerError> {
        Ok(Box::new(server::Server::start(
            Arc::clone(&self.0),
            site,
            share,
            folder,
        )?))
    }
}

#[cfg(test)]
mod tests;
