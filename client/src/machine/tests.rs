mod chaos;
mod coming;
mod going;
mod hostile;
mod linking;
mod rig;
