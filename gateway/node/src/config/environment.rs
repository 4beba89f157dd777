//! Environment variables as configuration: `TIDEGATE_LIMITS__LISTED_MEMBERS_MAX` is `limits.listed_members_max`.

use super::Config;
use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};

const PREFIX: &str = "TIDEGATE_";

/// Keys without a default whose value is text even if it looks like a number.
const TEXT_WITHOUT_DEFAULT: [&str; 2] = ["token.secret", "token.secret_file"];

/// The variables that name a key, and the names of those with our prefix that name none.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    values: Vec<(String, Value)>,
    unknown: Vec<String>,
}

/// The variable that sets a key.
#[must_use]
pub fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

impl Environment {
    /// Of this process. Variables that are not UTF-8 are nobody's configuration.
    #[must_use]
    pub fn of_process() -> Self {
        let unicode = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self::new(std::env::vars_os().filter_map(unicode))
    }

    /// Of these variables.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let keys = Config::keys();
        let mut environment = Self::default();
        for (name, value) in variables.into_iter().filter(|(name, _)| name.starts_with(PREFIX)) {
            match keys.iter().find(|key| variable(&key.name) == name) {
                Some(key) => environment.values.push((key.name.clone(), key.read(value))),
                None => environment.unknown.push(name),
            }
        }
        environment
    }

    /// Variables with our prefix that set nothing: worth telling the operator.
    #[must_use]
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }
}

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named("environment").interpolater(|_, keys| variable(&keys.join(".")))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut root = Dict::new();
        for (key, value) in &self.values {
            match key.split_once('.') {
                None => drop(root.insert(key.clone(), value.clone())),
                Some((section, name)) => {
                    let entry = root.entry(section.to_owned()).or_insert_with(|| Value::from(Dict::new()));
                    if let Value::Dict(_, fields) = entry {
                        fields.insert(name.to_owned(), value.clone());
                    }
                }
            }
        }
        Ok(Profile::Default.collect(root))
    }
}

/// A key that exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// `section.name`, or a name alone.
    pub name: String,
    /// What holds if nobody sets it; null for nothing.
    pub default: serde_json::Value,
}

impl Key {
    /// Text stays text; everything else is read as TOML.
    fn read(&self, text: String) -> Value {
        if self.default.is_string() || TEXT_WITHOUT_DEFAULT.contains(&self.name.as_str()) {
            return Value::from(text);
        }
        match text.parse() {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }
}

impl Config {
    /// Every key, with its default.
    #[must_use]
    pub fn keys() -> Vec<Key> {
        let defaults = serde_json::to_value(Self::default()).unwrap_or_default();
        let mut keys = Vec::new();
        for (section, value) in defaults.as_object().into_iter().flatten() {
            match value.as_object() {
                None => keys.push(Key { name: section.clone(), default: value.clone() }),
                Some(fields) => {
                    let key = |(name, value): (&String, &serde_json::Value)| Key {
                        name: format!("{section}.{name}"),
                        default: value.clone(),
                    };
                    keys.extend(fields.iter().map(key));
                }
            }
        }
        keys
    }
}
