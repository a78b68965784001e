//! Checks a torrent's content and seeds it, on async-std.
//!
//! `cargo run -p everseed-async-std --example seed -- FILE.torrent DIR [IP:PORT]`

use std::error::Error;
use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use async_std::task;
use everseed_async_std::Seeder;
use everseed_core::bits;
use everseed_disk::{Content, ReadError, check, read_torrent};
use everseed_node::Have;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let (torrent, data, listen) = match &args[..] {
        [torrent, data] => (torrent, data, Some(SocketAddr::from(([0, 0, 0, 0], 6881)))),
        [torrent, data, listen] => (torrent, data, listen.to_str().and_then(|l| l.parse().ok())),
        _ => return fail("usage: seed FILE.torrent DIR [IP:PORT]"),
    };
    let Some(listen) = listen else {
        return fail("the address to listen at must be IP:PORT, such as 0.0.0.0:6881");
    };
    match task::block_on(seed(torrent.as_ref(), data.as_ref(), listen)) {
        Ok(why) => fail(&why.to_string()),
        Err(error) => fail(&error.to_string()),
    }
}

/// Seeds until the content cannot be read; returns the error.
async fn seed(
    torrent: &Path,
    data: &Path,
    listen: SocketAddr,
) -> Result<ReadError, Box<dyn Error>> {
    let metainfo = read_torrent(torrent)?;
    let index_dir = index_dir()?;
    let opened = Content::open(torrent, &metainfo, data, &index_dir);
    // The folder stays if it holds an index, which is in use until the process ends.
    let _ = fs::remove_dir(&index_dir);
    let content = opened?;
    let (content, good) = task::spawn_blocking(move || check(content)).await?;
    let (pieces, there) = (content.geometry().pieces(), bits::count(&good));
    let name: String = content.name().escape_debug().collect();
    let seeder = Seeder::new(content, Have::Some(&good), listen)
        .map_err(|error| format!("{listen}: {error}; choose another address"))?;
    println!("listening: {}", seeder.local_addr()?);
    println!("seeding: {name}");
    if there < pieces {
        println!(
            "{} of {pieces} pieces are missing or damaged",
            pieces - there
        );
    }
    Ok(seeder.run().await)
}

/// Hashes all pieces and shows the progress.
fn check(content: Content) -> Result<(Content, Vec<u8>), ReadError> {
    let total = content.geometry().total();
    let mut shown = None;
    let good = check::check(
        &content,
        |done| {
            let percent = done * 100 / total;
            if shown.replace(percent) != Some(percent) {
                eprint!("\rchecking: {percent} %");
                let _ = io::stderr().flush();
            }
            ControlFlow::Continue(())
        },
        |fault| eprintln!("{fault}"),
    );
    eprintln!();
    Ok((content, good?.unwrap_or_default()))
}

/// A folder of this process alone, for the index that a torrent of more than a few files gets.
fn index_dir() -> Result<PathBuf, String> {
    let name = format!("everseed-async-std-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    match DirBuilder::new().mode(0o700).create(&path) {
        Ok(()) => Ok(path),
        Err(error) => Err(format!("{}: {error}; remove it", path.display())),
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::FAILURE
}
