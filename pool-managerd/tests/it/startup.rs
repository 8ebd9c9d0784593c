//! Starting: what is refused, and how it is said.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use test_harness_support::daemon::Command;

use crate::rig::Rig;

const SOON: Duration = Duration::from_secs(30);

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pool-managerd"))
}

/// REQ-FAULT-MANAGER-TWICE.
#[tokio::test]
async fn two_managers_cannot_share_a_state_directory() -> Result<()> {
    let rig = Rig::new().await?;
    let first = rig.start().await?;
    let second = rig.command()?.spawn()?;
    assert_eq!(second.wait(SOON).await?.code(), Some(1));
    let said = second.stderr();
    assert!(
        said.contains("in use by another pool-managerd")
            && said.contains(&format!("(pid {})", first.daemon.pid())),
        "{said}"
    );
    assert_eq!(second.stdout(), "", "nothing is announced");
    Ok(())
}

/// ORCH-3434: another state directory does not make it another GPU.
/// REQ-FAULT-MANAGER-TWICE.
#[tokio::test]
async fn two_managers_cannot_share_a_gpu() -> Result<()> {
    let rig = Rig::new().await?;
    let first = rig.start().await?;
    let elsewhere = rig.dir.path().join("another-state").display().to_string();
    let second = rig.command()?.args(["--state-dir", &elsewhere]).spawn()?;
    assert_eq!(second.wait(SOON).await?.code(), Some(1));
    let said = second.stderr();
    assert!(
        said.contains(&format!("GPU {} cannot be taken", rig.devices[0]))
            && said.contains(&format!("(pid {})", first.daemon.pid())),
        "{said}"
    );
    first.stop().await?;
    let second = rig.command()?.args(["--state-dir", &elsewhere]).start().await?;
    assert!(second.exit_status().is_none());
    Ok(())
}

#[tokio::test]
async fn a_taken_address_is_named() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let rig = Rig::new().await?;
    let process = rig.command()?.args(["--addr", &address]).spawn()?;
    assert_eq!(process.wait(SOON).await?.code(), Some(1));
    let said = process.stderr();
    assert!(
        said.contains(&address) && said.contains("another program listens there"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn beyond_loopback_a_token_is_needed() -> Result<()> {
    let rig = Rig::new().await?;
    let process = rig.command()?.args(["--addr", "0.0.0.0:0"]).spawn()?;
    assert_eq!(process.wait(SOON).await?.code(), Some(1));
    assert!(process.stderr().contains("40301"), "{}", process.stderr());
    let process = rig
        .command()?
        .args(["--orchestrator-url", "http://192.0.2.1:8080"])
        .spawn()?;
    assert_eq!(process.wait(SOON).await?.code(), Some(1));
    assert!(
        process.stderr().contains("no token is configured"),
        "{}",
        process.stderr()
    );
    Ok(())
}

/// REQ-RELAY-REACH.
#[tokio::test]
async fn an_orchestrator_on_another_host_must_be_told_an_address() -> Result<()> {
    let mut rig = Rig::new().await?;
    rig.variables
        .push(("AUTH_TOKEN".into(), "a-token-for-this-test".into()));
    let far = [
        "--addr",
        "0.0.0.0:0",
        "--orchestrator-url",
        "http://192.0.2.1:8080",
    ];
    let process = rig.command()?.args(far).spawn()?;
    assert_eq!(process.wait(SOON).await?.code(), Some(1));
    let said = process.stderr();
    assert!(
        said.contains("pool_managerd.advertise_url") && said.contains("http://192.0.2.1:8080"),
        "{said}"
    );
    assert_eq!(process.stdout(), "");
    Ok(())
}

#[tokio::test]
async fn a_broken_configuration_is_told_with_file_line_and_key() -> Result<()> {
    let rig = Rig::new().await?;
    let path = rig.config()?;
    let text = fs::read_to_string(&path)?.replace("slots = 2", "slots = 0\nslotz = 2");
    fs::write(&path, text)?;
    for arguments in [&["run"][..], &["config", "check"], &["config", "dump"], &[]] {
        let process = program().arg("--config").arg(&path).args(arguments).spawn()?;
        assert_eq!(process.wait(SOON).await?.code(), Some(2), "{arguments:?}");
        let said = process.stderr();
        for words in ["config.toml:", "pools[0].slots", "slotz"] {
            assert!(said.contains(words), "{words} not in {said}");
        }
        assert_eq!(process.stdout(), "");
    }
    Ok(())
}

#[tokio::test]
async fn a_configuration_can_be_looked_at_without_running() -> Result<()> {
    let mut rig = Rig::new().await?;
    rig.env = "HUB_SECRET = \"canary-of-the-pool\"".into();
    let path = rig.config()?;
    let check = program()
        .arg("--config")
        .arg(&path)
        .args(["config", "check"])
        .spawn()?;
    assert_eq!(check.wait(SOON).await?.code(), Some(0));
    assert!(check.stdout().contains("usable"), "{}", check.logs());
    let dump = program()
        .arg("--config")
        .arg(&path)
        .args(["config", "dump", "--node-id", "by-flag"])
        .env("AUTH_TOKEN", "canary-of-the-daemon")
        .spawn()?;
    assert_eq!(dump.wait(SOON).await?.code(), Some(0));
    let shown = dump.stdout();
    assert!(
        shown.contains("node_id = \"by-flag\"") && shown.contains("flag --node-id"),
        "{shown}"
    );
    assert!(!dump.logs().contains("canary"), "{shown}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_flag_is_a_usage_error_and_help_is_not() -> Result<()> {
    let wrong = program().arg("--adr").spawn()?;
    assert_eq!(wrong.wait(SOON).await?.code(), Some(2));
    assert!(wrong.stderr().contains("--addr"), "{}", wrong.stderr());
    let help = program().arg("--help").spawn()?;
    assert_eq!(help.wait(SOON).await?.code(), Some(0));
    assert!(help.stdout().contains("POOL_MANAGERD_ADDR"), "{}", help.stdout());
    Ok(())
}

#[tokio::test]
async fn the_first_line_is_the_bound_address() -> Result<()> {
    let rig = Rig::new().await?;
    let node = rig.start().await?;
    let line = format!("listening {}\n", node.daemon.base_url());
    assert_eq!(node.daemon.stdout(), line);
    Ok(())
}
