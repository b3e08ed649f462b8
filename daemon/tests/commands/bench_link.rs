//! `bench-link`, as `wormhole bench` runs it: two processes and a line of JSON from each.

use super::*;

fn serve(desk: &mut Desk) -> (String, String) {
    let mut child = desk
        .wormhole(&["bench-link", "serve", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    desk.children.push(child);
    let ready: Value = serde_json::from_str(&line).unwrap();
    let text = |name: &str| ready[name].as_str().unwrap().to_owned();
    (text("address"), text("key"))
}

#[test]
fn a_bare_link_is_measured_between_two_processes() {
    let mut desk = Desk::new();
    let (address, key) = serve(&mut desk);
    let fetch = ["bench-link", "fetch", &address, "--key", &key];
    let printed = desk.ok(&[&fetch[..], &["--seconds", "1", "--interval", "50ms"]].concat());
    let transfer: Value = serde_json::from_str(&printed).unwrap();
    assert!(transfer["bytes"].as_u64().unwrap() > 0, "{printed}");
    assert!(transfer["mbit"].as_f64().unwrap() > 0.0);
    assert!(transfer["timeline"].as_array().unwrap().len() > 5);
    assert_eq!(transfer["sender"]["controller"], "steady");
    let printed = desk.ok(&[&fetch[..], &["--exchanges", "5"]].concat());
    let exchanges: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(exchanges["latencies_ms"].as_array().unwrap().len(), 5);
    let said = desk.fails(&["bench-link", "fetch", &address, "--key", &"0".repeat(96)]);
    assert!(said.contains("another key"), "{said}");
    // Asked to end, the source does, in good order.
    let source = desk.children.last_mut().unwrap();
    signal(source.id(), rustix::process::Signal::INT);
    assert!(source.wait().unwrap().success());
}
