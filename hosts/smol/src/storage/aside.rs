//! Renaming of state files that cannot be read, which keeps them as `NAME.damaged`.

use std::fs;
use std::path::Path;

/// Renames a file of the state that is damaged or not a file at all. It is then not read again, and its contents are
/// found out anew.
pub(crate) fn set_aside(path: &Path, why: &str) {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".damaged");
    let shown = path.display();
    // An earlier damaged file may have this name.
    let _ = fs::remove_file(&aside).or_else(|_| fs::remove_dir(&aside));
    match fs::rename(path, &aside) {
        Ok(()) => log::warn!(
            "{shown}: {why}; it is kept as {}, and what it told is found out anew",
            Path::new(&aside).display()
        ),
        Err(error) => log::warn!("{shown}: {why}; remove it ({error})"),
    }
}
