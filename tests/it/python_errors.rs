//! python_errors
