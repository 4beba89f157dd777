//! `token.secret`: 32 random bytes that tokens are signed with where no secret is configured. Made once, readable by
//! its owner only. It needs no `LOCK`: a token may be made while the gateway runs, and two makers agree.

use crate::error::FileError;
use crate::layout;
use crate::limits::SECRET_BYTES;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::rand::{GetRandomFlags, getrandom};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The secret of a data directory.
#[derive(Clone)]
pub struct Secret {
    bytes: [u8; SECRET_BYTES],
    made: bool,
}

impl Secret {
    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.bytes
    }

    /// Whether this call made it: worth telling the operator.
    #[must_use]
    pub const fn made(&self) -> bool {
        self.made
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("made", &self.made).finish_non_exhaustive()
    }
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The system refused. Recovered by what its message says.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not 32 bytes. Recovered by removing the file: then all tokens must be made anew.
    #[error("{} has {bytes} bytes, not {SECRET_BYTES}: put the right one back, or remove it and make all tokens anew", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// Others may read it. Recovered by `chmod 600`.
    #[error("{} may be read by others (mode {mode:04o}): chmod 600 it, or make a new one", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// No gateway keeps its data there, so that none takes what a secret of it signs. Recovered by starting one, or by the
    /// right name.
    #[error(
        "no gateway was started on {0}, which has no MANIFEST: start one with `tidegate serve --data {0}` first, or name the \
         directory of one",
        directory.display()
    )]
    NoGateway {
        /// The directory.
        directory: PathBuf,
    },
    /// A gateway's directory without a secret: it was given one. Recovered by giving the same one here.
    #[error(
        "{} has no token.secret: what its gateway is configured with (token.secret, token.secret_file) signs its tokens; \
         without either, its next start makes one",
        directory.display()
    )]
    Absent {
        /// The directory.
        directory: PathBuf,
    },
}

/// Reads the secret of `directory`, or makes directory and secret.
///
/// # Errors
/// See [`SecretError`].
pub fn secret(directory: &Path) -> Result<Secret, SecretError> {
    let path = directory.join(layout::SECRET);
    if let Some(bytes) = read(&path)? {
        return Ok(Secret { bytes, made: false });
    }
    layout::make_dirs(directory)?;
    let made = make(directory, &path)?;
    let bytes = read(&path)?.ok_or_else(|| FileError::new("read", &path, io::ErrorKind::NotFound.into()))?;
    Ok(Secret { bytes, made })
}

/// Reads the secret that a gateway made in its `directory`, and makes nothing: a secret that no gateway knows signs tokens
/// that none takes.
///
/// # Errors
/// See [`SecretError`].
pub fn find_secret(directory: &Path) -> Result<Secret, SecretError> {
    let manifest = directory.join(layout::MANIFEST);
    if !manifest.try_exists().map_err(FileError::on("inspect", &manifest))? {
        return Err(SecretError::NoGateway { directory: directory.to_path_buf() });
    }
    let bytes = read(&directory.join(layout::SECRET))?;
    let bytes = bytes.ok_or_else(|| SecretError::Absent { directory: directory.to_path_buf() })?;
    Ok(Secret { bytes, made: false })
}

fn read(path: &Path) -> Result<Option<[u8; SECRET_BYTES]>, SecretError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::new("open", path, error).into()),
    };
    let metadata = file.metadata().map_err(FileError::on("inspect", path))?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed { path: path.to_path_buf(), mode });
    }
    if metadata.len() != SECRET_BYTES as u64 {
        return Err(SecretError::Length { path: path.to_path_buf(), bytes: metadata.len() });
    }
    let mut bytes = [0; SECRET_BYTES];
    file.read_exact(&mut bytes).map_err(FileError::on("read", path))?;
    Ok(Some(bytes))
}

/// Makes the file under a name of its own and gives it the right one only if nobody was faster.
fn make(directory: &Path, path: &Path) -> Result<bool, SecretError> {
    let temporary = directory.join(format!("{}.{}.tmp", layout::SECRET, std::process::id()));
    let mut bytes = [0; SECRET_BYTES];
    fill_random(&mut bytes).map_err(FileError::on("get random bytes for", path))?;
    let write = || -> io::Result<()> {
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()
    };
    write().map_err(FileError::on("write", &temporary))?;
    let made = match renameat_with(CWD, &temporary, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => true,
        Err(rustix::io::Errno::EXIST) => {
            std::fs::remove_file(&temporary).map_err(FileError::on("remove", &temporary))?;
            false
        }
        Err(error) => return Err(FileError::new("create", path, error.into()).into()),
    };
    layout::sync_dir(directory)?;
    Ok(made)
}

/// Fills `bytes` from the kernel's generator.
pub(crate) fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_made_once_and_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("new/data");
        let first = secret(&data).unwrap();
        let second = secret(&data).unwrap();
        assert!(first.made() && !second.made());
        assert_eq!(first.bytes(), second.bytes());
        assert_ne!(first.bytes(), &[0; SECRET_BYTES]);
        assert_eq!(std::fs::metadata(data.join(layout::SECRET)).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1, "no temporary file is left");
        assert!(!format!("{first:?}").contains(&format!("{}", first.bytes()[0])) || first.bytes()[0] < 10);
    }

    /// A directory that was mistyped was made, with a secret of its own, and the token was one that no gateway took.
    #[test]
    fn only_a_gateways_secret_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let check = |expected: &str, names: &[&str]| {
            let message = find_secret(&data).unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains(data.to_str().unwrap()), "{message}");
            let mut held = layout::names(&data).unwrap();
            held.sort();
            assert_eq!(held, names, "nothing is made");
        };
        check("no gateway was started on", &[]);
        assert!(!data.exists());
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join(layout::MANIFEST), "").unwrap();
        check("has no token.secret", &[layout::MANIFEST]);
        let made = secret(&data).unwrap();
        assert_eq!(find_secret(&data).unwrap().bytes(), made.bytes());
        std::fs::remove_file(data.join(layout::MANIFEST)).unwrap();
        check("no gateway was started on", &[layout::SECRET]);
    }

    #[test]
    fn two_makers_agree() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(layout::SECRET);
        assert!(make(dir.path(), &path).unwrap());
        let kept = read(&path).unwrap();
        assert!(!make(dir.path(), &path).unwrap());
        assert_eq!(read(&path).unwrap(), kept);
    }

    #[test]
    fn a_wrong_file_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        secret(dir.path()).unwrap();
        let path = dir.path().join(layout::SECRET);
        set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let message = secret(dir.path()).unwrap_err().to_string();
        assert!(message.contains("token.secret") && message.contains("0640"), "{message}");
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, b"short").unwrap();
        assert!(matches!(secret(dir.path()), Err(SecretError::Length { bytes: 5, .. })));
    }
}
