//! A running server of a user's peer, and mounts of it.

use super::Commands;
use super::template::{Placeholder, Template, Values};
use crate::peer::mount::ProgramMount;
use crate::peer::{LOOK_EVERY, Mounted, PeerError, Served, Site, late};
use crate::process::{self, Child, Failure, PATIENCE, kill_all};
use crate::procfs;
use crate::room::Room;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use wormhole_netem::LinkEnd;

/// In the environment of all that a peer starts, so that what goes on in the background is found.
const MARK: &str = "WORMHOLE_BENCH_PEER";
/// How long one look of `ready` may take.
const READY_MAX: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Server {
    commands: Arc<Commands>,
    values: Values,
    child: Option<Child>,
    mark: String,
}

impl Server {
    pub(super) fn start(
        commands: Arc<Commands>,
        site: &Site,
        share: &Path,
        folder: &Path,
    ) -> Result<Self, PeerError> {
        let address = site.host.address();
        let port = free_port(&site.host)?;
        let values = Values {
            share: share.display().to_string(),
            host: address.to_string(),
            port: port.to_string(),
            folder: folder.display().to_string(),
            mountpoint: String::new(),
        };
        let mut server = Self {
            commands,
            values,
            child: None,
            mark: fresh_mark(),
        };
        if let Some(serve) = &server.commands.serve {
            let what = format!("{}-server", server.commands.name);
            let values = &server.values;
            let child = start(&site.host, &what, folder, serve, values, &server.mark)?;
            server.child = Some(child);
            server.wait(site, SocketAddr::new(address, port))?;
        }
        Ok(server)
    }

    /// Waits until it can be mounted.
    fn wait(&mut self, site: &Site, address: SocketAddr) -> Result<(), PeerError> {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_ready(&site.host, address)? {
            let ended = self.child.as_mut().and_then(Child::ended);
            if let Some(status) = ended.filter(|status| !status.success()) {
                return Err(self.failure(format!("ended with {status}")));
            }
            if Instant::now() > deadline {
                return Err(self.failure(late("not ready", PATIENCE).to_string()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn is_ready(&self, end: &LinkEnd, address: SocketAddr) -> Result<bool, PeerError> {
        if let Some(ready) = &self.commands.ready {
            let mut command = ready.command(&self.values);
            let output = end.within(|| process::run(&mut command, READY_MAX))??;
            return Ok(output.status.success());
        }
        let serve = self.commands.serve.as_ref();
        if serve.is_some_and(|serve| serve.asks_for(Placeholder::Port)) {
            return Ok(end.within(|| TcpStream::connect(address))?.is_ok());
        }
        Ok(true)
    }

    fn failure(&self, problem: String) -> PeerError {
        match &self.child {
            Some(child) => child.failure(problem).into(),
            None => PeerError::Late(problem),
        }
    }
}

/// Starts `template` on `end` with its processes marked.
fn start(
    end: &LinkEnd,
    what: &str,
    folder: &Path,
    template: &Template,
    values: &Values,
    mark: &str,
) -> io::Result<Child> {
    let mut command = template.command(values);
    if let Some((name, value)) = mark.split_once('=') {
        command.env(name, value);
    }
    Child::spawn(end, what, folder, &mut command, false)
}

/// `NAME=value` that nobody else has.
fn fresh_mark() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{MARK}={}-{count}", std::process::id())
}

impl Served for Server {
    fn processes(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self.child.iter().map(Child::id).collect();
        pids.extend(procfs::marked(&self.mark));
        pids
    }

    fn mount(
        &mut self,
        site: &Site,
        path: &Path,
        folder: &Path,
    ) -> Result<Box<dyn Mounted>, PeerError> {
        let values = Values {
            mountpoint: path.canonicalize()?.display().to_string(),
            folder: folder.display().to_string(),
            ..self.values.clone()
        };
        let (mark, what) = (fresh_mark(), format!("{}-mount", self.commands.name));
        let template = &self.commands.mount;
        let child = start(&site.mount, &what, folder, template, &values, &mark)?;
        let mut mount = ProgramMount::new(path, child)?.marked(mark);
        if self.commands.unmount.is_some() {
            let (commands, room) = (Arc::clone(&self.commands), Room::of(&site.mount)?);
            mount = mount.left_by(Box::new(move || leave(&commands, &values, &room)));
        }
        Ok(Box::new(mount))
    }
}

/// Unmounts as the user wants it.
fn leave(commands: &Commands, values: &Values, room: &Room) -> io::Result<()> {
    let Some(unmount) = &commands.unmount else {
        return Ok(());
    };
    let mut command = unmount.command(values);
    let output = room.within(|| process::run(&mut command, PATIENCE))?;
    if output.status.success() {
        return Ok(());
    }
    let problem = Failure {
        what: unmount.program(values),
        problem: format!("ended with {}", output.status),
        log: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    Err(io::Error::other(PeerError::from(problem)))
}

impl Drop for Server {
    fn drop(&mut self) {
        let tree = procfs::tree(&self.processes());
        let processes: Vec<_> = tree.iter().map(|process| process.identity).collect();
        self.child = None;
        kill_all(&processes);
    }
}

/// A port nobody listens on now.
fn free_port(end: &LinkEnd) -> io::Result<u16> {
    let address = (end.address(), 0);
    let listener = end.within(|| TcpListener::bind(address))??;
    Ok(listener.local_addr()?.port())
}
