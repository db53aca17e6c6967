//! The master key and envelope encryption.
//!
//! A secret is sealed with a data key, the data key with the master key. A sealed text says all that opening it needs:
//! `pw1.KEY_ID.WRAPPED_DATA_KEY.NONCE_AND_CIPHERTEXT`, the last two in base64.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use ring::aead::AES_256_GCM;
use ring::aead::Aad;
use ring::aead::LessSafeKey;
use ring::aead::NONCE_LEN;
use ring::aead::Nonce;
use ring::aead::UnboundKey;
use ring::rand::SecureRandom;
use ring::rand::SystemRandom;

use super::base64;
use crate::store::Cause;
use crate::store::SealError;
use crate::store::Sealer;

/// The environment variable that holds the master key in base64.
pub const MASTER_KEY_VARIABLE: &str = "PIPEWRIGHT_MASTER_KEY";
const FORMAT: &str = "pw1";
/// A random nonce is safe for 2³² texts under one key; we take a new data key long before.
const SEALS_PER_DATA_KEY: u32 = 1 << 20;

/// Wraps data keys; the master key is the local one, a cloud's comes later.
pub trait Kms: Send + Sync + std::fmt::Debug {
    /// Names the key, so that another key is told from damage. Says nothing about the key; has no full stop in it.
    fn key_id(&self) -> &str;
    /// Encrypts a data key.
    fn wrap(&self, data_key: &[u8; 32]) -> Result<Vec<u8>, SealError>;
    /// Opens what `wrap` closed.
    fn unwrap(&self, wrapped: &[u8]) -> Result<[u8; 32], SealError>;
}

/// Wraps data keys with a key of our own.
struct LocalKms {
    id: String,
    key: LessSafeKey,
}

/// Seals and opens secrets with data keys that a `Kms` wraps. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MasterKey(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kms: Box<dyn Kms>,
    /// The data key that seals now.
    sealing: Mutex<Option<DataKey>>,
    /// The data key that opened last: texts of one process share theirs.
    opening: Mutex<Option<(String, Arc<LessSafeKey>)>>,
}

struct DataKey {
    key: Arc<LessSafeKey>,
    wrapped: String,
    seals: u32,
}

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read the master key `{path}`")]
    Read { path: PathBuf, source: Cause },
    #[error("cannot create the master key `{path}`")]
    Create { path: PathBuf, source: Cause },
    #[error("the master key `{path}` can be read by others: `chmod 600` it")]
    Open { path: PathBuf },
    #[error("the master key in {place} is not 32 bytes in base64")]
    Malformed { place: String },
}

/// Makes a file with a new master key, readable by its owner alone.
///
/// # Errors
/// The file exists, or cannot be written.
pub fn create_master_key_file(path: &Path) -> Result<(), KeyError> {
    let failed = |source| KeyError::Create { path: path.to_owned(), source };
    let key = random::<32>().map_err(|_| failed(Cause::new(no_randomness())))?;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(path).and_then(|mut file| {
        writeln!(file, "{}", base64::encode(&key))?;
        file.sync_all()
    });
    written.map_err(|error| failed(Cause::new(error)))
}

impl MasterKey {
    /// Makes a sealer that wraps its data keys with any `Kms`.
    #[must_use]
    pub fn new(kms: Box<dyn Kms>) -> Self {
        Self(Arc::new(Inner { kms, sealing: Mutex::default(), opening: Mutex::default() }))
    }

