//! The sections of the configuration.

use super::{ConfigError, multiple, within};
use crate::cli::LogFormat;
use serde::{Deserialize, Deserializer, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use tidegate_ids::MonotonicNs;
use tidegate_shard::{MESH_FRAME_BYTES_MAX, ShardLimits};
use tidegate_storage_log::limits::{
    BATCH_BYTES_MAX, BATCH_BYTES_MIN, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SPARE_SEGMENTS_MAX,
};

/// Log lines, on stderr.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// Which lines: `level` or `target=level`, separated by commas.
    pub filter: String,
    /// How they look.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: String::from("info"), format: LogFormat::Text }
    }
}

/// The levels of a filter.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl LogConfig {
    /// A word that is no level would name a target, and silence all others.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let is_level = |level: &str| LEVELS.iter().any(|known| level.trim().eq_ignore_ascii_case(known));
        let is_known = |part: &str| is_level(part.rsplit_once('=').map_or(part, |(_, level)| level));
        if self.filter.split(',').all(is_known) {
            return Ok(());
        }
        let rule = format!("it must be a level ({}) or target=level, separated by commas", LEVELS.join(", "));
        Err(ConfigError::Value { key: "log.filter", value: self.filter.clone(), rule })
    }
}

/// Reads an address; an error says how one looks.
pub(super) fn address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    crate::cli::address(&String::deserialize(from)?).map_err(serde::de::Error::custom)
}

/// What tokens are signed with. With neither, a secret is made in the data directory.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// The secret itself.
    pub secret: Option<String>,
    /// A file that holds it; a line end at its end is not part of it.
    pub secret_file: Option<PathBuf>,
}

impl core::fmt::Debug for TokenConfig {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let secret = self.secret.as_ref().map(|_| "…");
        f.debug_struct("TokenConfig")
            .field("secret", &secret)
            .field("secret_file", &self.secret_file)
            .finish()
    }
}

/// Who is a user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsersConfig {
    /// Whether any user id may be written to.
    pub open: Option<bool>,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WriteChoice {
    /// Direct where the file system takes it, else linked.
    #[default]
    Auto,
    /// Through the page cache, a write linked to its fdatasync.
    Linked,
    /// O_DIRECT and O_DSYNC.
    Direct,
}

/// The log on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageConfig {
    /// Size of a segment file.
    pub segment_bytes: u32,
    /// Memory of a shard for records that are not yet shipped to every other shard.
    pub staging_bytes: usize,
    /// A batch is closed at this size.
    pub batch_bytes_max: u32,
    /// How batches are written.
    pub write_mode: WriteChoice,
    /// Segments zeroed ahead, for each shard.
    pub spares: usize,
    /// Bytes that the disk has left when commands are refused.
    pub free_bytes_min: u64,
    /// A snapshot is made when so much of the logs is not in the newest one.
    pub snapshot_bytes: u64,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            staging_bytes: 17 << 20,
            batch_bytes_max: 1 << 20,
            write_mode: WriteChoice::Auto,
            spares: 2,
            free_bytes_min: 256 << 20,
            snapshot_bytes: 256 << 20,
        }
    }
}

impl StorageConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let segment_bytes = self.segment_bytes as usize;
        within(
            "storage.segment_bytes",
            segment_bytes,
            SEGMENT_BYTES_MIN as usize,
            SEGMENT_BYTES_MAX as usize,
        )?;
        let batch_bytes_max = self.batch_bytes_max as usize;
        within(
            "storage.batch_bytes_max",
            batch_bytes_max,
            BATCH_BYTES_MIN as usize,
            BATCH_BYTES_MAX as usize,
        )?;
        // One batch open, one in flight, two to be read, each with its slack (`AppenderConfig::check`).
        within("storage.staging_bytes", self.staging_bytes, 4 * (batch_bytes_max + 4096), 1 << 32)?;
        within("storage.spares", self.spares, 1, SPARE_SEGMENTS_MAX)?;
        within("storage.snapshot_bytes", self.snapshot_bytes as usize, 4096, 1 << 40)?;
        multiple("storage.segment_bytes", segment_bytes, 4096)?;
        multiple("storage.batch_bytes_max", batch_bytes_max, 4096)
    }
}

/// Rings between shards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeshConfig {
    /// Memory of each of the two rings of an ordered pair of shards.
    pub ring_bytes: usize,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self { ring_bytes: 1 << 20 }
    }
}

impl MeshConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("mesh.ring_bytes", self.ring_bytes, 2 * MESH_FRAME_BYTES_MAX, tidegate_mesh::RING_BYTES_MAX)
    }
}

/// Sockets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Connections that the kernel holds until they are accepted, for each shard.
    pub backlog: u16,
    /// Receive buffers of a shard, a power of two.
    pub receive_buffers: u16,
    /// Bytes of each.
    pub receive_buffer_bytes: u32,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self { backlog: 4096, receive_buffers: 1024, receive_buffer_bytes: 4096 }
    }
}

impl NetworkConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("network.backlog", usize::from(self.backlog), 1, 65_535)?;
        within("network.receive_buffers", usize::from(self.receive_buffers), 16, 1 << 15)?;
        if !self.receive_buffers.is_power_of_two() {
            return Err(ConfigError::Value {
                key: "network.receive_buffers",
                value: self.receive_buffers.to_string(),
                rule: String::from("it must be a power of two"),
            });
        }
        within("network.receive_buffer_bytes", self.receive_buffer_bytes as usize, 512, 1 << 20)
    }
}

