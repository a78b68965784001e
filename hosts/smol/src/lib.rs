//! The everseed daemon as a library.
