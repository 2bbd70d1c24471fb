//! What must always hold, as small named checkers. Each keeps what it needs of the past, is told what was seen, and says
//! what is wrong. None of them decides anything in a run.

pub mod committed;
pub mod history;
pub mod leadership;
pub mod matching;
pub mod producers;
pub mod recovery;
pub mod watermark;
