//! What follows from an attempt to write.

use super::*;
