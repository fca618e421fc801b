//! The bytes of one object, read from front to back on a thread that may block.
//!
//! Offsets are positions in the *unpacked* bytes, so a format need not care whether its object was packed, by
//! gzip or zstd. Plain objects seek at no cost; a packed one that must go back is read again from its start.
//! What is read never follows what the object claims: it may unpack to [`Unpacked::limit`] bytes, no more.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use anabranch_pipelines::record::Reference;
use anabranch_pipelines::source::{SourceError, Split};
use anabranch_pipelines::store::{Location, range_of_version};
use flate2::bufread::MultiGzDecoder;
use tokio::runtime::Handle;

use super::glob::versioned;

/// Bytes of a buffer over a local file.
const BUFFER: usize = 128 << 10;
/// Bytes of the first request to a store after a seek; each further one asks for twice as many.
const FIRST: u64 = 64 << 10;
/// Bytes of one request to a store, at most.
const MOST: u64 = 4 << 20;
/// A packed object may always unpack to so many bytes.
const UNPACKED: u64 = 64 << 20;
/// And else to so many times its size. (Deflate reaches 1032; text and archives stay below 30.)
const RATIO: u64 = 200;

/// Why an object gave no more bytes.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The store failed, which says nothing about the object: the run fails and may be resumed.
    Store(SourceError),
    /// The object is damaged, gone or changed, which costs its records and not the run.
    Damaged(String),
}

/// An error of the store inside an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct StoreFailed(object_store::Error);

/// Bytes of history that a zstd frame may ask for, as a power of two: what every decoder must have.
pub(super) const WINDOW: u32 = 23;

/// How far a packed object may unpack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unpacked {
    /// Bytes, or `None` for a limit that follows from the object's size.
    pub(super) limit: Option<u64>,
}

/// One object, open for reading.
pub(super) struct Object {
    location: Location,
    split: Split,
    /// What its store calls this version of it, where it has a word for that; files of this machine have none.
    etag: Option<Arc<str>>,
    limit: u64,
    bytes: Bytes,
    position: u64,
}

enum Bytes {
    Plain(Box<Raw>),
    Packed(Box<dyn BufRead + Send>),
}

impl Object {
    /// Opens the object of a split, if it is still the one that was listed. Blocks; needs a runtime.
    pub(super) fn open(
        location: Location,
        split: &Split,
        unpacked: Unpacked,
    ) -> Result<Self, Failure> {
        let found = Handle::current().block_on(versioned(&location));
        let (found, etag) = found.map_err(|e| store_failure(&location.url, e))?;
        if found.version != split.version {
            let message = format!(
                "it changed since it was listed (then {} bytes, now {})",
                split.bytes, found.bytes
            );
            return Err(Failure::Damaged(message));
        }
        let etag: Option<Arc<str>> = etag.map(Arc::from);
        let raw = Raw::open(&location, found.bytes, etag.as_ref());
        let raw = raw.map_err(|e| failure(&location.url, e))?;
        let limit = unpacked.limit.unwrap_or(UNPACKED.max(split.bytes.saturating_mul(RATIO)));
        let bytes = Bytes::of(&split.name, raw).map_err(|e| failure(&location.url, e))?;
        Ok(Self { location, split: split.clone(), etag, limit, bytes, position: 0 })
    }

    /// The same object from its start, for a look at what was passed.
    pub(super) fn again(&self) -> Result<Self, Failure> {
        let bytes = self.raw().and_then(|raw| Bytes::of(&self.split.name, raw));
        let bytes = bytes.map_err(|e| self.failure(e))?;
        let (location, split, etag) =
            (self.location.clone(), self.split.clone(), self.etag.clone());
        Ok(Self { location, split, etag, limit: self.limit, bytes, position: 0 })
    }

    fn raw(&self) -> io::Result<Raw> {
        Raw::open(&self.location, self.split.bytes, self.etag.as_ref())
    }

