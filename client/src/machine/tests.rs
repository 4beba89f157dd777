mod coming;
mod going;
mod linking;
pub(crate) mod rig;
