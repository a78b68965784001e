//! Files and folders in watched folders: which of them belong to a torrent and which are shared by themselves.
//!
//! Invariant: content that a torrent describes or ever described is not shared by itself unless its owner names it.
//! Content that a torrent may describe which is not known yet has to wait.

use std::path::Path;

use super::index::names_torrent;
use super::item::{ItemStage, wait};
use super::library::{Library, stop};
use super::torrents::Torrents;
use super::trouble::Trouble;
use crate::net::engine::Engine;
use crate::text::escape;

impl Library {
    /// Whether content has to wait for torrents that are not known yet. A wait that may last is logged once.
    pub(super) fn content_waits(&mut self) -> bool {
        let shown = |path: &Path| escape(path.as_os_str().as_encoded_bytes()).to_string();
        let mut items = self.items.iter();
        let coming = items.any(|managed| managed.may_describe() && managed.stage.is_coming());
        if coming || self.watches.iter().any(|watch| watch.has_more_torrents) {
            return true;
        }
        let unread = self.watches.iter().find(|watch| !watch.is_read());
        let doubtful = || self.items.iter().find(|managed| managed.may_describe());
        let why = match (unread, doubtful()) {
            (Some(watch), _) => format!("{} is read", watch.folder.display()),
            (None, Some(managed)) => {
                format!("{} can be read or is removed", shown(&managed.item.path))
            }
            (None, None) => {
                self.said_why_content_waits.clear();
                return false;
            }
        };
        let mut items = self.items.iter();
        let any = items.find(|managed| managed.is_found_content() && managed.stage.is_coming());
        if let Some(content) = any
            && self.said_why_content_waits != why
        {
            log::warn!(
                "{} and other new files in the watched folders are not shared until {why}: it may be their torrent",
                shown(&content.item.path)
            );
            self.said_why_content_waits = why;
        }
        true
    }

    /// Stops sharing content that turned out to belong to a torrent.
    pub(super) fn stop_described(&mut self, torrents: &mut Torrents, engine: &mut Engine) {
        let added = torrents.state.described().added();
        if added == self.described {
            return;
        }
        self.described = added;
        // The next scan handles sleeping ones.
        self.scans.more = true;
        let mut at = 0;
        while let Some(managed) = self.items.get_mut(at) {
            at += 1;
            let ItemStage::Running(number) = managed.stage else {
                continue;
            };
            let torrent = torrents.awake.get(number);
            let Some(torrent) = torrent.filter(|_| !names_torrent(&managed.item.path)) else {
                continue;
            };
            let root = torrent.content.root();
            let described = torrents.state.described();
            if !described.holds_real(&root) {
                continue;
            }
            let shown = escape(root.as_os_str().as_encoded_bytes()).to_string();
            let found = described.find(&root);
            let named = managed.folder.is_none();
            let Some(found) = found.filter(|found| !named || found.private && found.is_there())
            else {
                continue;
            };
            let torrent = escape(found.torrent.as_os_str().as_encoded_bytes()).to_string();
            let why = format!("{shown} belongs to {torrent}");
            stop(torrents, engine, managed);
            if named {
                wait(
                    managed,
                    Trouble::Failed(format!("{why}, which is private")),
                    &torrents.notices,
                );
            } else {
                log::warn!("{why}, so it is not shared by itself");
                at -= 1;
                self.items.swap_remove(at);
            }
        }
    }
}
