//! wrong_config