    /// Reads the key from a file; nothing when there is no such file.
    pub fn from_file(path: &Path) -> Result<Option<Self>, KeyError> {
        let failed = |error| KeyError::Read { path: path.to_owned(), source: Cause::new(error) };
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(failed)?,
        };
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(path).map_err(failed)?);
            if mode & 0o077 != 0 {
                return Err(KeyError::Open { path: path.to_owned() });
            }
        }
        Self::parse(&text, || format!("`{}`", path.display())).map(Some)
    }

    /// Reads the key from base64, as `PIPEWRIGHT_MASTER_KEY` holds it.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        Self::parse(text, || MASTER_KEY_VARIABLE.to_owned())
    }

    /// Takes the key from `PIPEWRIGHT_MASTER_KEY`, else from the file.
    #[expect(clippy::disallowed_methods, reason = "secrets read the environment, once")]
    pub fn find(file: &Path) -> Result<Option<Self>, KeyError> {
        match std::env::var(MASTER_KEY_VARIABLE) {
            Ok(text) if !text.is_empty() => Self::from_base64(&text).map(Some),
            _ => Self::from_file(file),
        }
    }

    fn parse(text: &str, place: impl Fn() -> String) -> Result<Self, KeyError> {
        let malformed = || KeyError::Malformed { place: place() };
        let bytes = base64::decode(text.trim()).ok_or_else(malformed)?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| malformed())?;
        Ok(Self::new(Box::new(LocalKms::new(&bytes))))
    }

    /// Returns the data key that seals now, and counts its use.
    fn sealing_key(&self) -> Result<(Arc<LessSafeKey>, String), SealError> {
        let mut sealing = self.0.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(data_key) = sealing.as_mut().filter(|data_key| data_key.seals < SEALS_PER_DATA_KEY) {
            data_key.seals += 1;
            return Ok((data_key.key.clone(), data_key.wrapped.clone()));
        }
        let bytes = random::<32>().map_err(|_| no_randomness())?;
        let wrapped = base64::encode(&self.0.kms.wrap(&bytes)?);
        let key = Arc::new(aes(&bytes));
        *sealing = Some(DataKey { key: key.clone(), wrapped: wrapped.clone(), seals: 1 });
        Ok((key, wrapped))
    }

    fn opening_key(&self, wrapped: &str) -> Result<Arc<LessSafeKey>, SealError> {
        let mut opening = self.0.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, key)) = opening.as_ref().filter(|(known, _)| known == wrapped) {
            return Ok(key.clone());
        }
        let bytes = self.0.kms.unwrap(&base64::decode(wrapped).ok_or(SealError::Damaged)?)?;
        let key = Arc::new(aes(&bytes));
        *opening = Some((wrapped.to_owned(), key.clone()));
        Ok(key)
    }
}

impl Sealer for MasterKey {
    fn seal(&self, open: &str) -> Result<String, SealError> {
        let (key, wrapped) = self.sealing_key()?;
        let sealed = base64::encode(&encrypt(&key, open.as_bytes())?);
        Ok(format!("{FORMAT}.{}.{wrapped}.{sealed}", self.0.kms.key_id()))
    }

    fn unseal(&self, sealed: &str) -> Result<String, SealError> {
        let mut parts = sealed.split('.');
        let (Some(FORMAT), Some(id), Some(wrapped), Some(text), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(SealError::Damaged);
        };
        let own = self.0.kms.key_id();
        if id != own {
            return Err(SealError::WrongKey { found: id.to_owned(), own: own.to_owned() });
        }
        let key = self.opening_key(wrapped)?;
        let open = decrypt(&key, &base64::decode(text).ok_or(SealError::Damaged)?)?;
        String::from_utf8(open).map_err(|_| SealError::Damaged)
    }
}

impl LocalKms {
    fn new(bytes: &[u8; 32]) -> Self {
        // A digest of the key under a label of its own: it names the key and tells nothing about it.
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, bytes);
        let digest = ring::hmac::sign(&key, b"pipewright master key id");
        let id = digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        Self { id, key: aes(bytes) }
    }
}

impl Kms for LocalKms {
    fn key_id(&self) -> &str {
        &self.id
    }

    fn wrap(&self, data_key: &[u8; 32]) -> Result<Vec<u8>, SealError> {
        encrypt(&self.key, data_key)
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<[u8; 32], SealError> {
        decrypt(&self.key, wrapped)?.try_into().map_err(|_| SealError::Damaged)
    }
}

impl std::fmt::Debug for LocalKms {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "LocalKms({})", self.id)
    }
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("***")
    }
}

fn aes(bytes: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).expect("a key of AES-256 has 32 bytes"))
}

/// Returns the nonce and behind it the ciphertext with its tag.
fn encrypt(key: &LessSafeKey, open: &[u8]) -> Result<Vec<u8>, SealError> {
    let nonce = random::<NONCE_LEN>().map_err(|_| no_randomness())?;
    let mut sealed = open.to_owned();
    let nonce_value = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce_value, Aad::empty(), &mut sealed).map_err(|_| SealError::Damaged)?;
    Ok([nonce.as_slice(), &sealed].concat())
}

fn decrypt(key: &LessSafeKey, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or(SealError::Damaged)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Damaged)?;
    let mut text = text.to_owned();
    let open = key.open_in_place(nonce, Aad::empty(), &mut text).map_err(|_| SealError::Damaged)?;
    Ok(open.to_owned())
}

