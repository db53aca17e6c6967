//! Files by content address.

use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use super::Cause;
use super::Error;
use super::Store;
use crate::model::Blob;
use crate::system::outside;

pub(super) const PREFIX: &str = "sha256:";

/// Tells temporary files of one process apart.
static TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// Where blobs are kept.
#[derive(Debug)]
pub(super) enum Blobs {
    /// Two levels of folders, by the first two digits of the address.
    Folder(PathBuf),
    Memory(Mutex<HashMap<String, Vec<u8>>>),
    /// A PostgreSQL store that was opened without a folder.
    None,
}

impl Blobs {
    pub(super) fn folder(path: PathBuf) -> Self {
        Self::Folder(path)
    }

    pub(super) fn memory() -> Self {
        Self::Memory(Mutex::default())
    }

    pub(super) fn none() -> Self {
        Self::None
    }

    /// Tells whether large values go here. Without a folder they stay in their rows, which PostgreSQL keeps apart itself.
    pub(super) fn take_values(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Keeps bytes durably and returns their address.
    pub(super) fn put(&self, bytes: &[u8]) -> Result<String, Error> {
        let digits = hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
        let address = format!("{PREFIX}{digits}");
        match self {
            Self::Folder(folder) => put_file(folder, &digits, bytes)?,
            Self::Memory(blobs) => {
                let mut blobs = blobs.lock().unwrap_or_else(PoisonError::into_inner);
                blobs.entry(address.clone()).or_insert_with(|| bytes.to_owned());
            }
            Self::None => return Err(Error::NoBlobFolder),
        }
        Ok(address)
    }

    /// Returns the bytes under an address, checked against it.
    pub(super) fn get(&self, address: &str) -> Result<Vec<u8>, Error> {
        let missing = || Error::NoBlob { address: address.to_owned() };
        let digits = address.strip_prefix(PREFIX).filter(|digits| is_digest(digits)).ok_or_else(missing)?;
        let bytes = match self {
            Self::Folder(folder) => {
                let path = file_of(folder, digits);
                // One that nobody seemed to name may lie aside.
                let read = fs::read(&path).or_else(|error| match error.kind() {
                    io::ErrorKind::NotFound => fs::read(aside(&path)),
                    _ => Err(error),
                });
                read.map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => missing(),
                    _ => failed("read", &path, error),
                })?
            }
            Self::Memory(blobs) => {
                blobs.lock().unwrap_or_else(PoisonError::into_inner).get(address).cloned().ok_or_else(missing)?
            }
            Self::None => return Err(Error::NoBlobFolder),
        };
        if hex(ring::digest::digest(&ring::digest::SHA256, &bytes).as_ref()) != digits {
            let reason = "its content does not match its address".to_owned();
            return Err(Error::Damaged { what: format!("blob `{address}`"), reason });
        }
        Ok(bytes)
    }
}

impl Blobs {
    /// Returns a part of the bytes under an address.
    fn get_part(&self, address: &str, offset: u64, size: u64) -> Result<Vec<u8>, Error> {
        use std::io::Read;
        use std::io::Seek;
        let missing = || Error::NoBlob { address: address.to_owned() };
        let digits = address.strip_prefix(PREFIX).filter(|digits| is_digest(digits)).ok_or_else(missing)?;
        let Self::Folder(folder) = self else {
            let bytes = self.get(address)?;
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let end = start.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
            return bytes.get(start..end).map(<[u8]>::to_vec).ok_or_else(|| cut_short(address));
        };
        let path = file_of(folder, digits);
        let opened = File::open(&path).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => File::open(aside(&path)),
            _ => Err(error),
        });
        let mut file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => missing(),
            _ => failed("read", &path, error),
        })?;
        let mut bytes = Vec::new();
        let read = file.seek(io::SeekFrom::Start(offset)).and_then(|_| file.take(size).read_to_end(&mut bytes));
        read.map_err(|error| failed("read", &path, error))?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) != size {
            return Err(cut_short(address));
        }
        Ok(bytes)
    }
}

fn cut_short(address: &str) -> Error {
    Error::Damaged {
        what: format!("blob `{address}`"),
        reason: "it ends before the part that was asked for".to_owned(),
    }
}

