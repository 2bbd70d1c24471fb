//! A receiver and what it answers.
