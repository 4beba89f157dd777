//! Configuration: flags over environment over file over what stands here (docs/configuration.md).
//!
//! A key of the file is `section.name`; in the environment it is `TIDEGATE_SECTION__NAME`. A key that nobody knows is
//! an error in the file. In the environment it is only told, because other tools may use the prefix too.

mod environment;
mod retention;
mod sections;

pub use environment::{Environment, variable};
pub use retention::RetentionConfig;
pub use sections::{
    ConfigLimits, LogConfig, MeshConfig, NetworkConfig, StorageConfig, TokenConfig, UsersConfig, WriteChoice,
};

use crate::cli;
use crate::limits::SHARDS_MAX;
use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Everything that an operator may set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Directory of logs, manifest and token secret.
    pub data: PathBuf,
    /// Address of the WebSockets.
    #[serde(deserialize_with = "sections::address")]
    pub listen: SocketAddr,
    /// Address of the admin endpoint.
    #[serde(deserialize_with = "sections::address")]
    pub admin: SocketAddr,
    /// Pinned threads; as many as cores if absent.
    pub shards: Option<u16>,
    /// Whether `/echo` is served.
    pub echo: bool,
    /// Log lines.
    pub log: LogConfig,
    /// What tokens are signed with.
    pub token: TokenConfig,
    /// Who is a user.
    pub users: UsersConfig,
    /// The log on disk.
    pub storage: StorageConfig,
    /// How long messages are kept.
    pub retention: RetentionConfig,
    /// Rings between shards.
    pub mesh: MeshConfig,
    /// Sockets.
    pub network: NetworkConfig,
    /// Bounds of every shard.
    pub limits: ConfigLimits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("./data"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
            shards: None,
            echo: false,
            log: LogConfig::default(),
            token: TokenConfig::default(),
            users: UsersConfig::default(),
            storage: StorageConfig::default(),
            retention: RetentionConfig::default(),
            mesh: MeshConfig::default(),
            network: NetworkConfig::default(),
            limits: ConfigLimits::default(),
        }
    }
}

/// Why there is no configuration. The operator's to change.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The named file is not there or cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A key that is unknown, or a value of the wrong kind; the text names key and source.
    #[error("configuration: {0}")]
    Source(Box<figment::Error>),
    /// A value out of its bounds.
    #[error("configuration: {key} is {value}: {rule}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        rule: String,
    },
}

impl Config {
    /// Merges all sources: `flags` is anything that serialises to keys of this structure.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(
        file: Option<&Path>,
        environment: &Environment,
        flags: impl Serialize,
    ) -> Result<Self, ConfigError> {
        let mut sources = Figment::from(Serialized::defaults(Self::default()));
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Unreadable { path: path.to_path_buf(), source })?;
            sources = sources.merge(NamedToml { path, text: &text });
        }
        let config: Self = sources
            .merge(environment)
            .merge(Serialized::defaults(flags))
            .extract()
            .map_err(|error| ConfigError::Source(Box::new(error)))?;
        config.check()?;
        Ok(config)
    }

    /// The configuration of `tidegate serve`.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn of_serve(flags: &cli::Serve, environment: &Environment) -> Result<Self, ConfigError> {
        let mut config = Self::load(flags.config.as_deref(), environment, flags)?;
        if let Some(format) = flags.log_format {
            config.log.format = format;
        }
        Ok(config)
    }

    /// The configuration of a command that only wants the secret of a directory.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn of_data(
        file: Option<&Path>,
        data: Option<&Path>,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let data = data.map(Path::to_path_buf);
        Self::load(file, environment, cli::Serve { data, ..cli::Serve::default() })
    }

    fn check(&self) -> Result<(), ConfigError> {
        if let Some(shards) = self.shards {
            within("shards", usize::from(shards), 1, usize::from(SHARDS_MAX))?;
        }
        if self.users.open == Some(false) {
            return Err(ConfigError::Value {
                key: "users.open",
                value: String::from("false"),
                rule: String::from("this version cannot yet refuse messages to users it does not know"),
            });
        }
        if self.token.secret.is_some() && self.token.secret_file.is_some() {
            return Err(ConfigError::Value {
                key: "token.secret",
                value: String::from("set"),
                rule: String::from("token.secret_file is set too; set only one of them"),
            });
        }
        if self.data.metadata().is_ok_and(|data| !data.is_dir()) {
            return Err(ConfigError::Value {
                key: "data",
                value: self.data.display().to_string(),
                rule: String::from("it must be a directory, and that is a file"),
            });
        }
        self.log.check()?;
        self.storage.check()?;
        self.retention.check()?;
        self.mesh.check()?;
        self.network.check()?;
        self.limits.check()
    }
}

/// A TOML file whose errors name it.
struct NamedToml<'a> {
    path: &'a Path,
    text: &'a str,
}

impl figment::Provider for NamedToml<'_> {
    fn metadata(&self) -> figment::Metadata {
        // Keys as they stand in the file: without a profile before them.
        figment::Metadata::from("configuration file", self.path).interpolater(|_, keys| keys.join("."))
    }

    fn data(&self) -> Result<figment::value::Map<figment::Profile, figment::value::Dict>, figment::Error> {
        Toml::string(self.text).data()
    }
}

/// Refuses a value outside `low..=high`.
fn within(key: &'static str, value: usize, low: usize, high: usize) -> Result<(), ConfigError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Value { key, value: value.to_string(), rule: format!("it must be {low} to {high}") })
}

/// Refuses a value that is no multiple of `unit`.
fn multiple(key: &'static str, value: usize, unit: usize) -> Result<(), ConfigError> {
    if value.is_multiple_of(unit) {
        return Ok(());
    }
    Err(ConfigError::Value {
        key,
        value: value.to_string(),
        rule: format!("it must be a multiple of {unit}"),
    })
}

#[cfg(test)]
mod tests;
