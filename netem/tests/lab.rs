//! Labs for real: namespaces, TUN devices, `tc`. Starts itself anew as the first process of a sandbox,
//! so it has a `main` of its own rather than the usual harness.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![allow(
    clippy::print_stdout,
    reason = "a harness of its own prints what it did"
)]

use rustix::process::{Signal, pidfd_send_signal};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Command, ExitCode};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use wormhole_netem::{Backend, Lab, LabError, LinkEnd, Loss, Profile, sandbox};

const INSIDE: &str = "--inside-sandbox";
/// A process that is easily told from others: it sleeps for just so long.
const SLEEP_SECONDS: &str = "86399.75";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some(INSIDE) {
        sandbox::enter().expect("a sandbox");
        match args.next().as_deref() {
            Some("killed") => until_killed(),
            _ => inside(),
        }
        return ExitCode::SUCCESS;
    }
    if let Err(error) = sandbox::claim() {
        eprintln!("netem's labs did not run: {error}");
        return ExitCode::SUCCESS;
    }
    ends_with_its_sandbox();
    let status = started(&["all"], |_, _| {});
    assert!(status, "the tests inside the sandbox failed");
    ExitCode::SUCCESS
}

/// Runs this program in a sandbox; `meanwhile` gets its first line and a handle. Whether it succeeded.
fn started(args: &[&str], meanwhile: impl FnOnce(&str, OwnedFd) + Send) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let (mut read, write) = std::io::pipe().unwrap();
    command.arg(INSIDE).args(args).stdout(write);
    std::thread::scope(|scope| {
        let (sender, handle) = mpsc::channel();
        let running = scope.spawn(move || {
            let status = sandbox::run(&mut command, |handle| sender.send(handle).unwrap());
            status.expect("a sandbox").success()
        });
        let mut line = String::new();
        BufReader::new(&mut read).read_line(&mut line).unwrap();
        let handle = handle.recv().unwrap();
        let again = handle.try_clone().unwrap();
        let done = catch_unwind(AssertUnwindSafe(|| meanwhile(line.trim(), handle)));
        if let Err(panic) = done {
            // Else this would wait for the sandbox before it says so.
            let _ = pidfd_send_signal(again, Signal::KILL);
            resume_unwind(panic);
        }
        running.join().unwrap()
    })
}

/// Killed without warning, a sandbox takes all it started along.
fn ends_with_its_sandbox() {
    let ok = started(&["killed"], |line, handle| {
        assert_eq!(line, "ready");
        // A process has no command line for a moment after it was started.
        let began = Instant::now();
        while !sleeper_exists() {
            assert!(began.elapsed() < Duration::from_secs(20), "no sleeper");
            std::thread::sleep(Duration::from_millis(1));
        }
        pidfd_send_signal(handle, Signal::KILL).unwrap();
    });
    assert!(!ok);
    assert!(!sleeper_exists());
    println!("a killed sandbox leaves nothing behind: ok");
}

fn sleeper_exists() -> bool {
    // Processes come and go while they are looked at.
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        command == format!("sleep\0{SLEEP_SECONDS}\0").as_bytes()
    })
}

fn until_killed() {
    let lab = Lab::open(&Profile::NONE, None, 1).expect("a lab");
    let mut sleep = Command::new("sleep");
    let mut child = lab.mount().spawn(sleep.arg(SLEEP_SECONDS)).unwrap();
    println!("ready");
    child.wait().unwrap();
}

fn inside() {
    plain();
    user_space();
    fast();
    loses();
    cuts();
    carries_streams();
    kernel();
}

/// A UDP socket of an end.
fn socket(end: &LinkEnd) -> UdpSocket {
    let bound = end.within(|| UdpSocket::bind(SocketAddr::new(end.address(), 0)));
    bound.unwrap().unwrap()
}

/// Round trips of small datagrams: the fastest of those that came back, and how many did.
fn probe(lab: &Lab, count: u32, patience: Duration) -> (Duration, u32) {
    let (far, near) = (socket(lab.host()), socket(lab.mount()));
    near.connect(far.local_addr().unwrap()).unwrap();
    near.set_read_timeout(Some(patience)).unwrap();
    far.set_read_timeout(Some(patience)).unwrap();
    let (mut fastest, mut answered) = (Duration::MAX, 0);
    for number in 0..count {
        let began = Instant::now();
        near.send(&number.to_le_bytes()).unwrap();
        let mut packet = [0; 4];
        let Ok((_, from)) = far.recv_from(&mut packet) else {
            continue;
        };
        far.send_to(&packet, from).unwrap();
        if near.recv(&mut packet).is_ok() {
            fastest = fastest.min(began.elapsed());
            answered += 1;
        }
    }
    (fastest, answered)
}

fn plain() {
    let lab = Lab::open(&Profile::NONE, Some(Backend::Tun), 1).expect("a lab");
    assert_eq!(lab.backend(), Backend::Veth);
    let (_, answered) = probe(&lab, 20, Duration::from_secs(5));
    assert_eq!(answered, 20);
    eprintln!("a plain link is a pair of interfaces: ok");
}

