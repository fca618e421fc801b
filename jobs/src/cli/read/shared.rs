//! Batches in memory that reader and program share, instead of in a pipe: nothing is copied on the way.
//!
//! The memory is a file without a name, cut into slots. Standard output has a line of JSON for it, and one for each
//! batch; on standard input the reader writes a byte once it has mapped the memory, and one for each batch that it is
//! done with, in their order. A slot is written again when its batch was done with, so its pages stay warm, and there
//! are never more batches under way than slots. What stands in a slot is one message of Arrow IPC.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Read, Stdin, Write};
use std::os::fd::AsRawFd;

use anabranch_connectors::table::read::Left;
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::Schema;
use arrow::ipc::writer::StreamEncoder;
use bytes::Bytes;
use memmap2::MmapOptions;
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::json;

use super::unwritten;

/// Batches that may be under way: one is read while the next is made, and two wait.
const SLOTS: u64 = 4;
/// Bytes of address space of a slot, of which only those that were written take memory.
const SLOT: u64 = 16 << 30;
/// What ends a stream of Arrow IPC, behind the schema.
const END: usize = 8;

/// Batches in shared memory.
pub(super) struct Shared {
    memory: File,
    /// As much of it as a slot, mapped here; its content is what a reader has, and of no use.
    places: Buffer,
    encoder: StreamEncoder,
    /// Bytes of the schema, which the encoder puts before the first batch.
    schema: usize,
    given: u64,
    /// Bytes that the reader wrote: one when it was ready, and one for each batch.
    answers: u64,
    input: Stdin,
}

impl Shared {
    /// Makes the memory and tells of it.
    pub(super) fn open(schema: &Schema) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("cannot make shared memory: {error}");
        let memory = memfd_create("anabranch-read", MemfdFlags::CLOEXEC).map_err(|e| failed(&e))?;
        let memory = File::from(memory);
        let encoder = || StreamEncoder::try_new(schema).map_err(|e| e.to_string());
        // An empty stream is the schema and its end. It stands behind the slots.
        let alone = encoder()?.finish().map_err(|e| e.to_string())?;
        let at = SLOTS * SLOT;
        let length = write(&memory, &alone, at).map_err(|e| failed(&e))? as usize;
        // SAFETY: nobody cuts the memory while it has no name that others know.
        let mapped = unsafe { MmapOptions::new().len(SLOT as usize).map(&memory) };
        let places = Buffer::from(Bytes::from_owner(mapped.map_err(|e| failed(&e))?));
        let name = format!("/proc/{}/fd/{}", std::process::id(), memory.as_raw_fd());
        let shared = Self {
            memory,
            places,
            encoder: encoder()?,
            schema: length.saturating_sub(END),
            given: 0,
            answers: 0,
            input: io::stdin(),
        };
        shared.tell(&json!({ "memory": name, "schema": [at, length] }))?;
        Ok(shared)
    }

    /// What may stand in batches for values that are given apart.
    pub(super) fn places(&self) -> Buffer {
        self.places.clone()
    }

    /// Gives a batch with these values in their places, once there is a slot for it; whether anybody still reads.
    pub(super) fn write(&mut self, batch: &RecordBatch, left: &[Left]) -> Result<bool, String> {
        let buffers = self.encoder.encode(batch).map_err(|e| e.to_string())?;
        if self.given >= SLOTS && !self.answered(self.given - SLOTS + 2)? {
            return Ok(false);
        }
        if buffers.iter().map(|buffer| buffer.len() as u64).sum::<u64>() > SLOT {
            return Err("a batch takes more than 16 GiB; read smaller ones, with `--batch`".into());
        }
        let start = self.given % SLOTS * SLOT;
        let length = write(&self.memory, &filled(&buffers, left)?, start)
            .map_err(|error| format!("cannot write a batch to shared memory: {error}"))?;
        let before = if self.given == 0 { self.schema as u64 } else { 0 };
        self.given += 1;
        self.tell(&json!({ "batch": [start + before, length - before] }))
    }

    /// Waits until the reader is done with everything: the memory has no name without this process. Whether it is.
    pub(super) fn finish(mut self) -> Result<bool, String> {
        io::stdout().flush().map_err(|e| unwritten(&e))?;
        self.answered(self.given + 1)
    }

    /// Waits for so many answers; whether they came before the end of stdin.
    fn answered(&mut self, wanted: u64) -> Result<bool, String> {
        let mut bytes = [0; 64];
        while self.answers < wanted {
            match self.input.read(&mut bytes) {
                Ok(0) => return Ok(false),
                Ok(count) => self.answers += count as u64,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("cannot read from stdin: {error}")),
            }
        }
        Ok(true)
    }

    fn tell(&self, line: &serde_json::Value) -> Result<bool, String> {
        let mut out = io::stdout().lock();
        match writeln!(out, "{line}").and_then(|()| out.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(unwritten(&error)),
        }
    }
}

/// The buffers of a message, with values where their places are. An encoder that gave a place other than as it stands
/// would give memory of no content to the reader, so each must be found.
fn filled(buffers: &[Buffer], left: &[Left]) -> Result<Vec<Buffer>, String> {
    let mut all = Vec::with_capacity(buffers.len());
    let mut found = 0;
    for buffer in buffers {
        let place = |left: &Left| (left.place.as_ptr(), left.place.len());
        match left.iter().find(|left| place(left) == (buffer.as_ptr(), buffer.len())) {
            Some(left) => {
                all.extend_from_slice(&left.values);
                found += 1;
            }
            None => all.push(buffer.clone()),
        }
    }
    match found == left.len() {
        true => Ok(all),
        false => {
            Err("values of a batch have no place in its message, a mistake in the program".into())
        }
    }
}

/// Writes buffers one behind the other from this place on; how many bytes that are.
fn write(memory: &File, buffers: &[Buffer], at: u64) -> io::Result<u64> {
    let mut slices: Vec<IoSlice<'_>> = buffers.iter().map(|buffer| IoSlice::new(buffer)).collect();
    let mut rest = slices.as_mut_slice();
    IoSlice::advance_slices(&mut rest, 0);
    let mut written = 0;
    while !rest.is_empty() {
        match rustix::io::pwritev(memory, rest, at + written) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                IoSlice::advance_slices(&mut rest, count);
                written += count as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_where_their_place_is_or_the_batch_is_refused() {
        let memory = Buffer::from(vec![0_u8; 8]);
        let (head, place) = (memory.slice_with_length(0, 2), memory.slice_with_length(2, 4));
        let values = vec![Buffer::from(vec![1_u8, 2, 3]), Buffer::from(vec![4_u8])];
        let left = [Left { place: place.clone(), values }];
        let bytes: Vec<u8> = filled(&[head.clone(), place], &left)
            .unwrap()
            .iter()
            .flat_map(|b| b.to_vec())
            .collect();
        assert_eq!(bytes, [0, 0, 1, 2, 3, 4]);
        // A place that was copied, or cut.
        for other in [Buffer::from(vec![0_u8; 4]), memory.slice_with_length(2, 3)] {
            assert!(filled(&[head.clone(), other], &left).is_err());
        }
    }
}
