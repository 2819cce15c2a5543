//! Disks: virtio block devices on the PCI bus, as files that can be mapped.
//!
//! Flow:  read or write -> request in the device's queue -> the thread sleeps a little and looks -> answer.
//! Locks: each disk's, to put a request in and to take an answer out; not while the device works.
//! Sleep: for the device. It is asked, not waited for by interrupt: a request takes longer than a look.
//! Owns:  the devices that were found, for good.

mod dma;
mod pci;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU32;

use rumpvm_platform::{File, FileId, IoError};
use virtio_drivers::Error;
use virtio_drivers::device::blk::{BlkReq, BlkResp, SECTOR_SIZE, VirtIOBlk};
use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::bus::{Command, PciRoot};
use virtio_drivers::transport::pci::{PciTransport, virtio_device_type};

use crate::lock::Lock;
use crate::{clock, sleepers};
use dma::Shared;
use pci::Configuration;

type Driver = VirtIOBlk<Shared, PciTransport>;

/// Looks at a device before the thread sleeps between two.
const LOOKS: u32 = 100;
/// How long it sleeps: a fraction of what an emulated disk takes.
const NAP: u64 = 50_000;

/// Errors by their numbers in Linux.
const EIO: i32 = 5;
const EINVAL: i32 = 22;
const EROFS: i32 = 30;
/// Volume number of disks; the file number says which.
const DEVICE: u64 = 254;

/// A disk. Offsets and lengths are multiples of 512.
pub struct Disk {
    number: u64,
    bytes: u64,
    is_read_only: bool,
    driver: Lock<Driver>,
}

/// Finds the disks of the machine, in the order of their places on the first bus. Once.
pub fn find_disks() -> Vec<Arc<Disk>> {
    let mut root = PciRoot::new(Configuration);
    let devices: Vec<_> = root.enumerate_bus(0).collect();
    let mut disks = Vec::new();
    for (place, info) in devices {
        if virtio_device_type(&info) != Some(DeviceType::Block) {
            continue;
        }
        let (_, command) = root.get_status_command(place);
        root.set_command(place, command | Command::MEMORY_SPACE | Command::BUS_MASTER);
        let driver =
            PciTransport::new::<Shared, _>(&mut root, place).map_err(|error| log::warn!("{error}"));
        let Ok(transport) = driver else { continue };
        match Driver::new(transport) {
            Ok(driver) => disks.push(Arc::new(Disk::new(disks.len() as u64, driver))),
            Err(error) => log::warn!("the disk at {place} does not start: {error}"),
        }
    }
    disks
}

impl Disk {
    fn new(number: u64, mut driver: Driver) -> Self {
        driver.disable_interrupts();
        let bytes = driver.capacity() * SECTOR_SIZE as u64;
        Self { number, bytes, is_read_only: driver.readonly(), driver: Lock::new(driver) }
    }

    /// Whether it refuses to be written.
    pub fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Where the bytes at `offset` begin, in sectors, if they can be read and written at all.
    fn sector(&self, offset: u64, bytes: usize) -> Result<usize, IoError> {
        let is_whole =
            offset.is_multiple_of(SECTOR_SIZE as u64) && bytes.is_multiple_of(SECTOR_SIZE);
        if !is_whole || offset + bytes as u64 > self.bytes {
            return Err(IoError(EINVAL));
        }
        Ok(offset as usize / SECTOR_SIZE)
    }

    /// Puts a request in by `begin`, waits for its answer, and takes it out by `end`.
    fn request(
        &self,
        mut begin: impl FnMut(&mut Driver) -> Result<u16, Error>,
        end: impl FnOnce(&mut Driver, u16) -> Result<(), Error>,
    ) -> Result<(), IoError> {
        let mut looks = 0;
        let token = loop {
            match begin(&mut self.driver.lock()) {
                Ok(token) => break token,
                // Others' requests fill the queue.
                Err(Error::QueueFull) => rest(&mut looks),
                Err(_) => return Err(IoError(EIO)),
            }
        };
        loop {
            let mut driver = self.driver.lock();
            // Answers are taken out in order, each by its own thread.
            if driver.peek_used() == Some(token) {
                return end(&mut driver, token).map_err(|_| IoError(EIO));
            }
            drop(driver);
            rest(&mut looks);
        }
    }
}

/// Passes a moment between two looks.
fn rest(looks: &mut u32) {
    *looks += 1;
    if *looks < LOOKS {
        core::hint::spin_loop();
    } else {
        sleepers::sleep(&AtomicU32::new(0), 0, Some(clock::now() + NAP));
    }
}

impl File for Disk {
    fn id(&self) -> FileId {
        FileId { device: DEVICE, inode: self.number }
    }

    fn length(&self) -> u64 {
        self.bytes
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize, IoError> {
        let bytes = into.len().min(self.bytes.saturating_sub(offset) as usize);
        let into = &mut into[..bytes];
        if bytes == 0 {
            return Ok(0);
        }
        let sector = self.sector(offset, bytes)?;
        let (mut request, mut response) = (BlkReq::default(), BlkResp::default());
        let (into, request, response) = (&raw mut *into, &raw mut request, &raw mut response);
        self.request(
            // SAFETY: all three are ours and stay until the second closure has run, which `request` waits for, and are
            // not touched in between.
            |driver| unsafe {
                driver.read_blocks_nb(sector, &mut *request, &mut *into, &mut *response)
            },
            // SAFETY: as above.
            |driver, token| unsafe {
                driver.complete_read_blocks(token, &*request, &mut *into, &mut *response)
            },
        )?;
        Ok(bytes)
    }

    fn write(&self, offset: u64, from: &[u8]) -> Result<(), IoError> {
        if self.is_read_only {
            return Err(IoError(EROFS));
        }
        if from.is_empty() {
            return Ok(());
        }
        let sector = self.sector(offset, from.len())?;
        let (mut request, mut response) = (BlkReq::default(), BlkResp::default());
        let (request, response) = (&raw mut request, &raw mut response);
        self.request(
            // SAFETY: as in `read`.
            |driver| unsafe { driver.write_blocks_nb(sector, &mut *request, from, &mut *response) },
            // SAFETY: as above.
            |driver, token| unsafe {
                driver.complete_write_blocks(token, &*request, from, &mut *response)
            },
        )
    }

    /// A disk is as long as it is.
    fn set_length(&self, _length: u64) -> Result<(), IoError> {
        Err(IoError(EINVAL))
    }

    /// Waits for the device with its lock held: the driver has no other way.
    fn sync(&self) -> Result<(), IoError> {
        self.driver.lock().flush().map_err(|_| IoError(EIO))
    }
}
