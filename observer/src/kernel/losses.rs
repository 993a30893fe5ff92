//! Records that found the ring full, read by whoever reads the ring.

use std::os::fd::AsFd as _;

use aya::{
    maps::{IterableMap as _, Map, MapData, MapError, PerCpuArray},
    sys::SyscallError,
};
use observer_common::{Kind, counter::Counter};

/// A handle of its own on the kernel's counters, which may outlive the programs.
pub struct Losses(PerCpuArray<MapData, u64>);

impl Losses {
    pub(super) fn of(counters: &PerCpuArray<MapData, u64>) -> Result<Self, MapError> {
        let again = counters.map().fd().as_fd().try_clone_to_owned();
        let fd = again.map_err(|io_error| SyscallError { call: "fcntl", io_error })?;
        Ok(Self(PerCpuArray::try_from(Map::PerCpuArray(MapData::from_fd(fd)?))?))
    }

    /// How many were lost since attaching, by kind.
    pub fn read(&self) -> Result<[u64; Kind::ALL.len()], MapError> {
        records(&self.0)
    }
}

/// The same from anybody's handle.
pub(super) fn records(counters: &PerCpuArray<MapData, u64>) -> Result<[u64; Kind::ALL.len()], MapError> {
    let mut records = [0; Kind::ALL.len()];
    for (count, kind) in records.iter_mut().zip(Kind::ALL) {
        *count = counters.get(&Counter::lost(kind), 0)?.iter().sum();
    }
    Ok(records)
}
