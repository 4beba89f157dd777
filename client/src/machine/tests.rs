mod chaos;
mod coming;
mod going;
mod linking;
mod rig;
