//! Tests of the host command, up to the socket.

use super::*;
use crate::host::ShareRules;
use std::path::Path;

fn plan(dir: &Path, folders: &[&str]) -> HostPlan {
    for folder in folders {
        let _ = std::fs::create_dir(dir.join(folder));
    }
    HostPlan {
        folders: folders
            .iter()
            .map(|folder| Folder {
                path: dir.join(folder),
                name: None,
            })
            .collect(),
        listen: Some("127.0.0.1:0".parse().unwrap()),
        advertise: Vec::new(),
        expires: None,
        max_mounts: None,
        ticket_access: Access::Read,
        rules: ShareRules::default(),
        new_ticket: false,
        json: false,
        metrics: None,
        state_dir: dir.join("state"),
    }
}

/// A host on a socket that lives only as long as the call.
fn invite(plan: &HostPlan) -> (Vec<String>, String, String) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let host = start(plan).unwrap();
    let secrets = host
        .invitations
        .iter()
        .map(|i| i.ticket.secret.id().to_string())
        .collect();
    let json = match &host.invitations[..] {
        [one] => serde_json::to_string(&one.json()).unwrap(),
        _ => String::new(),
    };
    (secrets, text(&host.invitations), json)
}

#[test]
fn the_command_that_is_printed_holds_a_ticket_that_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let (_, text, json) = invite(&plan(dir.path(), &["films"]));
    let command = text
        .lines()
        .find_map(|line| line.strip_prefix("    wormhole mount "))
        .unwrap();
    let printed = command.strip_suffix(" <mountpoint>").unwrap();
    let ticket: Ticket = printed.parse().unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["ticket"], printed);
    assert_eq!(json["share"], "films");
    assert_eq!(json["addresses"][0], ticket.addresses[0].to_string());
    assert!(json["expires"].is_null());
    assert_eq!(json["access"], "read-only");
    assert_eq!(json.as_object().unwrap().len(), 5);
}

#[test]
fn either_ticket_of_a_writable_share_says_what_it_is_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut plan = plan(dir.path(), &["a"]);
    let (plain, text, _) = invite(&plan);
    assert!(text.contains("\"a\", read-only.\nOn the"), "{text}");
    plan.rules.access = Access::ReadWrite;
    let (looking, text, json) = invite(&plan);
    assert_eq!(looking, plain, "the ticket to look is the one it was");
    assert!(
        text.contains("read-only.\n") && text.contains("can only be looked at"),
        "{text}"
    );
    assert!(json.contains("\"access\":\"read-only\""), "{json}");
    plan.ticket_access = Access::ReadWrite;
    let (writing, text, json) = invite(&plan);
    assert_ne!(writing, looking);
    assert!(text.contains("\"a\", read-write.\n"), "{text}");
    assert!(text.contains("can change and delete"), "{text}");
    assert!(json.contains("\"access\":\"read-write\""), "{json}");
    assert_eq!(invite(&plan).0, writing, "the same after a restart");
}

#[test]
fn each_folder_has_a_ticket_of_its_own_which_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut plan = plan(dir.path(), &["a", "b"]);
    let (first, text, _) = invite(&plan);
    assert_ne!(first[0], first[1]);
    assert_eq!(text.matches("wormhole mount wh1").count(), 2);
    assert_eq!(invite(&plan).0, first, "the same after a restart");
    plan.new_ticket = true;
    let (renewed, _, _) = invite(&plan);
    assert!(renewed.iter().all(|secret| !first.contains(secret)));
    plan.new_ticket = false;
    assert_eq!(invite(&plan).0, renewed, "the new one stays");
}

#[test]
fn limits_make_a_ticket_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut plan = plan(dir.path(), &["a"]);
    let (plain, _, _) = invite(&plan);
    plan.expires = Some(Duration::from_secs(7200));
    plan.max_mounts = Some(3);
    let (limited, text, json) = invite(&plan);
    assert_ne!(limited, plain);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let expires = humantime::parse_rfc3339(json["expires"].as_str().unwrap()).unwrap();
    let left = expires.duration_since(SystemTime::now()).unwrap();
    assert!(left > Duration::from_secs(7000) && left <= Duration::from_secs(7200));
    assert!(text.contains("at most 3 mounts") && text.contains("until 2"));
    plan.expires = Some(Duration::MAX);
    assert!(invite(&plan).2.contains("\"expires\":null"));
}

#[test]
fn a_port_is_remembered_unless_any_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut plan = plan(dir.path(), &["a"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let port_of = |host: &Host| host.invitations[0].service.state().port();
    assert_eq!(port_of(&start(&plan).unwrap()), None);
    // Somebody has the default port or not: either way one is found, and kept.
    plan.listen = Some("127.0.0.1".parse().unwrap());
    let host = start(&plan).unwrap();
    assert_eq!(port_of(&host), Some(host.listening.port()));
}

#[test]
fn a_host_reports_its_share_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let host = start(&plan(dir.path(), &["a"])).unwrap();
    let json = serde_json::to_string(&host.reporter()()).unwrap();
    assert!(json.contains("\"name\":\"a\""), "{json}");
    assert!(json.contains("\"access\":\"read-only\""), "{json}");
    let ticket = host.invitations[0].ticket.to_string();
    let secret: String = host.invitations[0]
        .ticket
        .secret
        .expose()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert!(!json.contains(&ticket) && !json.contains(&secret));
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut plan = plan(dir.path(), &["a"]);
    plan.folders[0].path = dir.path().join("none");
    let error = start(&plan).err().unwrap();
    assert!(format!("{error:#}").contains("none"), "{error:#}");
}
