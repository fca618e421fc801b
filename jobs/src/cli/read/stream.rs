//! The Arrow IPC stream on stdout, written from the batches' own memory.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::os::fd::AsFd;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::Schema;
use arrow::ipc::writer::StreamEncoder;

use super::unwritten;

/// What a pipe should hold: a batch or more, so that reader and writer seldom wait for one another.
const PIPE: usize = 1 << 20;

/// A stream of batches on stdout.
pub(super) struct Stream {
    out: File,
    encoder: StreamEncoder,
}

impl Stream {
    /// Begins a stream. The schema goes out with the first batch.
    pub(super) fn open(schema: &Schema) -> Result<Self, String> {
        let out = io::stdout().as_fd().try_clone_to_owned().map_err(|e| unwritten(&e))?;
        #[cfg(target_os = "linux")]
        {
            // It is a file, or the limit is lower: then it stays as it is.
            let _ = rustix::pipe::fcntl_setpipe_size(&out, PIPE);
        }
        let encoder = StreamEncoder::try_new(schema).map_err(|e| e.to_string())?;
        Ok(Self { out: out.into(), encoder })
    }

    /// Writes a batch; whether anybody still reads.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<bool, String> {
        let buffers = self.encoder.encode(batch).map_err(|e| e.to_string())?;
        write_all(&mut self.out, &buffers)
    }

    /// Ends the stream.
    pub(super) fn finish(mut self) -> Result<bool, String> {
        let buffers = self.encoder.finish().map_err(|e| e.to_string())?;
        write_all(&mut self.out, &buffers)
    }
}

fn write_all(out: &mut File, buffers: &[Buffer]) -> Result<bool, String> {
    let mut slices: Vec<IoSlice<'_>> = buffers.iter().map(|buffer| IoSlice::new(buffer)).collect();
    let mut rest = slices.as_mut_slice();
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match out.write_vectored(rest) {
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A reader that went away has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(false),
            Err(error) => return Err(unwritten(&error)),
        }
    }
    Ok(true)
}
