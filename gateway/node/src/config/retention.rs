//! How long messages are kept.

use super::{ConfigError, within};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tidegate_ids::ConversationId;

/// A hundred years.
const DAYS_MAX: u32 = 36_525;

/// How long messages are kept, and how fast the log is rewritten without those whose time is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionConfig {
    /// Days that a message is kept.
    pub days: u32,
    /// Other days for single conversations, by id in hex.
    pub conversations: BTreeMap<String, u32>,
    /// Bytes read and written in a second when segments are rewritten; 0 for no limit.
    pub rewrite_bytes_per_second: u64,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        let rewrite_bytes_per_second = tidegate_storage_files::limits::REWRITE_BYTES_PER_SECOND;
        // Five years, of which one or two are leap years.
        Self { days: 1826, conversations: BTreeMap::new(), rewrite_bytes_per_second }
    }
}

impl RetentionConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("retention.days", self.days as usize, 1, DAYS_MAX as usize)?;
        for (id, days) in &self.conversations {
            within("retention.conversations", *days as usize, 1, DAYS_MAX as usize)?;
            if parse_conversation(id).is_none() {
                return Err(ConfigError::Value {
                    key: "retention.conversations",
                    value: id.clone(),
                    rule: String::from(
                        "a conversation's id is 32 hex digits, as `tidegate-log dump` prints a group's",
                    ),
                });
            }
        }
        Ok(())
    }

    /// The conversations with days of their own.
    pub fn exceptions(&self) -> impl Iterator<Item = (ConversationId, u32)> + '_ {
        self.conversations.iter().filter_map(|(id, days)| Some((parse_conversation(id)?, *days)))
    }
}

/// An id from its 32 hex digits, if a conversation can have it.
fn parse_conversation(text: &str) -> Option<ConversationId> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bits = u128::from_str_radix(text, 16).ok().filter(|_| is_hex)?;
    let id = ConversationId(bits.to_be_bytes());
    id.kind().map(|_| id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_ids::UserId;

    #[test]
    fn only_ids_of_conversations_are_taken() {
        let check = |text: &str, expected: bool| {
            let config = RetentionConfig {
                conversations: BTreeMap::from([(text.to_owned(), 30)]),
                ..RetentionConfig::default()
            };
            assert_eq!(config.check().is_ok(), expected, "{text}");
            assert_eq!(config.exceptions().count(), usize::from(expected), "{text}");
        };
        check("8a8a8a8a8a8a8a8a8a8a8a8a8a8a8a8a", true);
        check("00000000000000070000000000000009", true);
        check("4000000000000000000000000000000a", false);
        check("8a8a", false);
        check("+a8a8a8a8a8a8a8a8a8a8a8a8a8a8a8a", false);
        check("7:9", false);
        let id = parse_conversation("00000000000000070000000000000009");
        assert_eq!(id, Some(ConversationId::direct(UserId(9), UserId(7))));
    }

    #[test]
    fn days_have_bounds() {
        for (days, expected) in [(0, false), (1, true), (36_525, true), (36_526, false)] {
            let config = RetentionConfig { days, ..RetentionConfig::default() };
            assert_eq!(config.check().is_ok(), expected, "{days}");
            let id = String::from("8a8a8a8a8a8a8a8a8a8a8a8a8a8a8a8a");
            let conversations = BTreeMap::from([(id, days)]);
            let config = RetentionConfig { conversations, ..RetentionConfig::default() };
            assert_eq!(config.check().is_ok(), expected, "{days} for one");
        }
    }
}
