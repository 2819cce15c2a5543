//! The PCI bus, through the two ports that every PC with one has: PCI Local Bus 3.0, 3.2.2.3.2.
//!
//! Locks: one, for an address and what is at it.

use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction};

use crate::lock::Lock;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
/// The address means a register on the bus.
const ENABLE: u32 = 1 << 31;

static PORTS: Lock<()> = Lock::new(());

/// The configuration space of the first 256 buses.
pub(super) struct Configuration;

fn address(function: DeviceFunction, register: u8) -> u32 {
    let DeviceFunction { bus, device, function } = function;
    let place = u32::from(bus) << 16 | u32::from(device) << 11 | u32::from(function) << 8;
    ENABLE | place | u32::from(register & !3)
}

impl ConfigurationAccess for Configuration {
    fn read_word(&self, function: DeviceFunction, register: u8) -> u32 {
        let _ports = PORTS.lock();
        // SAFETY: the two ports are the bus's, or nobody's; reading a register of this space has no effect.
        unsafe {
            x86::io::outl(ADDRESS, address(function, register));
            x86::io::inl(DATA)
        }
    }

    fn write_word(&mut self, function: DeviceFunction, register: u8, value: u32) {
        let _ports = PORTS.lock();
        // SAFETY: as above; what is written is what `virtio_drivers` does to a device that is ours.
        unsafe {
            x86::io::outl(ADDRESS, address(function, register));
            x86::io::outl(DATA, value);
        }
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Self
    }
}
