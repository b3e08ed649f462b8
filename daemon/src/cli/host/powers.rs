//! What the process may do by the kernel's leave, as far as flags of a host need it.

use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities};

/// What flags may ask of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Powers {
    /// It can act as any user.
    pub(in crate::cli) root: bool,
    /// It can make device nodes. Root in a container often cannot.
    pub(in crate::cli) make_devices: bool,
}

impl Powers {
    /// Of this process.
    pub(in crate::cli) fn own() -> Self {
        let own = capabilities(None).map(|sets| sets.effective);
        Self {
            root: geteuid().is_root(),
            make_devices: own.is_ok_and(|own| own.contains(CapabilitySet::MKNOD)),
        }
    }
}
