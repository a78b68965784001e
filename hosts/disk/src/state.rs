//! Which paths belong to a state of everseed. Passkeys are in it, so it is shared with nobody.

use std::path::{Path, PathBuf};

/// Whether a folder is a state of everseed, whichever process uses it.
pub fn is_state(folder: &Path) -> bool {
    let has = |name| folder.join(name).symlink_metadata().is_ok();
    ALWAYS_THERE.into_iter().all(has)
}

/// The state that a path belongs to: it is the state itself, a file in it, or in one of its folders. Folders that its
/// owner has put into the state are the owner's.
pub fn state_of(path: &Path) -> Option<PathBuf> {
    let real = path.canonicalize().ok()?;
    let holds = |above: &&Path| is_state(above) && is_ours(above, &real);
    real.ancestors().find(holds).map(Path::to_owned)
}

fn is_ours(state: &Path, path: &Path) -> bool {
    let within = path.strip_prefix(state).unwrap_or(path);
    within.components().next().is_none_or(|first| {
        let first = Path::new(first.as_os_str());
        FOLDERS.iter().any(|name| first == Path::new(name)) || !state.join(first).is_dir()
    })
}

/// What every state has, from its first use on.
pub(crate) const ALWAYS_THERE: [&str; 3] = ["lock", FOLDERS[0], FOLDERS[1]];

const FOLDERS: [&str; 2] = ["made", "given"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_belongs_to_a_state() {
        let scratch = Scratch::new("state-of");
        let root = scratch.path().canonicalize().unwrap();
        for folder in ["state/made", "state/given", "state/films/made", "w/given"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for file in ["state/lock", "state/catalogue", "state/given/0.torrent"] {
            fs::write(root.join(file), "").unwrap();
        }
        symlink(root.join("state/given"), root.join("link")).unwrap();
        for (path, belongs) in [
            ("state", true),
            ("state/catalogue", true),
            ("state/given", true),
            ("state/given/0.torrent", true),
            ("link", true),
            ("link/0.torrent", true),
            ("state/films", false),
            ("state/films/made", false),
            ("state/gone", false),
            ("w/given", false),
            ("", false),
        ] {
            let state = belongs.then(|| root.join("state"));
            assert_eq!(state_of(&root.join(path)), state, "{path}");
        }
    }
}
