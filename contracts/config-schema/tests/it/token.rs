//! Where the token comes from, and that it appears nowhere.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use config_schema::{Overrides, load};
use secrecy::ExposeSecret;
use tempfile::NamedTempFile;

use crate::{TestFile, environment, load_env};

const TOKEN: &str = "correct-horse-battery";

fn token_file(text: &str, mode: u32) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    std::fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

#[test]
fn a_private_file_or_the_environment_holds_the_token() {
    let file = token_file(&format!("{TOKEN}\n"), 0o600);
    for vars in [("AUTH_TOKEN", TOKEN), ("AUTH_TOKEN_FILE", path(&file))] {
        let loaded = load_env(&[vars]).unwrap();
        assert_eq!(loaded.config.auth.token.as_ref().unwrap().expose_secret(), TOKEN);
        assert!(loaded.warnings.is_empty());
    }
}

#[test]
fn a_file_others_can_reach_is_refused() {
    for mode in [0o640, 0o604, 0o660] {
        let file = token_file(TOKEN, mode);
        let error = load_env(&[("AUTH_TOKEN_FILE", path(&file))])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!("has mode {mode:03o}")) && error.contains("chmod 600"),
            "{error}"
        );
    }
}

#[test]
fn the_environment_wins_over_the_file_and_a_flag_over_both() {
    let named_in_file = token_file("token-of-the-config-file", 0o600);
    let named_by_flag = token_file("token-of-the-flag", 0o600);
    let config = TestFile::new(&format!("[auth]\ntoken_file = {:?}\n", path(&named_in_file)));
    let token = |loaded: config_schema::Loaded| loaded.config.auth.token.unwrap().expose_secret().to_owned();
    assert_eq!(token(config.load(&[]).unwrap()), "token-of-the-config-file");
    let env = [("AUTH_TOKEN", TOKEN)];
    assert_eq!(token(config.load(&env).unwrap()), TOKEN);
    let flag = Overrides::default().set("--auth-token-file", "auth.token_file", Some(path(&named_by_flag)));
    assert_eq!(token(config.load_with(&env, flag).unwrap()), "token-of-the-flag");
}

#[test]
fn two_variables_are_one_too_many() {
    let file = token_file(TOKEN, 0o600);
    let error = load_env(&[("AUTH_TOKEN", TOKEN), ("AUTH_TOKEN_FILE", path(&file))]).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("AUTH_TOKEN_FILE is set as well") && !text.contains(TOKEN),
        "{text}"
    );
}

#[test]
fn unusable_tokens_are_refused_without_being_shown() {
    for bad in ["", "hunter2 with spaces", "hunter2\u{e9}", "hunter2\ttab"] {
        let error = load_env(&[("AUTH_TOKEN", bad)]).unwrap_err().to_string();
        assert!(
            error.contains("AUTH_TOKEN") && !error.contains("hunter2"),
            "{error}"
        );
        let file = token_file(bad, 0o600);
        let error = load_env(&[("AUTH_TOKEN_FILE", path(&file))])
            .unwrap_err()
            .to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
    let error = load_env(&[("AUTH_TOKEN_FILE", "/no/such/token")])
        .unwrap_err()
        .to_string();
    assert!(error.contains("/no/such/token: cannot be read"), "{error}");
}

#[test]
fn a_short_token_is_warned_about() {
    let loaded = load_env(&[("AUTH_TOKEN", "short")]).unwrap();
    assert_eq!(
        loaded.warnings,
        ["the token from environment variable AUTH_TOKEN has 5 characters; at least 16 are advised"]
    );
}

#[test]
fn a_token_in_the_configuration_file_is_refused_with_the_way_out() {
    let problems = TestFile::new(&format!("[auth]\ntoken = \"{TOKEN}\"\n")).problems(&[]);
    assert_eq!(
        problems,
        [
            "llama-orch.toml:2:1: auth.token: the token is never part of this file: use auth.token_file or AUTH_TOKEN"
        ]
    );
}

#[test]
fn the_token_is_in_no_printed_form() {
    let loaded = load_env(&[("AUTH_TOKEN", TOKEN)]).unwrap();
    for text in [
        format!("{loaded:?}"),
        loaded.dump(),
        format!("{:?}", environment(&[("AUTH_TOKEN", TOKEN)])),
    ] {
        assert!(!text.contains(TOKEN), "{text}");
    }
    let error = load(
        &environment(&[("AUTH_TOKEN", TOKEN), ("ORCHD_ADDR", "x")]),
        &Overrides::default(),
    );
    assert!(!format!("{error:?}").contains(TOKEN));
}
