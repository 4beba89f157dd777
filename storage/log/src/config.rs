//! The sizes of a log, and where it goes on.

use crate::batch::batch_len;
use crate::buffer::buffer_cost;
use crate::descriptor::BATCH_HEADER_BYTES;
use crate::index::entry_bytes;
use crate::limits::{
    BATCH_BYTES_DEFAULT, BATCH_BYTES_MAX, BATCH_BYTES_MIN, BLOCK_BYTES_MAX, BLOCK_BYTES_MIN,
    RECORD_BYTES_MAX, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
};
use crate::roll::EndingPlan;
use crate::segment::{LogIdentity, PreviousEnd};
use core::fmt;

/// Sizes of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppenderConfig {
    /// Bytes of a segment, a multiple of the block.
    pub segment_bytes: u32,
    /// The device's logical block: 512 to 4096, a power of two.
    pub block_bytes: u32,
    /// Memory for batches that are open, in flight, or not yet passed by every cursor.
    pub staging_bytes: usize,
    /// The most that one write carries, a multiple of 4096.
    pub batch_bytes_max: u32,
}

/// Where a log goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppenderStart {
    /// Whose log.
    pub identity: LogIdentity,
    /// Where it validly ended, as [`crate::Recovered`] says; the default for a new log.
    pub previous: PreviousEnd,
}

/// Sizes that cannot be. The operator's fault: the node does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// `block_bytes` is not 512, 1024, 2048 or 4096.
    Block,
    /// `batch_bytes_max` is out of bounds, no multiple of 4096, or below four blocks.
    Batch,
    /// `segment_bytes` is out of bounds, no multiple of the block, or below five blocks.
    Segment,
    /// `staging_bytes` is below four of the largest batches: one open, one in flight, two to be read.
    Staging,
}

impl Default for AppenderConfig {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            block_bytes: BLOCK_BYTES_MIN,
            staging_bytes: 16 * BATCH_BYTES_DEFAULT as usize,
            batch_bytes_max: BATCH_BYTES_DEFAULT,
        }
    }
}

impl AppenderConfig {
    /// Says what cannot be.
    ///
    /// # Errors
    /// The first size that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        let block = self.block_bytes;
        if !block.is_power_of_two() || !(BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&block) {
            return Err(ConfigError::Block);
        }
        let batch = self.batch_bytes_max;
        let batch_in_bounds = (BATCH_BYTES_MIN..=BATCH_BYTES_MAX).contains(&batch);
        // The segment's header, a batch header and trailer, and still a block for a record.
        if !batch_in_bounds || !batch.is_multiple_of(BATCH_BYTES_MIN) || batch < 4 * block {
            return Err(ConfigError::Batch);
        }
        let segment = self.segment_bytes;
        let in_bounds = (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment);
        // A header, a batch of two blocks, an index, a seal.
        if !in_bounds || !segment.is_multiple_of(block) || segment < 5 * block {
            return Err(ConfigError::Segment);
        }
        let needed = 4 * buffer_cost(batch as usize);
        if self.staging_bytes < needed { Err(ConfigError::Staging) } else { Ok(()) }
    }

    /// The largest record that always fits.
    pub(crate) fn record_bytes_max(&self, plan: &EndingPlan) -> usize {
        let (block, segment_bytes) = (self.block_bytes as usize, self.segment_bytes as usize);
        let fixed = block + batch_len(BATCH_HEADER_BYTES, 1, block);
        let of_batch = self.batch_bytes_max as usize - fixed;
        let ending = plan.bytes(1, plan.index_room(entry_bytes(1)));
        let of_segment = segment_bytes.saturating_sub(fixed + ending);
        RECORD_BYTES_MAX.min(of_batch).min(of_segment)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Block => "block_bytes must be 512, 1024, 2048 or 4096",
            Self::Batch => {
                "batch_bytes_max must be a multiple of 4096 between 4 KiB and 8 MiB, and four blocks"
            }
            Self::Segment => {
                "segment_bytes must be a multiple of the block between 8 KiB and 1 GiB, and five blocks"
            }
            Self::Staging => "staging_bytes must hold four of the largest batches",
        })
    }
}

impl core::error::Error for ConfigError {}
