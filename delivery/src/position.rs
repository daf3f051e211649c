//! Where a reader stands in a stream.

/// Epoch, offset and check: enough to say "everything up to here" and to be
/// caught when that "here" belongs to another history (guarantee G9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Random id of the unbroken log that the offset counts in.
    pub epoch: u64,
    /// 0 before the first event, then 1, 2, 3 … without holes.
    pub offset: u64,
    /// CRC-32 of the record at `offset`; 0 at offset 0.
    pub check: u32,
}

impl Position {
    /// Bytes of the packed form.
    pub const PACKED_LEN: usize = 20;

    /// The position before the first event of a stream.
    pub const fn start(epoch: u64) -> Self {
        Self {
            epoch,
            offset: 0,
            check: 0,
        }
    }

    /// The packed form, big endian: what clients hold, as an opaque string.
    pub fn pack(self) -> [u8; Self::PACKED_LEN] {
        let mut packed = [0; Self::PACKED_LEN];
        packed[..8].copy_from_slice(&self.epoch.to_be_bytes());
        packed[8..16].copy_from_slice(&self.offset.to_be_bytes());
        packed[16..].copy_from_slice(&self.check.to_be_bytes());
        packed
    }

    /// Reads the packed form; `None` if it has another length, or a check at
    /// offset 0.
    pub fn unpack(packed: &[u8]) -> Option<Self> {
        let packed: &[u8; Self::PACKED_LEN] = packed.try_into().ok()?;
        let (epoch, rest) = packed.split_first_chunk::<8>()?;
        let (offset, check) = rest.split_first_chunk::<8>()?;
        let position = Self {
            epoch: u64::from_be_bytes(*epoch),
            offset: u64::from_be_bytes(*offset),
            check: u32::from_be_bytes(check.try_into().ok()?),
        };
        (position.offset > 0 || position.check == 0).then_some(position)
    }
}
