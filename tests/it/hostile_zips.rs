//! hostile_zips
