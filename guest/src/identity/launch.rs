//! The key that the guest was launched with, which QEMU hands over in its firmware configuration device.
//!
//! Called once at start, before the identity is read. Trusts the hypervisor, which sees the guest's memory anyhow. A key that
//! is on the disk already stays: requests, receipts and the manager know the guest by it.

use super::{IdentityError, keep_seed};
use crate::modules::modprobe;
use crate::state::{StateDir, StateError, io_at};
use std::io;
use std::path::Path;
use tracing::{debug, info};

/// Puts the key of the launch in the place of the key that the first start would make.
///
/// `load` is whether modprobe may be run for the device.
///
/// # Errors
/// [`IdentityError::NotAKey`] for anything but 32 bytes, [`IdentityError::State`] where it cannot be kept.
pub fn adopt(state: &StateDir, load: bool) -> Result<(), IdentityError> {
    let exists = |name: &str| {
        let path = state.root().join(name);
        io_at("look at", &path, path.try_exists())
    };
    let kept = state.root().join("key");
    let has_key = exists("key")?;
    // Until it is let in for the first time, there may be a one-time token in the launch.
    let is_new = !has_key || !(exists("token")? || exists("token-share")?);
    let given = Path::new(GIVEN);
    if load
        && is_new
        && !Path::new(DEVICE).exists()
        && let Err(error) = modprobe(MODULE)
    {
        debug!(module = MODULE, error, "no firmware configuration device");
    }
    if has_key {
        return Ok(());
    }
    adopt_from(given, &kept)
}

fn adopt_from(given: &Path, kept: &Path) -> Result<(), IdentityError> {
    let Some(mut seed) = self::given(given)? else { return Ok(()) };
    if seed.len() != ed25519_dalek::SECRET_KEY_LENGTH {
        return Err(IdentityError::NotAKey { path: given.to_owned(), got: seed.len() });
    }
    keep_seed(kept, &mut seed)?;
    info!(from = %given.display(), "the key of the guest's launch is its key");
    Ok(())
}

/// What QEMU hands over under this name, if it does.
pub(super) fn given(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => Ok(Some(io_at("read", path, read)?)),
    }
}

const MODULE: &str = "qemu_fw_cfg";
const DEVICE: &str = "/sys/firmware/qemu_fw_cfg";
const GIVEN: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/org.doorbell.key/raw";
/// A one-time token, for [`super::once`].
pub(super) const GIVEN_TOKEN: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/org.doorbell.enrol/raw";
/// The key of the manager, for [`super::pin`].
pub(super) const GIVEN_PIN: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/org.doorbell.manager/raw";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;
    use crate::identity::tests::state;

    #[test]
    fn the_key_of_the_launch_becomes_the_guests_at_its_first_start_only() {
        let (dir, state) = state();
        let (given, kept) = (dir.path().join("raw"), state.root().join("key"));
        std::fs::write(&given, [1; 32]).unwrap();
        adopt_from(&given, &kept).unwrap();
        let first = Identity::open(&state).unwrap().fingerprint();
        assert_eq!(std::fs::read(&kept).unwrap(), [1; 32]);

        std::fs::write(&given, [2; 32]).unwrap();
        adopt(&state, false).unwrap();
        assert_eq!(Identity::open(&state).unwrap().fingerprint(), first, "a guest stays who it is");
    }

    #[test]
    fn what_is_no_key_is_refused_and_leaves_none() {
        let (dir, state) = state();
        let (given, kept) = (dir.path().join("raw"), state.root().join("key"));
        adopt_from(&given, &kept).unwrap();
        assert!(!kept.exists(), "no key was given");
        std::fs::write(&given, [1; 31]).unwrap();
        let error = adopt_from(&given, &kept).unwrap_err();
        assert!(matches!(error, IdentityError::NotAKey { got: 31, .. }) && !kept.exists(), "{error}");
    }
}
