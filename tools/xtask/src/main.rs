//! The project's own tasks: tidy, gen, ci, replay-all, sim.
fn main() {}
