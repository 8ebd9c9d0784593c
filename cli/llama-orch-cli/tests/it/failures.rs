//! Each kind of failure: its exit code, its hint, and no token anywhere.

use std::net::TcpListener;

use crate::process::{command, ended};
use crate::run::{started, token};
use crate::server::Server;

const TOKEN: &str = "correct-horse-battery-staple";

#[test]
fn every_refusal_has_its_exit_code() -> anyhow::Result<()> {
    for (head, code, exit) in [
        ("400 Bad Request", "INVALID_PARAMS", 5),
        ("401 Unauthorized", "MISSING_TOKEN", 4),
        ("403 Forbidden", "FORBIDDEN", 4),
        ("404 Not Found", "NOT_FOUND", 5),
        ("409 Conflict", "CONFLICT", 5),
        ("413 Content Too Large", "PAYLOAD_TOO_LARGE", 5),
        ("429 Too Many Requests", "QUEUE_FULL_DROP_LRU", 6),
        ("500 Internal Server Error", "INTERNAL", 7),
        ("502 Bad Gateway", "WORKER_RESET", 7),
        ("503 Service Unavailable", "POOL_UNREADY", 6),
        ("504 Gateway Timeout", "DECODE_TIMEOUT", 7),
    ] {
        let body = format!(
            "{{\"code\":\"{code}\",\"message\":\"m\",\"retriable\":false,\"correlation_id\":\"c-77\"}}"
        );
        let server = Server::answering(head, body)?;
        let done = ended(&mut command(server.addr, &["run", "tiny", "hi"]))?;
        assert_eq!(done.code, Some(exit), "{done:?}");
        assert_eq!(done.out, "");
        assert!(done.err.contains(&format!("error: {code} ")), "{}", done.err);
        assert!(done.err.contains("correlation id: c-77"), "{}", done.err);
    }
    Ok(())
}

#[test]
fn a_wrong_token_is_hinted_at_by_its_fingerprint() -> anyhow::Result<()> {
    let refused =
        "{\"code\":\"BAD_TOKEN\",\"numeric_code\":40102,\"message\":\"unknown token\",\"retriable\":false}";
    let server = Server::answering("401 Unauthorized", refused)?;
    let done = ended(command(server.addr, &["pools"]).env("AUTH_TOKEN", TOKEN))?;
    assert_eq!(done.code, Some(4));
    assert!(
        done.err
            .contains("hint: orchestratord does not know token:87cbeb"),
        "{}",
        done.err
    );
    assert!(!done.err.contains(TOKEN), "{}", done.err);
    let done = ended(&mut command(server.addr, &["pools"]))?;
    assert!(done.err.contains("set AUTH_TOKEN"), "{}", done.err);
    Ok(())
}

#[test]
fn nobody_at_the_address_is_unreachable() -> anyhow::Result<()> {
    let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let done = ended(&mut command(addr, &["run", "tiny", "hi"]))?;
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(
        done.err
            .contains(&format!("orchestratord at http://{addr} cannot be reached")),
        "{}",
        done.err
    );
    assert!(
        done.err.contains("hint: is orchestratord running"),
        "{}",
        done.err
    );
    Ok(())
}

#[test]
fn an_error_event_keeps_the_text_and_fails_the_task() -> anyhow::Result<()> {
    let error = "id: 0.2\nevent: error\ndata: {\"code\":\"WORKER_RESET\",\"message\":\"the engine ended\",\
                 \"hint\":\"look at its log\",\"retriable\":true,\"correlation_id\":\"c-1\"}\n\n";
    let server = Server::streaming([&started(), &token(0, "Hel"), error].concat())?;
    let done = ended(&mut command(server.addr, &["run", "tiny", "hi"]))?;
    assert_eq!((done.code, done.out.as_str()), (Some(1), "Hel"));
    assert!(
        done.err
            .contains("error: WORKER_RESET: the engine ended\n  hint: look at its log\n"),
        "{}",
        done.err
    );
    Ok(())
}

#[test]
fn a_task_that_others_end_has_failed() -> anyhow::Result<()> {
    for reason in ["canceled", "deadline"] {
        let server = Server::streaming([started(), crate::run::end(reason)].concat())?;
        let done = ended(&mut command(server.addr, &["run", "tiny", "hi"]))?;
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.err.contains(&format!("■ {reason}")), "{}", done.err);
    }
    Ok(())
}

#[test]
fn mistakes_are_found_before_anything_is_sent() -> anyhow::Result<()> {
    let server = Server::streaming("")?;
    for (line, expected) in [
        (&["run", "tiny", ""][..], "prompt: must not be empty"),
        (
            &["run", "tiny", "hi", "--temperature", "9"],
            "sampling.temperature",
        ),
        (&["run", "tiny"], "<PROMPT>"),
        (&["frobnicate"], "frobnicate"),
        (&["pools", "--auth-token", "with space"], "--auth-token"),
        (&["pools", "--auth-token-file", "/nonexistent"], "/nonexistent"),
    ] {
        let done = ended(&mut command(server.addr, line))?;
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(done.err.contains(expected), "{line:?}: {}", done.err);
        assert!(!done.err.contains("with space"), "{}", done.err);
    }
    assert!(server.seen.all().is_empty(), "{:?}", server.seen.all());
    Ok(())
}

#[test]
fn a_stranger_at_the_address_is_told_apart() -> anyhow::Result<()> {
    let server = Server::answering("200 OK\nContent-Type: text/html", "<html>")?;
    let done = ended(&mut command(server.addr, &["pools"]))?;
    assert_eq!(done.code, Some(7), "{done:?}");
    assert!(
        done.err.contains("really belong to orchestratord"),
        "{}",
        done.err
    );
    Ok(())
}
