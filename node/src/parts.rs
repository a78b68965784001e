//! The subsystems below the swarm.

use crate::context::Context;
use crate::discovery::Discovery;
use crate::download::Download;
use crate::upload::Upload;

/// See the module.
#[derive(Debug)]
pub(crate) struct Parts<'m> {
    pub(crate) cx: Context<'m>,
    pub(crate) upload: Upload<'m>,
    pub(crate) download: Download<'m>,
    pub(crate) discovery: Discovery<'m>,
}
