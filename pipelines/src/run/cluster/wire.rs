//! Messages between a supervisor and its processes, over a Unix socket: a length, then JSON.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// No message is longer; a longer one is noise.
const LONGEST: u64 = 1 << 30;

/// One end of a control socket. Any thread may send; one receives.
#[derive(Debug)]
pub(crate) struct Wire {
    reader: UnixStream,
    writer: Mutex<UnixStream>,
}

impl Wire {
    pub(crate) fn new(socket: UnixStream) -> io::Result<Self> {
        let writer = Mutex::new(socket.try_clone()?);
        Ok(Self { reader: socket, writer })
    }

    pub(crate) fn send(&self, message: &impl Serialize) -> io::Result<()> {
        let body = serde_json::to_vec(message).map_err(io::Error::other)?;
        let mut framed = (body.len() as u64).to_le_bytes().to_vec();
        framed.extend(body);
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).write_all(&framed)
    }

    /// The next message; `None` when the other end is gone.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        let mut length = [0; 8];
        match (&self.reader).read_exact(&mut length) {
            Err(error) if gone(&error) => return Ok(None),
            result => result?,
        }
        let length = u64::from_le_bytes(length);
        if length > LONGEST {
            return Err(io::Error::other(format!("a message of {length} bytes")));
        }
        let mut body = Vec::new();
        (&self.reader).take(length).read_to_end(&mut body)?;
        if (body.len() as u64) < length {
            return Ok(None);
        }
        serde_json::from_slice(&body).map(Some).map_err(io::Error::other)
    }

    /// Hands a file or socket over.
    pub(crate) fn give(&self, what: impl AsFd) -> io::Result<()> {
        let fds = [what.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        sendmsg(&*writer, &[IoSlice::new(&[0])], &mut control, SendFlags::empty())?;
        Ok(())
    }

    /// Takes what was [given](Self::give).
    pub(crate) fn take(&self) -> io::Result<OwnedFd> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let mut into = [IoSliceMut::new(&mut byte)];
        recvmsg(&self.reader, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let given = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        given.ok_or_else(|| io::Error::other("nothing was handed over"))
    }
}

fn gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_sockets_cross() {
        let (here, there) = UnixStream::pair().unwrap();
        let (here, there) = (Wire::new(here).unwrap(), Wire::new(there).unwrap());
        let (mut near, far) = UnixStream::pair().unwrap();
        here.send(&"order").unwrap();
        here.give(&far).unwrap();
        drop(far);
        here.send(&vec![1, 2, 3]).unwrap();
        assert_eq!(there.receive::<String>().unwrap().as_deref(), Some("order"));
        let mut far = UnixStream::from(there.take().unwrap());
        assert_eq!(there.receive::<Vec<u8>>().unwrap(), Some(vec![1, 2, 3]));
        near.write_all(b"hello").unwrap();
        drop(near);
        let mut text = String::new();
        far.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        drop(here);
        assert_eq!(there.receive::<u8>().unwrap(), None);
    }

    #[test]
    fn noise_is_an_error_and_takes_no_memory() {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(&[0xff; 16]).unwrap();
        assert!(Wire::new(there).unwrap().receive::<u8>().is_err());
    }
}
