//! The initial files of a Linux kernel, as an archive in cpio's "newc" format.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// An archive under construction.
#[derive(Default, Debug)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds the file or folder at `from`, with all that is in it, as `name`.
    pub fn add(&mut self, from: &Path, name: &str) {
        let added = self.try_add(from, name);
        added.unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    }

    fn try_add(&mut self, from: &Path, name: &str) -> io::Result<()> {
        let mode = fs::metadata(from)?.mode();
        if from.is_file() {
            self.entry(name, mode, &fs::read(from)?);
            return Ok(());
        }
        if !name.is_empty() {
            self.entry(name, mode, &[]);
        }
        for entry in fs::read_dir(from)? {
            let path = entry?.path();
            let file = path.file_name().and_then(|n| n.to_str());
            let inner = format!("{name}/{}", file.expect("a name of text"));
            self.add(&path, inner.trim_start_matches('/'));
        }
        Ok(())
    }

    /// Writes it to `path`.
    pub fn finish(mut self, path: &Path) {
        self.entry("TRAILER!!!", 0, &[]);
        fs::write(path, self.bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let len = |n: usize| u32::try_from(n).expect("small enough for a guest");
        let (size, name_size) = (len(content.len()), len(name.len() + 1));
        // Inode, mode, owner, group, links, time, size, two devices, length of the name, no checksum.
        let head = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            0,
            0,
            name_size,
            0,
        ];
        self.bytes.extend(b"070701");
        for field in head {
            write!(self.bytes, "{field:08x}").expect("writing to memory");
        }
        self.bytes.extend(name.bytes().chain([0]));
        self.align();
        self.bytes.extend(content);
        self.align();
    }

    fn align(&mut self) {
        let len = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(len, 0);
    }
}
