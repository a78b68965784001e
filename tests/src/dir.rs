//! Folders that are removed after their test.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// A new folder below the build's temporary folder, removed when dropped.
#[derive(Debug)]
pub struct Dir(PathBuf);

impl Dir {
    /// Makes a folder; `name` helps who looks at a hanging test.
    pub fn new(name: &str) -> Dir {
        Dir::below(&target().join("tmp"), name)
    }

    /// Makes a folder in memory, if the machine has such a file system.
    pub fn in_memory(name: &str) -> Dir {
        let shm = Path::new("/dev/shm");
        match shm.is_dir() {
            true => Dir::below(shm, name),
            false => Dir::new(name),
        }
    }

    fn below(base: &Path, name: &str) -> Dir {
        static SWEEP: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        SWEEP.call_once(|| sweep(&target().join("tmp")));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("swarm-{}-{number}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Dir(path)
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// A subfolder, made if it is missing.
    pub fn sub(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // A client that was just killed may still be making a file.
        let _ = fs::remove_dir_all(&self.0).or_else(|_| fs::remove_dir_all(&self.0));
    }
}

/// The build's target folder; this program lies in it at `PROFILE/deps/NAME`.
pub fn target() -> PathBuf {
    let exe = std::env::current_exe().expect("the path of this program");
    let target = exe.ancestors().nth(3).expect("a path below target");
    target.to_path_buf()
}

/// Removes the folders of test programs that were killed.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|n| n.strip_prefix("swarm-")?.split('-').next());
        let dead = |pid: &str| !Path::new("/proc").join(pid).exists();
        if pid.is_some_and(dead) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