/// Bounds of every shard; what each is for stands in docs/configuration.md and at [`ShardLimits`].
#[expect(missing_docs, reason = "each field is documented where it ends up, in ShardLimits")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigLimits {
    pub connections_max: usize,
    pub hot_users_max: usize,
    pub hot_conversations_max: usize,
    pub hot_stays_max: usize,
    pub locators_max: usize,
    pub listed_members_max: usize,
    pub window_entries_max: usize,
    pub pending_max: usize,
    pub parked_max: usize,
    pub reads_in_flight_max: usize,
    pub held_bytes_max: usize,
    pub hello_deadline_ms: u32,
    pub send_stall_ms: u32,
    pub heartbeat_active_ms: u32,
    pub heartbeat_background_ms: u32,
    pub checkpoint_interval_ms: u32,
    pub shutdown_grace_ms: u32,
    pub group_members_max: usize,
    pub devices_max: usize,
}

fn to_ms(ns: u64) -> u32 {
    u32::try_from(ns / MonotonicNs::MILLISECOND).unwrap_or(u32::MAX)
}

fn to_ns(ms: u32) -> u64 {
    u64::from(ms) * MonotonicNs::MILLISECOND
}

impl Default for ConfigLimits {
    fn default() -> Self {
        let limits = ShardLimits::default();
        Self {
            connections_max: limits.connections_max,
            hot_users_max: limits.hot_users_max,
            hot_conversations_max: limits.hot_conversations_max,
            hot_stays_max: limits.hot_stays_max,
            locators_max: limits.locators_max,
            listed_members_max: limits.listed_members_max,
            window_entries_max: limits.window_entries_max,
            pending_max: limits.pending_max,
            parked_max: limits.parked_max,
            reads_in_flight_max: limits.reads_in_flight_max,
            held_bytes_max: limits.held_bytes_max,
            hello_deadline_ms: to_ms(limits.hello_deadline_ns),
            send_stall_ms: to_ms(limits.send_stall_ns),
            heartbeat_active_ms: limits.heartbeat_active_ms,
            heartbeat_background_ms: limits.heartbeat_background_ms,
            checkpoint_interval_ms: to_ms(limits.checkpoint_interval_ns),
            shutdown_grace_ms: to_ms(limits.shutdown_grace_ns),
            group_members_max: limits.domain.group_members_max,
            devices_max: limits.domain.devices_max,
        }
    }
}

impl ConfigLimits {
    /// As a shard takes them.
    #[must_use]
    pub fn to_shard(&self, echo: bool) -> ShardLimits {
        let mut limits = ShardLimits {
            connections_max: self.connections_max,
            hot_users_max: self.hot_users_max,
            hot_conversations_max: self.hot_conversations_max,
            hot_stays_max: self.hot_stays_max,
            locators_max: self.locators_max,
            listed_members_max: self.listed_members_max,
            window_entries_max: self.window_entries_max,
            pending_max: self.pending_max,
            parked_max: self.parked_max,
            reads_in_flight_max: self.reads_in_flight_max,
            held_bytes_max: self.held_bytes_max,
            hello_deadline_ns: to_ns(self.hello_deadline_ms),
            send_stall_ns: to_ns(self.send_stall_ms),
            heartbeat_active_ms: self.heartbeat_active_ms,
            heartbeat_background_ms: self.heartbeat_background_ms,
            checkpoint_interval_ns: to_ns(self.checkpoint_interval_ms),
            shutdown_grace_ns: to_ns(self.shutdown_grace_ms),
            echo,
            ..ShardLimits::default()
        };
        limits.domain.group_members_max = self.group_members_max;
        limits.domain.devices_max = self.devices_max;
        limits
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        const TABLE_MAX: usize = 1 << 28;
        within("limits.connections_max", self.connections_max, 1, 1 << 20)?;
        within("limits.hot_users_max", self.hot_users_max, 1, TABLE_MAX)?;
        within("limits.hot_conversations_max", self.hot_conversations_max, 1, TABLE_MAX)?;
        within("limits.hot_stays_max", self.hot_stays_max, 8192, TABLE_MAX)?;
        within("limits.locators_max", self.locators_max, 1, TABLE_MAX)?;
        within("limits.listed_members_max", self.listed_members_max, 1, 4096)?;
        within("limits.window_entries_max", self.window_entries_max, 1, TABLE_MAX)?;
        within("limits.pending_max", self.pending_max, 1, TABLE_MAX)?;
        within("limits.parked_max", self.parked_max, 1, TABLE_MAX)?;
        let reads_max = tidegate_storage_files::limits::READS_IN_FLIGHT_MAX;
        within("limits.reads_in_flight_max", self.reads_in_flight_max, 1, reads_max)?;
        // A part of it has to have room for one whole message: that of sessions is half at least.
        within("limits.held_bytes_max", self.held_bytes_max, 512 << 10, 1 << 40)?;
        within("limits.hello_deadline_ms", self.hello_deadline_ms as usize, 1, 3_600_000)?;
        within("limits.send_stall_ms", self.send_stall_ms as usize, 1, 3_600_000)?;
        within("limits.heartbeat_active_ms", self.heartbeat_active_ms as usize, 100, 3_600_000)?;
        within("limits.heartbeat_background_ms", self.heartbeat_background_ms as usize, 100, 86_400_000)?;
        within("limits.checkpoint_interval_ms", self.checkpoint_interval_ms as usize, 1, 3_600_000)?;
        within("limits.shutdown_grace_ms", self.shutdown_grace_ms as usize, 0, 600_000)?;
        within("limits.group_members_max", self.group_members_max, 1, 4096)?;
        within("limits.devices_max", self.devices_max, 1, tidegate_domain::DEVICES_PER_USER_MAX)
    }
}
