//! The simulation as a whole: seeds hold, repeat exactly, and find what is broken on purpose.

mod determinism;
mod mutations;
mod seeds;
