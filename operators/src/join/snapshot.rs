//! The state of a join as bytes: a header with a version, then per input its rows as an Arrow IPC stream and a
//! byte per row that says whether it has had a partner.

use anabranch_pipelines::operator::OperatorError;
use anabranch_pipelines::record::{from_ipc, to_ipc};

use super::side::Side;

const MAGIC: &[u8; 8] = b"ABRNJOIN";
const VERSION: u32 = 1;

/// Writes both sides; nothing when both are empty.
pub(super) fn write(sides: [&Side; 2]) -> Result<Vec<u8>, OperatorError> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    let mut rows = 0;
    for side in sides {
        let (records, matched) = side.all()?;
        rows += records.num_rows();
        let records = to_ipc(&records)?;
        bytes.extend_from_slice(&(records.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&records);
        bytes.extend_from_slice(&(matched.len() as u64).to_le_bytes());
        bytes.extend(matched.into_iter().map(u8::from));
    }
    Ok(if rows == 0 { Vec::new() } else { bytes })
}

/// Replaces both sides by what was written.
pub(super) fn read(snapshot: &[u8], sides: [&mut Side; 2]) -> Result<(), OperatorError> {
    let mut rest = snapshot;
    if part(&mut rest, MAGIC.len())? != MAGIC {
        return Err(damaged("it does not begin like one"));
    }
    let version = part(&mut rest, 4)?.try_into().map_or(0, u32::from_le_bytes);
    if version != VERSION {
        return Err(OperatorError::Failed(format!(
            "the snapshot of a join is of version {version}, this program reads {VERSION}"
        )));
    }
    for side in sides {
        let size = length(&mut rest)?;
        let records = from_ipc(part(&mut rest, size)?)?;
        if records.schema().fields() != side.schema().fields() {
            return Err(damaged("its columns are not those of the plan"));
        }
        let size = length(&mut rest)?;
        let matched: Vec<bool> = part(&mut rest, size)?.iter().map(|flag| *flag != 0).collect();
        if matched.len() != records.num_rows() {
            return Err(damaged("it has not as many marks as rows"));
        }
        side.replace(records, matched)?;
    }
    if rest.is_empty() { Ok(()) } else { Err(damaged("something follows it")) }
}

fn part<'a>(rest: &mut &'a [u8], size: usize) -> Result<&'a [u8], OperatorError> {
    let (part, behind) = rest.split_at_checked(size).ok_or_else(|| damaged("it ends early"))?;
    *rest = behind;
    Ok(part)
}

fn length(rest: &mut &[u8]) -> Result<usize, OperatorError> {
    let size = part(rest, 8)?.try_into().map_or(0, u64::from_le_bytes);
    usize::try_from(size).map_err(|_| damaged("a length is too large"))
}

fn damaged(how: &str) -> OperatorError {
    OperatorError::Failed(format!("the snapshot of a join is damaged: {how}"))
}
