//! Precedence, unknown keys, bounds, and the page that documents every key.

use super::*;
use std::collections::BTreeMap;
use std::io::Write;

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::new(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

fn load(file: &str, variables: &[(&str, &str)], flags: &cli::Serve) -> Result<Config, String> {
    let mut path = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    path.write_all(file.as_bytes()).unwrap();
    Config::load(Some(path.path()), &environment(variables), flags).map_err(|error| error.to_string())
}

#[test]
fn flags_are_over_environment_over_file_over_defaults() {
    let check = |file: &str, variables: &[(&str, &str)], flags: cli::Serve, shards, members, echo| {
        let config = load(file, variables, &flags).unwrap();
        assert_eq!((config.shards, config.limits.listed_members_max, config.echo), (shards, members, echo));
    };
    let none = cli::Serve::default;
    let with = |shards| cli::Serve { shards: Some(shards), ..cli::Serve::default() };
    let file = "shards = 2\necho = true\n[limits]\nlisted_members_max = 32\n";
    check("", &[], none(), None, 64, false);
    check(file, &[], none(), Some(2), 32, true);
    check(file, &[("TIDEGATE_SHARDS", "3")], none(), Some(3), 32, true);
    check(file, &[("TIDEGATE_LIMITS__LISTED_MEMBERS_MAX", "512")], none(), Some(2), 512, true);
    check(file, &[("TIDEGATE_SHARDS", "3")], with(4), Some(4), 32, true);
    check(file, &[("TIDEGATE_ECHO", "false")], none(), Some(2), 32, false);
    check(file, &[("TIDEGATE_ECHO", "false")], cli::Serve { echo: true, ..none() }, Some(2), 32, true);
}

#[test]
fn a_secret_of_digits_stays_text() {
    let digits = "01234567890123456789012345678901";
    let config = load("", &[("TIDEGATE_TOKEN__SECRET", digits)], &cli::Serve::default()).unwrap();
    assert_eq!(config.token.secret.as_deref(), Some(digits));
    assert!(!format!("{config:?}").contains(digits), "a secret is never printed");
}

#[test]
fn an_unknown_key_of_the_file_is_named_and_an_unknown_variable_is_told() {
    let check = |file: &str, needle: &str| {
        let message = load(file, &[], &cli::Serve::default()).unwrap_err();
        assert!(message.contains(needle) && message.contains(".toml"), "{message}");
    };
    check("colour = 1\n", "colour");
    check("[limits]\nlisted_members = 1\n", "listed_members");
    check("[limits]\nlisted_members_max = \"many\"\n", "\"limits.listed_members_max\"");
    check("listen = \"localhost:8080\"\n", "`localhost:8080` is not IP:PORT");
    check("admin = \"127.0.0.1\"\n", "\"admin\"");
    let environment = environment(&[("TIDEGATE_COLOUR", "1"), ("TIDEGATE_ECHO", "true"), ("PATH", "x")]);
    assert_eq!(environment.unknown(), ["TIDEGATE_COLOUR"]);
}

#[test]
fn a_value_out_of_bounds_is_named() {
    let check = |variables: &[(&str, &str)], needle: &str| {
        let message = load("", variables, &cli::Serve::default()).unwrap_err();
        assert!(message.contains(needle), "{message}");
    };
    check(&[("TIDEGATE_SHARDS", "0")], "shards is 0");
    check(&[("TIDEGATE_SHARDS", "65")], "1 to 64");
    check(&[("TIDEGATE_MESH__RING_BYTES", "4096")], "mesh.ring_bytes is 4096");
    check(&[("TIDEGATE_NETWORK__RECEIVE_BUFFERS", "1000")], "power of two");
    check(&[("TIDEGATE_STORAGE__STAGING_BYTES", "1000")], "storage.staging_bytes");
    check(&[("TIDEGATE_SHARDS", "many")], "TIDEGATE_SHARDS");
    check(&[("TIDEGATE_LISTEN", "8080")], "`8080` is not IP:PORT");
    check(
        &[("TIDEGATE_TOKEN__SECRET", "x"), ("TIDEGATE_TOKEN__SECRET_FILE", "y")],
        "token.secret_file is set too",
    );
}

/// `log.filter = "verbose"` was taken for the name of a target: the gateway said nothing at all.
#[test]
fn a_level_that_is_none_is_refused() {
    let check = |filter: &str, is_known: bool| {
        let result = load("", &[("TIDEGATE_LOG__FILTER", filter)], &cli::Serve::default());
        let Err(message) = result else { return assert!(is_known, "{filter}") };
        assert!(!is_known && message.contains("log.filter is"), "{filter}: {message}");
    };
    ["info", "WARN", "off", "warn,tidegate_shard=trace", "tidegate_node=debug, info"]
        .iter()
        .for_each(|filter| check(filter, true));
    ["verbose", "", "info,", "tidegate_shard", "info,tidegate_shard=verbose", "tidegate_shard="]
        .iter()
        .for_each(|filter| check(filter, false));
}

#[test]
fn data_that_is_a_file_is_told_apart() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let data = Some(file.path().to_path_buf());
    let message = load("", &[], &cli::Serve { data, ..cli::Serve::default() }).unwrap_err();
    assert!(message.contains("data is /") && message.contains("must be a directory"), "{message}");
}

