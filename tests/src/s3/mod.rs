//! A server of S3 on this machine, and a way to it on which requests go wrong.
//!
//! The server is `moto`, a Python package that `ci/setup` installs. It keeps objects in memory, asks for no
//! credentials that mean anything, and takes conditional puts as S3 does.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{ObjectStore, ObjectStoreExt};

use crate::program::{HUNG, Job, python};

mod proxy;

pub use proxy::{Fault, Proxy, Request};

/// The bucket that every server has.
pub const BUCKET: &str = "lake";

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a server with an empty bucket.
    pub fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("a free port");
        let child = Command::new(python())
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p"])
            .arg(address.port().to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Python starts");
        let mut server = Self { child, address };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = server.child.try_wait().expect("a child");
            assert!(
                ended.is_none(),
                "the server ended: {ended:?}; is `moto` installed? run ci/setup"
            );
            assert!(begun.elapsed() < HUNG, "the server takes no connections");
            std::thread::sleep(Duration::from_millis(50));
        }
        let made = proxy::exchange(address, &format!("PUT /{BUCKET} HTTP/1.1"), b"");
        assert!(made.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&made));
        server
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn store(&self) -> AmazonS3 {
        AmazonS3Builder::new()
            .with_endpoint(format!("http://{}", self.address))
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_access_key_id("test")
            .with_secret_access_key("test")
            .with_bucket_name(BUCKET)
            .build()
            .expect("a client")
    }

    /// Puts the files of a folder below `prefix`.
    pub fn upload(&self, folder: &Path, prefix: &str) {
        let store = self.store();
        block_on(async {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                let name = path.file_name().and_then(|name| name.to_str()).expect("a plain name");
                let bytes = std::fs::read(&path).expect("a file");
                let place = object_store::path::Path::from(format!("{prefix}/{name}"));
                store.put(&place, bytes.into()).await.expect("an upload");
            }
        });
    }

    /// Copies what is below `prefix` to a folder.
    pub fn download(&self, prefix: &str, folder: &Path) {
        let store = self.store();
        block_on(async {
            let prefix = object_store::path::Path::from(prefix);
            let all: Vec<_> = store.list(Some(&prefix)).try_collect().await.expect("a listing");
            for object in all {
                let found = store.get(&object.location).await.expect("an object");
                let bytes = found.bytes().await.expect("its bytes");
                let name = object.location.as_ref().strip_prefix(prefix.as_ref());
                let path = folder.join(name.expect("a name below it").trim_start_matches('/'));
                std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
                std::fs::write(path, bytes).expect("a file");
            }
        });
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

/// A job whose `s3://` is a server at this address.
pub fn through(job: Job, address: SocketAddr) -> Job {
    job.env("AWS_ENDPOINT_URL", format!("http://{address}"))
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
}

/// A fault of its own for each request, by what the request is.
pub type Choose = Arc<dyn Fn(&Request) -> Fault + Send + Sync>;
