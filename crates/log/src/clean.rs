//! The mark that a log was closed cleanly: with it the next open neither scans nor starts an
//! epoch.

use std::io;

use crate::host::{Host, read_small, write_all_at};
use crate::record::u64_at;
use crate::{Epoch, Offset};

const NAME: &str = "CLEAN";
const UNFINISHED_NAME: &str = "CLEAN.tmp";
const MAGIC: &[u8; 8] = b"GUSHEND1";
const BYTES: usize = 8 + 5 * 8 + 4;

/// How the log looked when it was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clean {
    pub(crate) epoch: Epoch,
    pub(crate) next: Offset,
    /// The newest segment and its length.
    pub(crate) last_base: Option<Offset>,
    pub(crate) last_bytes: u64,
    /// Whether it is to be written on.
    pub(crate) is_last_active: bool,
}

impl Clean {
    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for number in [
            self.epoch.as_u64(),
            self.next.as_u64(),
            self.last_base.map_or(0, Offset::as_u64),
            self.last_bytes,
            u64::from(self.is_last_active),
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = <&[u8; BYTES]>::try_from(bytes).ok()?;
        let (covered, crc) = bytes.split_last_chunk::<4>()?;
        if !covered.starts_with(MAGIC) || crc32fast::hash(covered) != u32::from_le_bytes(*crc) {
            return None;
        }
        Some(Self {
            epoch: Epoch::from_u64(u64_at(covered, 8)),
            next: Offset::from_u64(u64_at(covered, 16)),
            last_base: Some(u64_at(covered, 24))
                .filter(|raw| *raw != 0)
                .map(Offset::from_u64),
            last_bytes: u64_at(covered, 32),
            is_last_active: u64_at(covered, 40) == 1,
        })
    }

    /// Leaves the mark, durably.
    pub(crate) fn write(&self, host: &dyn Host) -> io::Result<()> {
        let file = host.create(UNFINISHED_NAME)?;
        write_all_at(&*file, &self.encode(), 0)?;
        file.sync()?;
        host.rename(UNFINISHED_NAME, NAME)?;
        host.sync_names()
    }

    /// `None`: there is no mark, or not a good one.
    pub(crate) fn read(host: &dyn Host) -> io::Result<Option<Self>> {
        Ok(read_small(host, NAME, BYTES)?
            .as_deref()
            .and_then(Self::decode))
    }

    /// Takes the mark away, durably: from now on the log is in use.
    pub(crate) fn remove(host: &dyn Host) -> io::Result<()> {
        match host.remove(NAME) {
            Ok(()) => host.sync_names(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}