/// It was taken, and any user could be written to all the same.
#[test]
fn users_that_are_not_open_are_refused_as_long_as_nothing_enforces_it() {
    let open = |variables: &[(&str, &str)]| {
        load("", variables, &cli::Serve::default()).map(|config| config.users.open)
    };
    assert_eq!(open(&[]).unwrap(), None);
    assert_eq!(
        open(&[("TIDEGATE_LISTEN", "0.0.0.0:1"), ("TIDEGATE_USERS__OPEN", "true")]).unwrap(),
        Some(true)
    );
    let refused = open(&[("TIDEGATE_USERS__OPEN", "false")]).unwrap_err();
    assert!(refused.contains("users.open is false: this version cannot yet refuse"), "{refused}");
}

#[test]
fn every_limit_reaches_the_shard() {
    let defaults = ConfigLimits::default();
    assert_eq!(defaults.to_shard(false), tidegate_shard::ShardLimits::default());
    // A key that is not passed on would leave the default where the changed value should be.
    let before = format!("{:?}", defaults.to_shard(false));
    for key in Config::keys().iter().filter(|key| key.name.starts_with("limits.")) {
        let changed = key.default.as_u64().unwrap() - 1;
        let config =
            load("", &[(&variable(&key.name), &changed.to_string())], &cli::Serve::default()).unwrap();
        assert_ne!(format!("{:?}", config.limits.to_shard(false)), before, "{}", key.name);
    }
}

#[test]
fn single_conversations_have_days_of_their_own() {
    let check = |file: &str, variables: &[(&str, &str)], expected: Result<&[u32], &str>| {
        let found = load(file, variables, &cli::Serve::default());
        let days =
            found.map(|config| config.retention.exceptions().map(|(_, days)| days).collect::<Vec<_>>());
        match (days, expected) {
            (Ok(days), Ok(expected)) => assert_eq!(days, expected),
            (Err(message), Err(needle)) => assert!(message.contains(needle), "{message}"),
            (found, expected) => panic!("{found:?}, not {expected:?}"),
        }
    };
    let id = "8a8a8a8a8a8a8a8a8a8a8a8a8a8a8a8a";
    check("", &[], Ok(&[]));
    check(&format!("[retention.conversations]\n\"{id}\" = 3\n"), &[], Ok(&[3]));
    check("", &[("TIDEGATE_RETENTION__CONVERSATIONS", &format!("{{\"{id}\" = 4}}"))], Ok(&[4]));
    check("[retention.conversations]\n7 = 3\n", &[], Err("retention.conversations"));
    check(&format!("[retention.conversations]\n\"{id}\" = 0\n"), &[], Err("retention.conversations"));
    check("[retention]\ndays = 0\n", &[], Err("retention.days"));
}

/// Rows of the page's tables: `| key | default | meaning |`.
fn documented() -> BTreeMap<String, String> {
    let page = include_str!("../../../../docs/configuration.md");
    let cell = |cell: &str| cell.trim().trim_matches('`').to_owned();
    page.lines()
        .filter(|line| line.starts_with("| `"))
        .filter_map(|line| {
            let mut cells = line.trim_matches('|').split('|');
            Some((cell(cells.next()?), cell(cells.next()?)))
        })
        .collect()
}

#[test]
fn the_page_documents_every_key_with_its_default() {
    let keys: BTreeMap<String, String> = Config::keys()
        .into_iter()
        .map(|key| {
            (key.name, if key.default.is_null() { String::from("–") } else { key.default.to_string() })
        })
        .collect();
    assert_eq!(documented(), keys);
}
