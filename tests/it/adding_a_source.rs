//! adding_a_source
