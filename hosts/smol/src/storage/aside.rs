//! A file of the state that cannot be read is kept under another name.

use std::fs;
use std::path::Path;

/// Gives what cannot be what it should be another name, so that it is not looked at again, and what it told is
/// found out anew.
pub(crate) fn set_aside(path: &Path, why: &str) {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".damaged");
    let shown = path.display();
    // What was set aside before may be in the way.
    let _ = fs::remove_file(&aside).or_else(|_| fs::remove_dir(&aside));
    match fs::rename(path, &aside) {
        Ok(()) => log::warn!(
            "{shown}: {why}; it is kept as {}, and what it told is found out anew",
            Path::new(&aside).display()
        ),
        Err(error) => log::warn!("{shown}: {why}; remove it ({error})"),
    }
}
