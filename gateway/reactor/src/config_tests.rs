//! Sizes, charges and fits.

use super::*;
