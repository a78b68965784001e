//! Torrent content on a std file system.
