//! The owner's files in a download: they are named once, and never written.

use std::path::{Path, PathBuf};

use everseed_core::bits;
use everseed_core::geometry::TorrentId;
use everseed_disk::owner::Differing;
use everseed_node::Have;

use super::ManagedTorrent;
use crate::net::engine::Engine;
use crate::session::download::{self, DownloadStage, Verdict};
use crate::session::fetch::{CHECKSUM, DISK_FULL};
use crate::text::escape;

impl ManagedTorrent {
    /// Finds the files that may be written, and makes the missing ones. Returns whether the download can begin.
    pub(super) fn claim_files(&mut self, engine: &mut Engine, id: TorrentId) -> bool {
        let good = self.good_pieces(engine, id);
        let Some(download) = &mut self.download else {
            return false;
        };
        if download.is_prepared() {
            // The files may have been checked again.
            if self.content.ours().is_some()
                && let Err(error) = self.content.write_only_own(download.record(), good)
            {
                log::error!("{}: {error}", download.record().display());
            }
            return true;
        }
        // A service seeds the good pieces and downloads the missing ones of other files.
        let is_checked = !self.by_record;
        match download::prepare(&self.content, download, good, is_checked, self.leaves_idle) {
            Ok(Verdict::Begin) => true,
            Ok(Verdict::Check) => {
                engine.remove(id);
                self.check(engine, None);
                false
            }
            Ok(Verdict::Keep(differing)) => {
                let goes_on = download.is_prepared();
                match goes_on {
                    true => download.kept = Some(differing.pieces.clone()),
                    false => download.stage = DownloadStage::Refused(CHECKSUM),
                }
                self.name_owners(&differing);
                goes_on
            }
            Err(error) => {
                let text = error.to_string();
                let news = download.last_message != text;
                download.last_message = text;
                if !self.leaves_idle && !error.is_away() {
                    let full = error.is_no_space();
                    download.stage = DownloadStage::Refused(if full { DISK_FULL } else { 1 });
                }
                engine.remove(id);
                self.wait_for_files(&error, news);
                false
            }
        }
    }

    pub(super) fn good_pieces(&self, engine: &Engine, id: TorrentId) -> Vec<u8> {
        let geometry = self.content.geometry();
        let mut all = vec![0; geometry.bitfield_len() as usize];
        match engine.node.good(id).have() {
            Have::All => (0..geometry.pieces()).for_each(|piece| _ = bits::set(&mut all, piece)),
            Have::Some(good) => {
                let len = good.len().min(all.len());
                all[..len].copy_from_slice(&good[..len]);
            }
            _ => {}
        }
        all
    }

    fn name_owners(&self, differing: &Differing) {
        let name = self.name();
        if !differing.files.is_empty() {
            let (files, is) = list(&differing.files, differing.count);
            log::error!(
                "{name}: {files} {is} not what the torrent says. everseed does not overwrite {it}, because it did not \
                 make {it} or had completed {it}; move {it} away, or use --overwrite",
                it = if differing.count == 1 { "it" } else { "them" },
            );
        }
        if !differing.twins.is_empty() {
            let (files, is) = list(&differing.twins, differing.twins.len());
            log::error!(
                "{name}: {files} {is} another file of this torrent too, as the file system ignores case or there \
                 are links; the first keeps the place, and this is left out"
            );
        }
    }

    /// Notes that a sync begins, or has ended.
    pub(super) fn note_sync(&self, begins: bool) {
        let Some(ours) = self.content.ours() else {
            return;
        };
        let noted = match begins {
            true => ours.begin_sync(),
            false => ours.synced(),
        };
        if let Err(error) = noted {
            log::warn!("{}: {error}: {RECORD}", self.name());
        }
    }

    /// Notes that writes since the last sync may be lost.
    pub(super) fn doubt_files(&self) {
        if let Some(ours) = self.content.ours()
            && let Err(error) = ours.doubt()
        {
            log::warn!("{}: {error}: {RECORD}", self.name());
        }
    }
}

const RECORD: &str = "its complete files cannot be recorded; make room for the state";

/// The names of some files, the number of others, and the verb for them.
fn list(files: &[PathBuf], count: usize) -> (String, &'static str) {
    let shown = |path: &PathBuf| escape(Path::as_os_str(path).as_encoded_bytes()).to_string();
    let names: Vec<String> = files.iter().map(shown).collect();
    let more = match count.saturating_sub(files.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (
        names.join(", ") + &more,
        if count == 1 { "is" } else { "are" },
    )
}
