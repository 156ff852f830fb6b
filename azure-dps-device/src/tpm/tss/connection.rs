//! One connection to a TPM, and the commands sent on it. [`Connection::tidy`] removes the objects that a call
//! has loaded; dropping the connection does too.

use std::str::FromStr as _;
use std::thread::sleep;
use std::time::Duration;

use azure_dps_core::{Error, ErrorKind, Result};
use tss_esapi::constants::{CapabilityType, SessionType};
use tss_esapi::handles::{AuthHandle, KeyHandle, ObjectHandle, PersistentTpmHandle, SessionHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::dynamic_handles::Persistent;
use tss_esapi::interface_types::resource_handles::{Hierarchy, Provision};
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{
    Auth, CapabilityData, Digest, EncryptedSecret, IdObject, MaxBuffer, Nonce, Private, Public,
    SymmetricDefinition, SymmetricDefinitionObject,
};
use tss_esapi::tcti_ldr::TctiNameConf;
use tss_esapi::traits::{Marshall as _, UnMarshall as _};
use tss_esapi::{Context, WrapperErrorKind};

use super::builder::TssTpmBuilder;
use super::keys::{ENDORSEMENT_KEY, STORAGE_ROOT_KEY, Template, can_persist, signs};
use super::response::{FAILURE, Task, code, error, failed, is_for_now, unreachable};
use crate::tpm::blob::ActivationBlob;

pub(super) struct Connection {
    context: Context,
    options: TssTpmBuilder,
    /// The objects that the call has loaded into the TPM.
    loaded: Vec<ObjectHandle>,
    /// The persistent keys that the call has looked up.
    found: Vec<ObjectHandle>,
}

/// A persistent key of the TPM.
pub(super) struct Key {
    handle: KeyHandle,
    /// Its `TPM2B_PUBLIC`.
    pub(super) public: Vec<u8>,
}

/// A key of the service, encrypted by the storage root key: only this TPM can load it.
pub(super) struct Imported {
    private: Private,
    public: Public,
}

impl Connection {
    pub(super) fn connect(options: &TssTpmBuilder) -> Result<Self> {
        let tcti = &options.tcti;
        let name = TctiNameConf::from_str(tcti).ok().filter(|_| is_understood(tcti)).ok_or_else(|| {
            let why = "use `device:/dev/tpmrm0`, `swtpm:host=127.0.0.1,port=2321` or `tabrmd`";
            Error::new(ErrorKind::Config, format!("`{tcti}` is not a valid TCTI: {why}"))
        })?;
        let context =
            Context::new(name).map_err(|why| unreachable(tcti, tcti.strip_prefix("device:"), why))?;
        let mut chip = Self { context, options: options.clone(), loaded: Vec::new(), found: Vec::new() };
        for (hierarchy, password) in [
            (ObjectHandle::Owner, &options.owner_password),
            (ObjectHandle::Endorsement, &options.endorsement_password),
        ] {
            let set = Auth::try_from(password.as_slice())
                .and_then(|auth| chip.context.tr_set_auth(hierarchy, auth));
            set.map_err(|_| Error::new(ErrorKind::Config, "a password is longer than a TPM supports"))?;
        }
        Ok(chip)
    }

    /// Returns the connection if the TPM still answers.
    pub(super) fn still_there(mut self) -> Option<Self> {
        self.answers().then_some(self)
    }

    fn answers(&mut self) -> bool {
        self.context.get_capability(CapabilityType::Handles, PERSISTENT, 1).is_ok()
    }

    /// Removes the loaded objects, and forgets the keys that were looked up, because another program may
    /// change them before the next call. Returns the connection if that succeeded.
    pub(super) fn tidy(mut self) -> Option<Self> {
        let mut clean = true;
        for loaded in std::mem::take(&mut self.loaded) {
            clean &= self.context.flush_context(loaded).is_ok();
        }
        for mut found in std::mem::take(&mut self.found) {
            clean &= self.context.tr_close(&mut found).is_ok();
        }
        clean.then_some(self)
    }

    pub(super) fn endorsement_key(&mut self) -> Result<Key> {
        self.primary(&ENDORSEMENT_KEY, self.options.endorsement_key, Hierarchy::Endorsement, Task::AsEndorser)
    }

    pub(super) fn storage_root_key(&mut self) -> Result<Key> {
        self.primary(&STORAGE_ROOT_KEY, self.options.storage_root_key, Hierarchy::Owner, Task::AsOwner)
    }

    /// Decrypts, inside the TPM, a key that the service has encrypted for it.
    pub(super) fn import(&mut self, blob: &ActivationBlob<'_>) -> Result<Imported> {
        let endorser = self.endorsement_key()?.handle;
        let parent = self.storage_root_key()?.handle;
        let inner_key = self.activate(endorser, parent, blob)?;
        let cipher = match inner_key.len() {
            32 => SymmetricDefinitionObject::AES_256_CFB,
            _ => SymmetricDefinitionObject::AES_128_CFB,
        };
        let imported = self.as_user(|context| {
            let public = Public::unmarshall(blob.public)?;
            if public.marshall()? != blob.public {
                return Err(tss_esapi::Error::WrapperError(WrapperErrorKind::WrongParamSize));
            }
            let private = context.import(
                parent.into(),
                Some(inner_key.as_slice().try_into()?),
                public.clone(),
                Private::try_from(blob.duplicate)?,
                EncryptedSecret::try_from(blob.duplicate_secret)?,
                cipher,
            )?;
            Ok(Imported { private, public })
        });
        imported.map_err(|why| self.refused("TPM2_Import", why))
    }

    /// Makes an imported key the device's identity. The previous key is removed only after the new one has
    /// signed a test message.
    pub(super) fn install(&mut self, key: &Imported) -> Result<()> {
        let handle = self.options.identity_key;
        let public = key.public.marshall().map_err(|why| failed(Task::Blob("TPM2_EvictControl"), why))?;
        if !can_persist(&public) {
            return Err(error("the service sent an identity key that a TPM cannot persist"));
        }
        let old = self.identity(handle)?;
        let new = self.load(key)?;
        let signature = self.hmac(new, b"identity", Task::Blob)?;
        if let Some(old) = old {
            // Writing is slow, wears out the chip, and can be interrupted, so an identical key stays.
            if self.hmac(old, b"identity", Task::Other).is_ok_and(|of_old| of_old == signature) {
                return Ok(());
            }
            self.evict_control(old, handle)?;
        }
        self.evict_control(new, handle)
    }

    /// Signs with the identity key.
    pub(super) fn sign(&mut self, message: &[u8]) -> Result<Vec<u8>> {
        let handle = self.options.identity_key;
        match self.identity(handle)? {
            Some(key) => self.hmac(key, message, Task::Other),
            None => Err(error(format!(
                "the TPM does not hold an identity key at {handle:#x}: register the device first; \
                 the key comes with the assignment"
            ))),
        }
    }

    pub(super) fn sign_with(&mut self, key: &Imported, message: &[u8]) -> Result<Vec<u8>> {
        let key = self.load(key)?;
        self.hmac(key, message, Task::Blob)
    }

    /// Returns the key at `handle`; creates and persists it if the handle is free.
    fn primary(&mut self, template: &Template, handle: u32, hierarchy: Hierarchy, task: Task) -> Result<Key> {
        if let Some((key, public)) = self.persistent(handle)? {
            return match template.differs(area(&public)) {
                None => Ok(Key { handle: key, public }),
                Some(what) => Err(error(format!(
                    "at {handle:#x} the TPM holds {what}, which is not the RSA {} that the \
                     provisioning service needs: give another handle with `{}`; a free handle gets \
                     a new key",
                    template.name,
                    template.name.replace(' ', "_")
                ))),
            };
        }
        let made = self.as_user(|context| {
            let public = Public::unmarshall(&template.area())?;
            context.create_primary(hierarchy, public, None, None, None, None)
        });
        let made = made.map_err(|why| failed(task, why))?;
        let persisted = self.evict_control(made.key_handle, handle);
        // The TPM does not have room for both primaries, a session and a key at once.
        let _ = self.context.flush_context(made.key_handle.into());
        persisted?;
        match self.persistent(handle)? {
            Some((key, public)) => Ok(Key { handle: key, public }),
            None => Err(error(format!("the TPM did not persist a new {} at {handle:#x}", template.name))),
        }
    }

    /// Returns the identity key, if the TPM holds one.
    fn identity(&mut self, handle: u32) -> Result<Option<KeyHandle>> {
        match self.persistent(handle)? {
            Some((_, public)) if !signs(area(&public)) => Err(error(format!(
                "at {handle:#x} the TPM holds a key that is not an identity key: \
                 give another handle with `identity_key`"
            ))),
            found => Ok(found.map(|(key, _)| key)),
        }
    }

    /// Returns the key at a persistent handle and its `TPM2B_PUBLIC`.
    fn persistent(&mut self, handle: u32) -> Result<Option<(KeyHandle, Vec<u8>)>> {
        let found = self.read_public(handle).map_err(|why| failed(Task::Other("TPM2_ReadPublic"), why))?;
        let sized = |public: Vec<u8>| {
            let length = u16::try_from(public.len()).unwrap_or_default();
            [&length.to_be_bytes()[..], &public].concat()
        };
        Ok(found.map(|(key, public)| (key, sized(public))))
    }

    fn read_public(&mut self, handle: u32) -> tss_esapi::Result<Option<(KeyHandle, Vec<u8>)>> {
        let handle = PersistentTpmHandle::new(handle)?.into();
        // The capability is checked first, because libtss2 prints an error when it reads a free handle.
        let (held, _) = self.context.get_capability(CapabilityType::Handles, u32::from(handle), 1)?;
        if !matches!(held, CapabilityData::Handles(held) if held.contains(&handle)) {
            return Ok(None);
        }
        let found = self.context.tr_from_tpm_public(handle)?;
        self.note(found);
        let key = KeyHandle::from(found);
        let (public, _, _) = self.context.read_public(key)?;
        Ok(Some((key, public.marshall()?)))
    }

    /// Returns the inner key of a blob.
    fn activate(
        &mut self,
        endorser: KeyHandle,
        parent: KeyHandle,
        blob: &ActivationBlob<'_>,
    ) -> Result<Digest> {
        let session = self.context.start_auth_session(
            None,
            None,
            None,
            SessionType::Policy,
            SymmetricDefinition::Null,
            HashingAlgorithm::Sha256,
        );
        let session = session.map_err(|why| failed(Task::Other("TPM2_StartAuthSession"), why))?;
        let policy = session.and_then(|session| PolicySession::try_from(session).ok());
        let Some(policy) = policy else { return Err(error("the TPM did not start a session")) };
        self.loaded.push(SessionHandle::from(policy).into());
        let allowed = self.as_user(|context| {
            let (nonce, hash, reference) = (Nonce::default(), Digest::default(), Nonce::default());
            context.policy_secret(policy, AuthHandle::Endorsement, nonce, hash, reference, None)
        });
        allowed.map_err(|why| failed(Task::AsEndorser, why))?;
        let sessions = (Some(AuthSession::Password), Some(policy.into()), None);
        let activated = self.context.execute_with_sessions(sessions, |context| {
            let credential = IdObject::try_from(blob.credential)?;
            let secret = EncryptedSecret::try_from(blob.credential_secret)?;
            context.activate_credential(parent, endorser, credential, secret)
        });
        activated.map_err(|why| self.refused("TPM2_ActivateCredential", why))
    }

    fn load(&mut self, key: &Imported) -> Result<KeyHandle> {
        let parent = self.storage_root_key()?.handle;
        let loaded = self.as_user(|context| context.load(parent, key.private.clone(), key.public.clone()));
        let loaded = loaded.map_err(|why| self.refused("TPM2_Load", why))?;
        self.loaded.push(loaded.into());
        Ok(loaded)
    }

    fn hmac(&mut self, key: KeyHandle, message: &[u8], task: fn(&'static str) -> Task) -> Result<Vec<u8>> {
        let Ok(message) = MaxBuffer::try_from(message) else {
            let (length, most) = (message.len(), MaxBuffer::MAX_SIZE);
            let why = format!("the TPM signs at most {most} bytes, but the message has {length}");
            return Err(Error::new(ErrorKind::Config, why));
        };
        let signed = self.as_user(|context| context.hmac(key.into(), message, HashingAlgorithm::Sha256));
        signed.map(|digest| digest.value().to_vec()).map_err(|why| failed(task("TPM2_HMAC"), why))
    }

    /// Persists a transient key at `handle`, or removes the key from `handle` if it is persistent.
    fn evict_control(&mut self, key: KeyHandle, handle: u32) -> Result<()> {
        let mut pauses = [100, 300, 1000].map(Duration::from_millis).into_iter();
        let done = loop {
            let done = PersistentTpmHandle::new(handle).map(Persistent::from).and_then(|place| {
                self.as_user(|context| context.evict_control(Provision::Owner, key.into(), place))
            });
            // A TPM may limit the rate of writes.
            match (&done, pauses.next()) {
                (Err(why), Some(pause)) if code(why).is_some_and(is_for_now) => sleep(pause),
                _ => break done,
            }
        };
        let persisted = done.map_err(|why| failed(Task::AsOwner, why))?;
        if !persisted.is_none() {
            self.note(persisted);
        }
        Ok(())
    }

    /// Lets [`tidy`](Self::tidy) forget the key. libtss2 returns the same handle for the same key.
    fn note(&mut self, found: ObjectHandle) {
        if !self.found.contains(&found) {
            self.found.push(found);
        }
    }

    /// Runs a command with the passwords of the hierarchies that it uses. Keys have no passwords.
    fn as_user<T>(
        &mut self,
        command: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
    ) -> tss_esapi::Result<T> {
        self.context.execute_with_session(Some(AuthSession::Password), command)
    }

    /// The error for a command that refused data of the service.
    fn refused(&mut self, command: &'static str, why: tss_esapi::Error) -> Error {
        // A simulator returns this code both when it cannot decrypt data and in its failure mode. In failure
        // mode it does not answer another command.
        let dead = code(&why) == Some(FAILURE) && !self.answers();
        failed(if dead { Task::Other(command) } else { Task::Blob(command) }, why)
    }
}

/// Whether the library understands every part of an address. It ignores unknown parts, and would connect to
/// another TPM.
fn is_understood(tcti: &str) -> bool {
    match tcti.split_once(':') {
        Some(("swtpm" | "mssim", address)) => {
            address.split(',').all(|part| part.starts_with("host=") || part.starts_with("port="))
        }
        _ => true,
    }
}

/// The `TPMT_PUBLIC` in a `TPM2B_PUBLIC`.
fn area(public: &[u8]) -> &[u8] {
    public.get(2..).unwrap_or_default()
}

const PERSISTENT: u32 = 0x8100_0000;
