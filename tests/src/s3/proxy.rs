//! A way to a server on which requests go wrong.
//!
//! One thread and one request per connection: slow, and simple enough to be right.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::Choose;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The server is overloaded: 503, and it did nothing.
    Unavailable,
    /// The server refuses: 403, and it did nothing.
    Forbidden,
    /// The answer comes slowly.
    Slow,
    /// The answer ends in its middle.
    HalfBody,
    /// The server does what it is asked, and the connection breaks before it says so.
    LostAnswer,
}

/// A request as a fault is chosen by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// How many came before it.
    pub number: u64,
    /// `GET`, `PUT`, ...
    pub method: String,
    /// The path and the query.
    pub target: String,
    /// Whether it is to create what must not be there.
    pub conditional: bool,
}

/// A running proxy. It takes no more connections once it is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    choose: Choose,
    requests: AtomicU64,
    faults: AtomicU64,
    closed: AtomicBool,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

impl Proxy {
    /// A way to `server` on which `choose` says what goes wrong.
    pub fn to(server: SocketAddr, choose: Choose) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (requests, faults) = (AtomicU64::new(0), AtomicU64::new(0));
        let shared =
            Arc::new(Shared { server, choose, requests, faults, closed: AtomicBool::new(false) });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                if serving.closed.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&serving);
                // A client that was killed leaves its connections behind.
                std::thread::spawn(move || connection.and_then(|client| shared.serve(client)));
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests have come.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// How many of them went wrong.
    pub fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let Some((head, body)) = message(&mut client)? else { return Ok(()) };
        let line = head.lines().next().unwrap_or_default().to_owned();
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let request = Request {
            number: self.requests.fetch_add(1, Ordering::SeqCst),
            method: word(),
            target: word(),
            conditional: header(&head, "if-none-match") == Some("*"),
        };
        let fault = (self.choose)(&request);
        self.faults.fetch_add(u64::from(fault != Fault::None), Ordering::SeqCst);
        let refusal = match fault {
            Fault::Unavailable => Some(("503 Slow Down", "SlowDown")),
            Fault::Forbidden => Some(("403 Forbidden", "AccessDenied")),
            _ => None,
        };
        if let Some((status, code)) = refusal {
            let said = format!("<Error><Code>{code}</Code><Message>on purpose</Message></Error>");
            let size = said.len();
            return write!(
                client,
                "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {size}\r\n\
                 Connection: close\r\n\r\n{said}"
            );
        }
        let answer = forward(self.server, &head, &body)?;
        match fault {
            Fault::LostAnswer => Ok(()),
            Fault::HalfBody => {
                let begin = end_of_head(&answer).unwrap_or(answer.len());
                client.write_all(&answer[..begin + (answer.len() - begin) / 2])
            }
            Fault::Slow => {
                for piece in answer.chunks(answer.len() / 4 + 1) {
                    std::thread::sleep(Duration::from_millis(60));
                    client.write_all(piece)?;
                }
                Ok(())
            }
            _ => client.write_all(&answer),
        }
    }
}

/// The head and the body of one request; `None` when nobody sent any.
fn message(from: &mut TcpStream) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let mut space = [0; 64 << 10];
    let begin = loop {
        if let Some(begin) = end_of_head(&bytes) {
            break begin;
        }
        let read = from.read(&mut space)?;
        if read == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(&space[..read]);
    };
    let mut body = bytes.split_off(begin);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let size = header(&head, "content-length").and_then(|size| size.parse().ok()).unwrap_or(0);
    while body.len() < size {
        let read = from.read(&mut space)?;
        if read == 0 {
            return Ok(None);
        }
        body.extend_from_slice(&space[..read]);
    }
    Ok(Some((head, body)))
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// The server's whole answer, behind which the connection ends.
fn forward(server: SocketAddr, head: &str, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut lines: Vec<&str> = head.lines().filter(|line| !line.is_empty()).collect();
    lines.retain(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    lines.push("Connection: close");
    let mut to = TcpStream::connect(server)?;
    to.write_all(lines.join("\r\n").as_bytes())?;
    to.write_all(b"\r\n\r\n")?;
    to.write_all(body)?;
    let mut answer = Vec::new();
    to.read_to_end(&mut answer)?;
    // The client must not think that the connection stays.
    let begin = end_of_head(&answer).unwrap_or(0);
    let told = header(&String::from_utf8_lossy(&answer[..begin]), "connection").is_some();
    if begin > 0 && !told {
        answer.splice(begin - 2..begin - 2, *b"Connection: close\r\n");
    }
    Ok(answer)
}

/// The answer to a request of this first line.
pub(super) fn exchange(server: SocketAddr, line: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("{line}\r\nHost: {server}\r\nContent-Length: {}\r\n\r\n", body.len());
    forward(server, &head, body).expect("the server answers")
}