/// An address comes from a row or from a user: it must not lead out of the folder.
pub(super) fn is_digest(digits: &str) -> bool {
    digits.len() == 64 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// How the names of files begin that nobody seemed to name; they are looked at once more before they go.
pub(super) const ASIDE: &str = ".aside-";

/// Returns where a file lies that nobody seemed to name.
pub(super) fn aside(path: &Path) -> PathBuf {
    path.with_file_name(format!("{ASIDE}{}", path.file_name().unwrap_or_default().to_string_lossy()))
}

pub(super) fn file_of(folder: &Path, digits: &str) -> PathBuf {
    let (first, rest) = digits.split_at(2);
    folder.join(first).join(rest)
}

/// Writes beside, syncs, renames, syncs the folder: a file under its address is always whole.
fn put_file(folder: &Path, digits: &str, bytes: &[u8]) -> Result<(), Error> {
    let path = file_of(folder, digits);
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if fs::metadata(&path).is_ok_and(|found| found.len() == length) && renewed(&path) {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(folder);
    fs::create_dir_all(parent).map_err(|error| failed("create the folder of", &path, error))?;
    let number = TEMPORARY.fetch_add(1, Ordering::Relaxed);
    let temporary = parent.join(format!(".{}-{number}", std::process::id()));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let kept = written.and_then(|()| fs::rename(&temporary, &path));
    if let Err(error) = kept {
        // The error that matters is the first one.
        let _ = fs::remove_file(&temporary);
        return Err(failed("write", &path, error));
    }
    for made in [parent, folder] {
        File::open(made).and_then(|made| made.sync_all()).map_err(|error| failed("sync", &path, error))?;
    }
    Ok(())
}

/// Makes a file that is there as good as new, so that nobody takes it for garbage before a row names it. Returns false
/// where it was put aside in the meantime.
#[expect(clippy::disallowed_methods, reason = "the ages of files go by the machine's clock")]
fn renewed(path: &Path) -> bool {
    let opened = File::options().append(true).open(path);
    let renewed = opened.and_then(|file| file.set_modified(std::time::SystemTime::now()));
    // Whoever puts it aside after this sees the new time; whoever did before took it away from here.
    renewed.is_ok() && path.exists()
}

pub(super) fn failed(verb: &'static str, path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full { place: path.display().to_string() },
        _ => Error::BlobFile { verb, path: path.to_owned(), source: Cause::new(error) },
    }
}

/// Writes bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS.get(usize::from(value)).copied().unwrap_or(b'?'));
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

impl Store {
    /// Keeps bytes; the same bytes are kept once.
    pub async fn put_blob(
        &self,
        bytes: Vec<u8>,
        media_type: Option<&str>,
        file_name: Option<&str>,
    ) -> Result<Blob, Error> {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let shared = self.0.shared.clone();
        let put = outside(tokio::task::spawn_blocking(move || shared.codec.blobs.put(&bytes))).await;
        let address = put.map_err(|_| Error::Closed)??;
        Ok(Blob {
            address,
            size,
            offset: None,
            media_type: media_type.map(str::to_owned),
            file_name: file_name.map(str::to_owned),
        })
    }

    /// Returns the bytes of a file, or of the part that its handle names. Of a part the length alone is checked.
    pub async fn read_blob(&self, blob: &Blob) -> Result<Vec<u8>, Error> {
        let Some(offset) = blob.offset else { return self.get_blob(&blob.address).await };
        let shared = self.0.shared.clone();
        let (address, size) = (blob.address.clone(), blob.size);
        let read = tokio::task::spawn_blocking(move || shared.codec.blobs.get_part(&address, offset, size));
        outside(read).await.map_err(|_| Error::Closed)?
    }

    /// Returns the bytes under an address, checked against it.
    pub async fn get_blob(&self, address: &str) -> Result<Vec<u8>, Error> {
        let shared = self.0.shared.clone();
        let address = address.to_owned();
        let read = tokio::task::spawn_blocking(move || shared.codec.blobs.get(&address));
        outside(read).await.map_err(|_| Error::Closed)?
    }
}
