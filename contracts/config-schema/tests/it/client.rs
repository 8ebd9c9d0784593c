//! What the command line needs.

use config_schema::ClientConfig;
use secrecy::ExposeSecret;

use crate::environment;

fn url(vars: &[(&str, &str)], addr: Option<&str>) -> Result<String, String> {
    let config = ClientConfig::load(&environment(vars), addr, None).map_err(|e| e.to_string())?;
    Ok(config.url.as_str().to_owned())
}

#[test]
fn the_url_comes_from_flag_variable_or_default() {
    let both = [("ORCHD_URL", "https://b:2"), ("ORCHD_ADDR", "0.0.0.0:3")];
    assert_eq!(url(&[], None).unwrap(), "http://127.0.0.1:8080");
    assert_eq!(url(&both, Some("a:1")).unwrap(), "http://a:1");
    assert_eq!(url(&both, Some("https://a")).unwrap(), "https://a");
    assert_eq!(url(&both, None).unwrap(), "https://b:2");
    assert_eq!(url(&both[1..], None).unwrap(), "http://127.0.0.1:3");
}

#[test]
fn bad_values_name_their_flag_or_variable() {
    for (vars, addr, name) in [
        (vec![], Some("http://u:p@x"), "flag --addr"),
        (
            vec![("ORCHD_URL", "ftp://x")],
            None,
            "environment variable ORCHD_URL",
        ),
        (vec![("ORCHD_ADDR", "x")], None, "environment variable ORCHD_ADDR"),
        (vec![("ORCHD_URL", "")], None, "environment variable ORCHD_URL"),
    ] {
        let error = url(&vars, addr).unwrap_err();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn the_token_comes_from_flag_or_variable() {
    let env = environment(&[("AUTH_TOKEN", "of-the-environment")]);
    let token = |flag: Option<&str>| {
        let config = ClientConfig::load(&env, None, flag.map(Into::into)).unwrap();
        config.token.unwrap().expose_secret().to_owned()
    };
    assert_eq!(token(Some("of-the-flag")), "of-the-flag");
    assert_eq!(token(None), "of-the-environment");
    let none = ClientConfig::load(&environment(&[]), None, None).unwrap();
    assert!(none.token.is_none());
    let error = ClientConfig::load(&env, None, Some("hunter2 x".into()))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("flag --auth-token") && !error.contains("hunter2"),
        "{error}"
    );
}