    /// The bytes of a small range.
    pub(super) fn range(mut self, range: Range<u64>) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let read = self
            .seek(range.start)
            .and_then(|()| (&mut self).take(range.end - range.start).read_to_end(&mut bytes));
        match read {
            Ok(_) => Ok(bytes),
            Err(error) => Err(self.failure(error)),
        }
    }

    /// Where the object is.
    pub(super) fn url(&self) -> &str {
        &self.location.url
    }

    /// What references to ranges of it begin with: where it is, and which version of it is meant, if its store
    /// tells versions apart.
    pub(super) fn uri(&self) -> Arc<str> {
        let plain = Reference { uri: self.location.url.clone(), range: None };
        match &self.etag {
            Some(etag) => plain.at_version(etag).uri.into(),
            None => plain.uri.into(),
        }
    }

    /// The split that it is.
    pub(super) fn split(&self) -> &Split {
        &self.split
    }

    /// Position in the unpacked bytes.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Size in bytes, where it is known without unpacking.
    pub(super) fn size(&self) -> Option<u64> {
        matches!(self.bytes, Bytes::Plain(_)).then_some(self.split.bytes)
    }

    /// Bytes that what is packed in it may unpack to.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Moves to an offset of the unpacked bytes, which may lie behind the end.
    pub(super) fn seek(&mut self, to: u64) -> io::Result<()> {
        match &mut self.bytes {
            Bytes::Plain(raw) => {
                raw.seek(to)?;
                self.position = to;
            }
            Bytes::Packed(_) => {
                if to < self.position {
                    self.bytes = Bytes::of(&self.split.name, self.raw()?)?;
                    self.position = 0;
                }
                while self.position < to {
                    let there = self.fill_buf()?.len() as u64;
                    if there == 0 {
                        break;
                    }
                    self.consume(there.min(to - self.position) as usize);
                }
            }
        }
        Ok(())
    }

    /// The failure that an I/O error of this object stands for.
    pub(super) fn failure(&self, error: io::Error) -> Failure {
        failure(&self.location.url, error)
    }
}

impl Bytes {
    fn of(name: &str, raw: Raw) -> io::Result<Self> {
        Ok(match Packing::of(name) {
            None => Self::Plain(Box::new(raw)),
            Some(Packing::Gzip) => {
                Self::Packed(Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(raw))))
            }
            Some(Packing::Zstd) => {
                let mut decoder = zstd::Decoder::with_buffer(raw)?;
                decoder.window_log_max(WINDOW)?;
                Self::Packed(Box::new(BufReader::with_capacity(BUFFER, decoder)))
            }
        })
    }
}

impl Read for Object {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let there = self.fill_buf()?;
        let count = there.len().min(into.len());
        if let (Some(into), Some(from)) = (into.get_mut(..count), there.get(..count)) {
            into.copy_from_slice(from);
        }
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Object {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match &mut self.bytes {
            Bytes::Plain(raw) => raw.fill_buf(),
            Bytes::Packed(unpacked) => {
                let there = unpacked.fill_buf()?;
                let left = self.limit.saturating_sub(self.position);
                // What unpacks to the limit and ends there is as large as it may be.
                if left == 0 && !there.is_empty() {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!(
                            "it unpacks to more than {} bytes; if that is right, raise `max_unpacked`",
                            self.limit
                        ),
                    ));
                }
                Ok(there.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(there))
            }
        }
    }

    fn consume(&mut self, count: usize) {
        self.position += count as u64;
        match &mut self.bytes {
            Bytes::Plain(raw) => raw.consume(count),
            Bytes::Packed(unpacked) => unpacked.consume(count),
        }
    }
}

/// How an object is packed.
enum Packing {
    Gzip,
    Zstd,
}

impl Packing {
    /// What a name says.
    fn of(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        if ends(&[".gz", ".tgz"]) {
            Some(Self::Gzip)
        } else if ends(&[".zst", ".tzst", ".zstd"]) {
            Some(Self::Zstd)
        } else {
            None
        }
    }
}

/// Whether a name says that its object is packed.
pub(super) fn packed(name: &str) -> bool {
    Packing::of(name).is_some()
}

/// The bytes as stored.
enum Raw {
    File(BufReader<File>),
    Store(Ranges),
}

/// An object of a store that is read in ranges, larger ones the longer it is read in order.
struct Ranges {
    location: Location,
    size: u64,
    etag: Option<Arc<str>>,
    buffer: bytes::Bytes,
    /// Position of the buffer's first byte.
    position: u64,
    next: u64,
}