/// Draws from the machine's cryptographic source; the seeded one of `system` must never make a key.
fn random<const N: usize>() -> Result<[u8; N], ring::error::Unspecified> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes)?;
    Ok(bytes)
}

fn no_randomness() -> SealError {
    SealError::Kms("the machine gives no random bytes".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(fill: u8) -> MasterKey {
        MasterKey::from_base64(&base64::encode(&[fill; 32])).unwrap()
    }

    #[test]
    fn a_sealed_text_opens_after_a_restart_and_never_looks_the_same() {
        let sealed = key(1).seal("hunter2").unwrap();
        assert_eq!(key(1).unseal(&sealed).unwrap(), "hunter2");
        assert_ne!(key(1).seal("hunter2").unwrap(), sealed);
        assert!(!sealed.contains("hunter2"));
    }

    #[test]
    fn another_key_is_told_from_damage() {
        let sealed = key(1).seal("hunter2").unwrap();
        assert!(matches!(key(2).unseal(&sealed), Err(SealError::WrongKey { .. })));
        for broken in ["", "pw1.a.b", "pw2.x.y.z", &sealed.replace("pw1.", "pw1.."), &format!("{sealed}AAAA")] {
            assert!(matches!(key(1).unseal(broken), Err(SealError::Damaged)), "{broken}");
        }
        let (head, tail) = sealed.rsplit_once('.').unwrap();
        let mut bytes = base64::decode(tail).unwrap();
        bytes[NONCE_LEN] ^= 1;
        let flipped = format!("{head}.{}", base64::encode(&bytes));
        assert!(matches!(key(1).unseal(&flipped), Err(SealError::Damaged)));
    }

    /// A keeper of keys elsewhere, which is asked over a network and counts how often.
    #[derive(Debug, Default)]
    struct Elsewhere(Arc<Mutex<Vec<[u8; 32]>>>);

    impl Kms for Elsewhere {
        fn key_id(&self) -> &str {
            "elsewhere:1"
        }

        fn wrap(&self, data_key: &[u8; 32]) -> Result<Vec<u8>, SealError> {
            let mut keys = self.0.lock().unwrap();
            keys.push(*data_key);
            Ok(vec![u8::try_from(keys.len()).unwrap()])
        }

        fn unwrap(&self, wrapped: &[u8]) -> Result<[u8; 32], SealError> {
            let keys = self.0.lock().unwrap();
            let number = wrapped.first().map(|number| usize::from(*number)).unwrap_or_default();
            number.checked_sub(1).and_then(|at| keys.get(at)).copied().ok_or(SealError::Damaged)
        }
    }

    #[test]
    fn data_keys_are_wrapped_by_whatever_keeps_the_master_key() {
        let elsewhere = Elsewhere::default();
        let keys = elsewhere.0.clone();
        let again = Elsewhere(keys.clone());
        let key = MasterKey::new(Box::new(elsewhere));
        let sealed: Vec<String> = (0..50).map(|number| key.seal(&number.to_string()).unwrap()).collect();
        // The data key never leaves in clear, and one is wrapped once for all that it seals.
        assert_eq!(keys.lock().unwrap().len(), 1);
        assert!(sealed.iter().all(|text| text.starts_with("pw1.elsewhere:1.")));
        let other = MasterKey::new(Box::new(again));
        assert_eq!(other.unseal(&sealed[49]).unwrap(), "49");
        keys.lock().unwrap().clear();
        let third = MasterKey::new(Box::new(Elsewhere(keys)));
        assert!(matches!(third.unseal(&sealed[0]), Err(SealError::Damaged)));
    }

    #[test]
    fn a_key_file_is_made_once_and_is_the_owners() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        assert!(MasterKey::from_file(&path).unwrap().is_none());
        create_master_key_file(&path).unwrap();
        assert!(matches!(create_master_key_file(&path), Err(KeyError::Create { .. })));
        let sealed = MasterKey::from_file(&path).unwrap().unwrap().seal("x").unwrap();
        assert_eq!(MasterKey::from_file(&path).unwrap().unwrap().unseal(&sealed).unwrap(), "x");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            assert!(matches!(MasterKey::from_file(&path), Err(KeyError::Open { .. })));
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::write(&path, "c2hvcnQ=\n").unwrap();
        assert!(matches!(MasterKey::from_file(&path), Err(KeyError::Malformed { .. })));
    }
}
