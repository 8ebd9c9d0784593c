//! `node join`: what is asked, what is written, and what is left alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::process::{command, ended};
use crate::server::Server;

const TOKEN: &str = "correct-horse-battery-staple";

fn server(nodes: &str) -> std::io::Result<Server> {
    Server::answering(
        "200 OK\nContent-Type: application/json",
        format!("{{\"nodes\":[{nodes}]}}"),
    )
}

fn node(id: &str, address: &str, live: bool) -> String {
    format!(
        "{{\"node_id\":\"{id}\",\"address\":\"{address}\",\"version\":\"0\",\"live\":{live},\"last_seen_ms\":1,\
         \"gpus\":[],\"pools\":[]}}"
    )
}

fn token_file(folder: &Path) -> std::io::Result<String> {
    let file = folder.join("token");
    fs::write(&file, format!("{TOKEN}\n"))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    Ok(file.display().to_string())
}

/// REQ-NODE-JOIN.
#[test]
fn a_configuration_is_written_once_and_replaced_only_when_told() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, token) = (
        server(&node("other", "http://10.0.0.9:9200", true))?,
        token_file(folder.path())?,
    );
    let out = folder.path().join("config.toml");
    let path = out.display().to_string();
    let line = [
        "node",
        "join",
        "--auth-token-file",
        &token,
        "--node-id",
        "box-2",
        "--out",
        &path,
    ];
    let done = ended(&mut command(server.addr, &line))?;
    assert_eq!(
        (done.code, done.out.as_str()),
        (Some(0), format!("{path}\n").as_str()),
        "{done:?}"
    );
    assert!(
        done.err.contains("answers and knows no other box-2"),
        "{}",
        done.err
    );
    assert!(done.err.contains("llama-server is not in PATH"), "{}", done.err);
    let asked = server.seen.wait_for("/v1/nodes")?;
    assert_eq!(asked.authorization, format!("Bearer {TOKEN}"));
    let written = fs::read_to_string(&out)?;
    for words in [
        format!("orchestrator_url = \"http://{}\"", server.addr),
        "node_id = \"box-2\"".to_owned(),
        "addr = \"127.0.0.1:9200\"".to_owned(),
        format!("token_file = \"{token}\""),
    ] {
        assert!(written.contains(&words), "{words} not in {written}");
    }
    assert!(
        !format!("{written}{}{}", done.out, done.err).contains(TOKEN),
        "the token is told"
    );
    assert_eq!(fs::metadata(&out)?.permissions().mode() & 0o777, 0o644);

    let again = ended(&mut command(server.addr, &line))?;
    assert_eq!(again.code, Some(8), "{again:?}");
    assert!(
        again.err.contains("--force") && again.err.contains(&path),
        "{}",
        again.err
    );
    assert_eq!(fs::read_to_string(&out)?, written);
    let forced = [&line[..], &["--force", "--listen", "127.0.0.1:9300", "-q"]].concat();
    let forced = ended(&mut command(server.addr, &forced))?;
    assert_eq!((forced.code, forced.err.as_str()), (Some(0), ""), "{forced:?}");
    assert!(fs::read_to_string(&out)?.contains("addr = \"127.0.0.1:9300\""));
    assert_eq!(
        fs::read_dir(folder.path())?.count(),
        2,
        "something is left behind"
    );
    Ok(())
}

#[test]
fn without_a_file_it_goes_to_stdout_or_into_a_document() -> anyhow::Result<()> {
    let server = server("")?;
    let line = ["node", "join", "--node-id", "box-2"];
    let text = ended(&mut command(server.addr, &line))?;
    assert_eq!(text.code, Some(0), "{text:?}");
    assert!(text.out.starts_with("# pool-managerd of box-2"), "{}", text.out);
    let json = ended(&mut command(server.addr, &[&line[..], &["--json"]].concat()))?;
    let document: Value = serde_json::from_str(&json.out)?;
    assert_eq!(
        (&document["node_id"], &document["address"]),
        (&"box-2".into(), &"http://127.0.0.1:9200".into())
    );
    assert_eq!(document["configuration"], text.out.as_str());
    assert_eq!(document.get("written"), None);
    Ok(())
}

/// REQ-NODE-JOIN: every refusal has its exit code, and writes nothing.
#[test]
fn what_cannot_join_is_told_why() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("config.toml").display().to_string();
    let refused = |code: &str| format!("{{\"code\":\"{code}\",\"message\":\"m\",\"retriable\":false}}");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let taken = server(&node("box-2", "http://10.0.0.9:9200", true))?;
    let cases = [
        (nobody, 3, "cannot be reached", vec![]),
        (
            Server::answering("401 Unauthorized", refused("MISSING_TOKEN"))?.addr,
            4,
            "set AUTH_TOKEN",
            vec![],
        ),
        (
            Server::answering("403 Forbidden", refused("FORBIDDEN"))?.addr,
            4,
            "told to allow",
            vec![],
        ),
        (taken.addr, 5, "--node-id", vec![]),
        (
            server("")?.addr,
            2,
            "--auth-token-file",
            vec!["--listen", "10.0.0.5:9200"],
        ),
        (
            server("")?.addr,
            8,
            "no-such-folder",
            vec!["--out", "/no-such-folder/config.toml"],
        ),
    ];
    for (addr, code, words, more) in cases {
        let mut line = vec!["node", "join", "--node-id", "box-2"];
        if !more.contains(&"--out") {
            line.extend(["--out", &out]);
        }
        line.extend(more);
        let done = ended(&mut command(addr, &line))?;
        assert_eq!((done.code, done.out.as_str()), (Some(code), ""), "{done:?}");
        assert!(done.err.contains(words), "{words}: {}", done.err);
        assert_eq!(
            fs::read_dir(folder.path())?.count(),
            0,
            "{words}: something was written"
        );
    }
    // A dead node of that name is this one before it was set up anew; a live one at this address is this one.
    for known in [
        node("box-2", "http://10.0.0.9:9200", false),
        node("box-2", "http://127.0.0.1:9200/", true),
    ] {
        let done = ended(&mut command(
            server(&known)?.addr,
            &["node", "join", "--node-id", "box-2"],
        ))?;
        assert_eq!(done.code, Some(0), "{done:?}");
    }
    Ok(())
}
