//! Carries out the calls that reach the disk, in the folder behind it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

use super::Shared;
use super::fuse::*;

impl Shared {
    pub(super) fn answer(&self, request: &Request) -> Answer {
        let body = Fields(&request.body);
        let relative = self.lock().path(request.node).ok_or(Errno::STALE)?;
        let path = self.behind.join(&relative);
        let (name, other) = request.names(request.code);
        match request.code {
            LOOKUP => self.entry(&relative.join(name)),
            GETATTR => Ok(attributes(&fs::symlink_metadata(&path).map_err(errno)?)),
            SETATTR => set(&path, body),
            READLINK => Ok(fs::read_link(&path)
                .map_err(errno)?
                .into_os_string()
                .into_vec()),
            SYMLINK => {
                symlink(other, path.join(&name)).map_err(errno)?;
                self.entry(&relative.join(name))
            }
            MKDIR => {
                fs::create_dir(path.join(&name)).map_err(errno)?;
                self.entry(&relative.join(name))
            }
            UNLINK | RMDIR => {
                let gone = path.join(&name);
                let removed = match request.code {
                    UNLINK => fs::remove_file(gone),
                    _ => fs::remove_dir(gone),
                };
                removed.map_err(errno)?;
                self.lock().numbers.remove(&relative.join(name));
                Ok(Vec::new())
            }
            RENAME | RENAME2 => self.rename(&relative.join(name), request, &other),
            OPEN => self.open(request, &relative),
            CREATE => self.open(request, &relative.join(name)),
            OPENDIR => Ok(opened(0)),
            READ => {
                let mut bytes = vec![0; body.u32(16) as usize];
                let file = self.file(body.u64(0))?;
                let read = file.read_at(&mut bytes, body.u64(8)).map_err(errno)?;
                bytes.truncate(read);
                Ok(bytes)
            }
            WRITE => {
                let file = self.file(body.u64(0))?;
                let bytes = &request.body[40..];
                file.write_all_at(bytes, body.u64(8)).map_err(errno)?;
                Ok([body.u32(16), 0].map(u32::to_ne_bytes).concat())
            }
            FALLOCATE => {
                let file = self.file(body.u64(0))?;
                let end = body.u64(8) + body.u64(16);
                if body.u32(24) != 0 {
                    return Err(Errno::OPNOTSUPP);
                }
                let len = file.metadata().map_err(errno)?.len();
                file.set_len(len.max(end)).map_err(errno)?;
                Ok(Vec::new())
            }
            STATFS => {
                let blocks = [1_u64 << 24, 1 << 23, 1 << 23, 1 << 20, 1 << 19];
                let rest = [4096_u32, 255, 4096, 0, 0, 0, 0, 0, 0, 0];
                let [blocks, rest] = [
                    blocks.map(u64::to_ne_bytes).concat(),
                    rest.map(u32::to_ne_bytes).concat(),
                ];
                Ok([blocks, rest].concat())
            }
            READDIR => list(&path, body),
            FLUSH | FSYNC | FSYNCDIR => Ok(Vec::new()),
            _ => Err(Errno::NOSYS),
        }
    }

    fn entry(&self, relative: &Path) -> Answer {
        let there = fs::symlink_metadata(self.behind.join(relative)).map_err(errno)?;
        let node = self.lock().number(relative);
        // The kernel caches nothing, so each look comes here.
        let head = [node, 0, 0, 0, 0].map(u64::to_ne_bytes).concat();
        Ok([&head[..], &attributes(&there)[16..]].concat())
    }

    fn open(&self, request: &Request, relative: &Path) -> Answer {
        let body = Fields(&request.body);
        let flags = body.u32(0).cast_signed();
        let (read, write) = match flags & 3 {
            1 => (false, true),
            2 => (true, true),
            _ => (true, false),
        };
        let mut options = File::options();
        options.read(read).write(write);
        let creates = request.code == CREATE;
        if creates {
            options.read(true).write(true).create(true);
            options.create_new(flags & 0o200 != 0).mode(body.u32(4));
        }
        let file = options.open(self.behind.join(relative)).map_err(errno)?;
        if flags & 0o1000 != 0 {
            file.set_len(0).map_err(errno)?;
        }
        let number = {
            let mut state = self.lock();
            state.next_open += 1;
            let number = state.next_open;
            state.open.insert(number, file);
            number
        };
        let opened = opened(number);
        match creates {
            true => Ok([self.entry(relative)?, opened].concat()),
            false => Ok(opened),
        }
    }

    fn file(&self, number: u64) -> Result<File, Errno> {
        let state = self.lock();
        let file = state.open.get(&number).ok_or(Errno::BADF)?;
        file.try_clone().map_err(errno)
    }

    fn rename(&self, from: &Path, request: &Request, name: &OsStr) -> Answer {
        let body = Fields(&request.body);
        // Many file systems do not know the flag that keeps an existing file.
        if request.code == RENAME2 && body.u32(8) != 0 {
            return Err(Errno::INVAL);
        }
        let folder = self.lock().path(body.u64(0)).ok_or(Errno::STALE)?;
        let to = folder.join(name);
        let [old, new] = [from, &to].map(|path| self.behind.join(path));
        fs::rename(old, new).map_err(errno)?;
        self.lock().moved(from, &to);
        Ok(Vec::new())
    }
}

fn set(path: &Path, body: Fields<'_>) -> Answer {
    let valid = body.u32(0);
    if valid & 1 != 0 {
        let mode = Permissions::from_mode(body.u32(68));
        fs::set_permissions(path, mode).map_err(errno)?;
    }
    if valid & 8 != 0 {
        let file = File::options().write(true).open(path).map_err(errno)?;
        file.set_len(body.u64(16)).map_err(errno)?;
    }
    if valid & 0x20 != 0 {
        let time = Duration::new(body.u64(40), body.u32(60));
        let time = match valid & 0x100 {
            0 => std::time::UNIX_EPOCH + time,
            _ => std::time::SystemTime::now(),
        };
        let file = File::options().write(true).open(path).map_err(errno)?;
        file.set_modified(time).map_err(errno)?;
    }
    Ok(attributes(&fs::symlink_metadata(path).map_err(errno)?))
}

fn list(path: &Path, body: Fields<'_>) -> Answer {
    let (from, room) = (body.u64(8), body.u32(16) as usize);
    let mut names: Vec<OsString> = vec![".".into(), "..".into()];
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(errno)? {
        found.push(entry.map_err(errno)?.file_name());
    }
    found.sort();
    names.extend(found);
    let mut bytes = Vec::new();
    let skipped = usize::try_from(from).unwrap_or(usize::MAX);
    for (at, name) in (1_u64..).zip(&names).skip(skipped) {
        let len = name.len();
        if bytes.len() + (24 + len).next_multiple_of(8) > room {
            break;
        }
        let mode = fs::symlink_metadata(path.join(name)).map_or(0, |there| there.mode());
        bytes.extend(at.to_ne_bytes());
        bytes.extend(at.to_ne_bytes());
        bytes.extend(u32::try_from(len).unwrap_or(0).to_ne_bytes());
        bytes.extend((mode >> 12).to_ne_bytes());
        bytes.extend(name.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    Ok(bytes)
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
