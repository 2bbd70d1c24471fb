//! Repository checks as tests and generated code.