impl Raw {
    fn open(location: &Location, size: u64, etag: Option<&Arc<str>>) -> io::Result<Self> {
        match location.local_path() {
            Some(path) => Ok(Self::File(BufReader::with_capacity(BUFFER, File::open(path)?))),
            None => Ok(Self::Store(Ranges {
                location: location.clone(),
                size,
                etag: etag.cloned(),
                buffer: bytes::Bytes::new(),
                position: 0,
                next: FIRST,
            })),
        }
    }

    fn seek(&mut self, to: u64) -> io::Result<()> {
        match self {
            Self::File(file) => {
                let here = file.stream_position()?;
                let by = i64::try_from(i128::from(to) - i128::from(here));
                match by {
                    // Keeps the buffer where it can.
                    Ok(by) => file.seek_relative(by),
                    Err(_) => file.seek(SeekFrom::Start(to)).map(|_| ()),
                }
            }
            Self::Store(ranges) => {
                match to.checked_sub(ranges.position) {
                    Some(ahead) if ahead <= ranges.buffer.len() as u64 => {
                        let _ = ranges.buffer.split_to(ahead as usize);
                    }
                    _ => {
                        ranges.buffer.clear();
                        ranges.next = FIRST;
                    }
                }
                ranges.position = to;
                Ok(())
            }
        }
    }
}

impl Read for Raw {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut there = self.fill_buf()?;
        let count = there.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Raw {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self {
            Self::File(file) => file.fill_buf(),
            Self::Store(ranges) => {
                if ranges.buffer.is_empty() && ranges.position < ranges.size {
                    let end = ranges.size.min(ranges.position + ranges.next);
                    let got = range_of_version(
                        &ranges.location,
                        ranges.position..end,
                        ranges.etag.as_deref(),
                    );
                    let got = Handle::current().block_on(got);
                    ranges.buffer = got.map_err(|e| io::Error::other(StoreFailed(e)))?;
                    ranges.next = (ranges.next * 2).min(MOST);
                }
                Ok(&ranges.buffer)
            }
        }
    }

    fn consume(&mut self, count: usize) {
        match self {
            Self::File(file) => file.consume(count),
            Self::Store(ranges) => {
                let count = count.min(ranges.buffer.len());
                let _ = ranges.buffer.split_to(count);
                ranges.position += count as u64;
            }
        }
    }
}

fn failure(url: &str, error: io::Error) -> Failure {
    use io::ErrorKind::{InvalidData, InvalidInput, NotFound, Other, UnexpectedEof};
    match error.kind() {
        NotFound => Failure::Damaged("it is not there any more".to_owned()),
        // What a decompressor and a parser say of bytes that make no sense.
        InvalidData | InvalidInput | UnexpectedEof => Failure::Damaged(error.to_string()),
        _ => match error.downcast::<StoreFailed>() {
            Ok(StoreFailed(error)) => store_failure(url, error),
            // A zstd decoder says so too, but has no kind for it; what the system says has a number.
            Err(error) if error.kind() == Other && error.raw_os_error().is_none() => {
                Failure::Damaged(error.to_string())
            }
            Err(error) => {
                let source = object_store::Error::Generic { store: "local", source: error.into() };
                Failure::Store(SourceError::Store { location: url.to_owned(), source })
            }
        },
    }
}