fn user_space() {
    let lab = match Lab::open(&Profile::WAN_GOOD, Some(Backend::Tun), 1) {
        Err(error @ LabError::Tun(_)) => {
            eprintln!("netem's user-space link did not run: {error}");
            return;
        }
        lab => lab.expect("a lab"),
    };
    assert_eq!(lab.backend(), Backend::Tun);
    let (fastest, answered) = probe(&lab, 20, Duration::from_secs(5));
    assert_eq!(answered, 20);
    assert!(fastest >= Profile::WAN_GOOD.rtt, "{fastest:?}");
    let counters = lab.counters().expect("it counts");
    assert!(counters.iter().all(|c| c.delivered >= 20 && c.lost == 0));
    eprintln!("a link in user space delays and loses nothing: ok");
}

fn fast() {
    let Ok(lab) = Lab::open(&Profile::LAN, Some(Backend::Tun), 1) else {
        return;
    };
    let (fastest, answered) = probe(&lab, 200, Duration::from_secs(5));
    assert_eq!(answered, 200);
    let own = lab.own_cost().expect("it knows");
    assert!(own > Duration::ZERO);
    assert!(fastest >= Profile::LAN.rtt, "{fastest:?} with {own:?}");
    eprintln!("a fast link takes its own part off and is never too fast: ok");
}

fn loses() {
    let profile = Profile {
        rtt: Duration::from_millis(1),
        loss: Loss::Random { ppm: 300_000 },
        ..Profile::NONE
    };
    let Ok(lab) = Lab::open(&profile, Some(Backend::Tun), 1) else {
        return;
    };
    let (_, answered) = probe(&lab, 40, Duration::from_millis(200));
    let counters = lab.counters().expect("it counts");
    assert!(answered > 0 && answered < 40, "{answered} of 40");
    assert!(counters.iter().all(|c| c.lost > 0), "{counters:?}");
    eprintln!("a lossy link loses some: ok");
}

/// What a sender hands over as one crosses the link packet by packet.
fn cuts() {
    const PACKETS: usize = 10;
    const DATA: usize = 1000;
    let Ok(lab) = Lab::open(&Profile::LAN, Some(Backend::Tun), 1) else {
        return;
    };
    let (far, near) = (socket(lab.host()), socket(lab.mount()));
    far.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let segment = libc::c_int::try_from(DATA).unwrap();
    // SAFETY: the socket is open, and the value a c_int whose size is given.
    let done = unsafe {
        libc::setsockopt(
            near.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const segment).cast(),
            libc::socklen_t::try_from(size_of_val(&segment)).unwrap(),
        )
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    let data: Vec<u8> = (0..PACKETS * DATA)
        .map(|index| u8::try_from(index % 251).unwrap())
        .collect();
    let offered = || -> u64 {
        lab.counters()
            .expect("it counts")
            .map(|c| c.offered)
            .iter()
            .sum()
    };
    let before = offered();
    near.send_to(&data, far.local_addr().unwrap()).unwrap();
    let mut received = Vec::new();
    while received.len() < data.len() {
        let mut packet = [0; 2 * DATA];
        let length = far.recv(&mut packet).unwrap();
        assert_eq!(length, DATA);
        received.extend_from_slice(&packet[..length]);
    }
    assert!(received == data, "other bytes arrived");
    // It counts before it sleeps, so the last sleep's count may lack what woke it.
    let began = Instant::now();
    while offered() < before + PACKETS as u64 {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{:?}",
            lab.counters()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    eprintln!("what is handed over as one crosses in single packets: ok");
}

/// A long TCP stream over a link that loses some of it.
fn carries_streams() {
    const BYTES: usize = 8 << 20;
    let profile = Profile {
        rtt: Duration::from_millis(1),
        loss: Loss::Random { ppm: 2_000 },
        ..Profile::NONE
    };
    let Ok(lab) = Lab::open(&profile, Some(Backend::Tun), 1) else {
        return;
    };
    let address = SocketAddr::new(lab.host().address(), 0);
    let listener = lab.host().within(|| TcpListener::bind(address));
    let listener = listener.unwrap().unwrap();
    let address = listener.local_addr().unwrap();
    let byte = |index: usize| u8::try_from(index % 251).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = listener.accept().unwrap().0;
            stream.write_all(&(0..BYTES).map(byte).collect::<Vec<_>>())
        });
        let stream = lab.mount().within(|| TcpStream::connect(address));
        let mut received = Vec::new();
        stream.unwrap().unwrap().read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), BYTES);
        let wrong = received.iter().enumerate().find(|(i, b)| **b != byte(*i));
        assert_eq!(wrong, None);
    });
    let [forth, _] = lab.counters().expect("it counts");
    assert!(forth.lost > 0, "{forth:?}");
    assert!(forth.delivered > BYTES as u64 / 1500, "{forth:?}");
    eprintln!("a stream crosses in single packets, whole though some are lost: ok");
}

fn kernel() {
    let lab = match Lab::open(&Profile::WAN_GOOD, Some(Backend::Tc), 1) {
        Err(error @ LabError::NoNetem(_)) => {
            eprintln!("netem's link in the kernel did not run: {error}");
            return;
        }
        lab => lab.expect("a lab"),
    };
    assert_eq!(lab.backend(), Backend::Tc);
    let (fastest, answered) = probe(&lab, 20, Duration::from_secs(5));
    assert_eq!(answered, 20);
    assert!(fastest >= Profile::WAN_GOOD.rtt, "{fastest:?}");
    eprintln!("a link in the kernel delays and loses nothing: ok");
}