fn store_failure(url: &str, error: object_store::Error) -> Failure {
    match error {
        object_store::Error::NotFound { .. } => {
            Failure::Damaged("it is not there any more".to_owned())
        }
        object_store::Error::Precondition { .. } => {
            Failure::Damaged("it changed while it was read".to_owned())
        }
        source => Failure::Store(SourceError::Store { location: url.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::glob::look;
    use crate::source::testing::{block_on, folder, gzip, path};
    use anabranch_pipelines::operator::Fetcher;
    use anabranch_pipelines::store::StoreFetcher;
    use object_store::ObjectStoreExt;

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 3).unwrap()
    }

    /// What a file of this name gives from an offset on, or what is wrong with it.
    fn read(name: &str, bytes: &[u8], from: u64, limit: Option<u64>) -> Result<Vec<u8>, String> {
        let folder = folder(&[(name, bytes)]);
        let location = Location::parse(&path(&folder, name)).unwrap();
        block_on(async move {
            let split = look(&location).await.unwrap();
            let split = Split { name: name.to_owned(), ..split };
            let work = move || {
                let mut object = Object::open(location, &split, Unpacked { limit })?;
                let mut bytes = Vec::new();
                // To the end, and back.
                object.read_to_end(&mut bytes).map_err(|e| object.failure(e))?;
                bytes.clear();
                object.seek(from).map_err(|e| object.failure(e))?;
                object.read_to_end(&mut bytes).map_err(|e| object.failure(e))?;
                assert_eq!(object.position(), from + bytes.len() as u64);
                Ok(bytes)
            };
            tokio::task::spawn_blocking(work).await.unwrap().map_err(|failure| match failure {
                Failure::Damaged(message) => message,
                Failure::Store(error) => format!("STORE {error}"),
            })
        })
    }

    #[test]
    fn packed_objects_are_read_up_to_their_limit() {
        let text: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let (head, tail) = text.split_at(300_000);
        for (name, pack) in [("a.gz", gzip as fn(&[u8]) -> Vec<u8>), ("a.zst", zstd)] {
            // Two members, or frames, behind one another are one object.
            let packed = [pack(head), pack(tail)].concat();
            assert_eq!(read(name, &packed, 0, None).unwrap(), text);
            assert_eq!(read(name, &packed, 299_999, None).unwrap(), text[299_999..]);
            // To unpack to the limit is allowed, and to one byte more is not.
            assert_eq!(read(name, &packed, 0, Some(800_000)).unwrap(), text);
            let more = read(name, &packed, 0, Some(799_999)).unwrap_err();
            assert!(more.contains("more than 799999 bytes"), "{name}: {more}");
            let bomb = read(name, &packed, 0, Some(700_000)).unwrap_err();
            assert!(bomb.contains("raise `max_unpacked`"), "{name}: {bomb}");
            for damaged in [&packed[..packed.len() - 9], b"no such thing".as_slice()] {
                let error = read(name, damaged, 0, None).unwrap_err();
                assert!(!error.starts_with("STORE"), "{name}: {error}");
            }
        }
        assert_eq!(read("a.bin", head, 7, None).unwrap(), head[7..]);
    }

    #[test]
    fn an_object_that_changes_while_it_is_read_is_no_mixture_of_two() {
        let location = Location::parse("memory://object-changes/a.bin").unwrap();
        let put = |byte: u8| {
            let bytes = vec![byte; 3 * FIRST as usize];
            block_on(location.store.put(&location.path, bytes.into())).unwrap();
        };
        put(1);
        let there = location.clone();
        let (changed, wait) = std::sync::mpsc::channel();
        let (read, begun) = std::sync::mpsc::channel();
        let reading = std::thread::spawn(move || {
            block_on(async move {
                let split = look(&there).await.unwrap();
                let work = move || {
                    let mut object = Object::open(there, &split, Unpacked { limit: None })?;
                    let mut first = [0; 10];
                    object.read_exact(&mut first).map_err(|e| object.failure(e))?;
                    assert_eq!(first, [1; 10]);
                    read.send(object.uri()).unwrap();
                    wait.recv().unwrap();
                    let mut rest = Vec::new();
                    object.read_to_end(&mut rest).map_err(|e| object.failure(e))
                };
                tokio::task::spawn_blocking(work).await.unwrap()
            })
        });
        let uri = begun.recv().unwrap();
        put(2);
        changed.send(()).unwrap();
        let failed = reading.join().unwrap();
        let Err(Failure::Damaged(why)) = failed else { panic!("{failed:?}") };
        assert!(why.contains("changed"), "{why}");
        // Nor is a reference to the one a reference to the other.
        assert!(uri.starts_with("memory://object-changes/a.bin#etag="), "{uri}");
        let reference = Reference { uri: uri.as_ref().to_owned(), range: Some(5..15) };
        let fetched = block_on(async move {
            let fetcher = StoreFetcher::new(Handle::current());
            tokio::task::spawn_blocking(move || fetcher.fetch(&[reference], 100)).await.unwrap()
        });
        let error = fetched[0].as_ref().unwrap_err();
        assert!(!error.passing && error.message.contains("changed"), "{error}");
    }

    #[test]
    fn a_zstd_frame_that_asks_for_much_memory_is_damage() {
        let mut packer = zstd::Encoder::new(Vec::new(), 3).unwrap();
        packer.window_log(27).unwrap();
        io::Write::write_all(&mut packer, &[0; 1000]).unwrap();
        let error = read("a.zst", &packer.finish().unwrap(), 0, None).unwrap_err();
        assert!(error.contains("memory"), "{error}");
    }
}
