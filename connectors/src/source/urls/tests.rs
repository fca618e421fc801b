use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_pipelines::operator::{FetchError, Fetcher};
use anabranch_pipelines::record::{Modality, Reference, media};
use anabranch_pipelines::source::Source;
use anabranch_pipelines::store::{Patience, StoreFetcher, mount};
use arrow::array::AsArray;
use object_store::http::HttpBuilder;
use object_store::{ClientOptions, RetryConfig};
use serde_json::{Value as Json, json};

use super::UrlsOptions;
use crate::conformance::source::{Seen, check};
use crate::source::testing::{block_on, conforming, folder, path, read_all};

/// What a server has been asked for so far, by path.
type Asked = Arc<Mutex<HashMap<String, u32>>>;

/// A server on this machine; requests are counted.
fn server() -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Asked::default();
    let counts = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let asked = Arc::clone(&counts);
            std::thread::spawn(move || answer(stream.unwrap(), &asked));
        }
    });
    (address, asked)
}

fn body(of: &str) -> Vec<u8> {
    of.bytes().cycle().take(9000).collect()
}

/// Answers one request, as its path says.
fn answer(stream: TcpStream, asked: &Asked) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let mut range = None;
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        let line = line.to_ascii_lowercase();
        if let Some(asked) = line.strip_prefix("range: bytes=") {
            let (from, to) = asked.split_once('-').unwrap();
            range = Some((from.parse().unwrap(), to.parse::<usize>().unwrap_or(8999) + 1));
        }
    }
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let count = {
        let mut asked = asked.lock().unwrap();
        let count = asked.entry(format!("{method} {target}")).or_default();
        *count += 1;
        *count
    };
    let status = match target {
        "/gone.png" => "404 Not Found",
        "/denied.png" => "403 Forbidden",
        "/locked.png" => "401 Unauthorized",
        "/expired.png" => "410 Gone",
        "/flaky.png" if count <= 2 => "503 Service Unavailable",
        _ if range.is_some() => "206 Partial Content",
        _ => "200 OK",
    };
    if target == "/slow.png" {
        std::thread::sleep(Duration::from_millis(150));
    }
    let whole = if status.starts_with('2') { body(target) } else { Vec::new() };
    let (from, to) = range.unwrap_or((0, whole.len()));
    let etag = if target == "/changing.png" && method == "GET" { "v2" } else { "v1" };
    let mut head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"{etag}\"\r\nConnection: close\r\n",
        to - from
    );
    if range.is_some() {
        head += &format!("Content-Range: bytes {from}-{}/{}\r\n", to - 1, whole.len());
    }
    let mut answer = format!("{head}\r\n").into_bytes();
    if method == "GET" {
        let half = target == "/half.png" && count == 1;
        let to = if half { to / 2 } else { to };
        answer.extend(&whole[from..to]);
    }
    let _ = (&stream).write_all(&answer);
}

fn urls(options: Json) -> Arc<dyn Source> {
    serde_json::from_value::<UrlsOptions>(options).unwrap().build().unwrap()
}

fn keys(seen: &Seen) -> Vec<&str> {
    let keys = seen.records.column_by_name("key").unwrap();
    keys.as_string::<i32>().iter().map(Option::unwrap).collect()
}

/// What an operator gets that needs the bytes.
fn fetch(seen: &Seen) -> Vec<Result<Vec<u8>, FetchError>> {
    fetch_within(seen, 1 << 20)
}

fn fetch_within(seen: &Seen, most: u64) -> Vec<Result<Vec<u8>, FetchError>> {
    let image = media::of(&seen.records, "image").unwrap();
    let path = |row| media::path(image, row).unwrap().parse::<Reference>().unwrap();
    let references: Vec<Reference> = (0..seen.rows).map(path).collect();
    block_on(async {
        let fetcher = StoreFetcher::new(tokio::runtime::Handle::current());
        let fetched = tokio::task::spawn_blocking(move || fetcher.fetch(&references, most)).await;
        fetched.unwrap().into_iter().map(|bytes| bytes.map(|bytes| bytes.to_vec())).collect()
    })
}

#[test]
fn objects_are_referred_to_and_read_when_they_are_needed() {
    let (server, asked) = server();
    let names =
        ["a.png", "flaky.png", "half.png", "slow.png", "q.png?w=2", "q.png?w=3", "a%20b.png"];
    let all: Vec<String> = names.iter().map(|name| format!("{server}/{name}")).collect();
    let seen = conforming(&urls(json!({ "urls": all })));
    assert_eq!((keys(&seen), &seen.refused), (all.iter().map(String::as_str).collect(), &vec![]));
    assert!(asked.lock().unwrap().keys().all(|request| request.starts_with("HEAD")));
    let etags = seen.records.column_by_name("etag").unwrap().as_string::<i32>();
    assert!(etags.iter().all(|etag| etag == Some("\"v1\"")));
    let schema = seen.records.schema();
    assert_eq!(Modality::of(schema.field_with_name("image").unwrap()), Some(Modality::Image));
    let bodies: Vec<_> = fetch(&seen).into_iter().map(Result::unwrap).collect();
    let expected: Vec<_> = names.iter().map(|name| body(&format!("/{name}"))).collect();
    assert!(bodies == expected);
}

#[test]
fn an_object_that_changed_is_no_other_one() {
    let (server, _) = server();
    let seen = conforming(&urls(json!({ "urls": [format!("{server}/changing.png")] })));
    let error = fetch(&seen).remove(0).unwrap_err();
    assert!(error.message.contains("it changed") && !error.passing, "{error}");
    // Who does not ask for ETags does not notice.
    let seen =
        conforming(&urls(json!({ "urls": [format!("{server}/changing.png")], "etag": false })));
    assert_eq!(fetch(&seen).remove(0).unwrap(), body("/changing.png"));
    // Nor is its size known, which is none the larger for that.
    assert!(fetch_within(&seen, 9000).remove(0).is_ok());
    let error = fetch_within(&seen, 8999).remove(0).unwrap_err();
    assert!(!error.passing && error.message.contains("of at most"), "{error}");
}

#[test]
fn what_a_server_refuses_is_a_letter_with_its_status() {
    let (server, asked) = server();
    let names = ["gone.png", "a.png", "denied.png", "locked.png", "expired.png"];
    let all: Vec<String> = names.iter().map(|name| format!("{server}/{name}")).collect();
    let seen = conforming(&urls(json!({ "urls": all })));
    assert_eq!(keys(&seen), [&all[1]]);
    let errors: Vec<&str> = seen.refused.iter().map(|r| r.error.as_str()).collect();
    for (error, status) in errors.iter().zip(["404", "403", "401", "410"]) {
        assert!(error.contains(&format!("(status {status})")), "{error}");
    }
    assert_eq!(errors.len(), 4);
    // And it is a letter of the operator that needs the bytes, when nobody asked before.
    asked.lock().unwrap().clear();
    let seen = conforming(&urls(json!({ "urls": all, "etag": false })));
    assert!(asked.lock().unwrap().is_empty());
    let fetched = fetch(&seen);
    assert!(fetched[1].is_ok());
    for (row, status) in [(2, "status 403"), (3, "status 401")] {
        let error = fetched[row].as_ref().unwrap_err();
        assert!(error.message.contains(status) && !error.passing, "{error}");
    }
    assert!(fetched.iter().flat_map(|f| f.as_ref().err()).all(|error| !error.passing));
}

#[test]
fn rows_of_a_list_keep_their_columns() {
    let (server, _) = server();
    let list = format!(
        "caption,link,n\none,{server}/a.png,1\ntwo,,2\nthree,{server}/gone.png,3\nfour,c.png,4\n\
         five,what://x/d.png,5\nsix,{server}/b.png,6,7\nseven,{server}/c.png,7\n"
    );
    let lines = format!("{server}/a.png\n{server}/b.png\n");
    let json = format!("{{\"url\": \"{server}/a.png\", \"key\": \"k\"}}\n");
    let folder = folder(&[
        ("list.csv", list.as_bytes()),
        ("list.txt", lines.as_bytes()),
        ("list.jsonl", json.as_bytes()),
    ]);
    let seen = conforming(&urls(json!({ "path": path(&folder, "*.csv"), "url": "link" })));
    let captions = seen.records.column_by_name("caption").unwrap().as_string::<i32>();
    assert_eq!(captions.iter().flatten().collect::<Vec<_>>(), ["one", "seven"]);
    let errors: Vec<&str> = seen.refused.iter().map(|r| r.error.as_str()).collect();
    let says = ["it has no URL", "status 404", "`c.png` is no URL", "what://x/d.png", ""];
    assert_eq!(errors.len(), says.len(), "{errors:?}");
    assert!(errors.iter().zip(says).all(|(error, says)| error.contains(says)), "{errors:?}");
    assert!(fetch(&seen).into_iter().all(|bytes| bytes.is_ok()));
    let seen = conforming(&urls(json!({ "path": path(&folder, "list.txt"), "column": "photo" })));
    assert!(seen.rows == 2 && media::of(&seen.records, "photo").is_some());
    let seen = conforming(&urls(json!({ "path": path(&folder, "list.jsonl") })));
    assert_eq!(keys(&seen), ["k"]);
}

#[test]
fn files_of_this_machine_have_urls_too() {
    let folder = folder(&[("a #1.png", b"12345")]);
    let file = url::Url::from_file_path(path(&folder, "a #1.png")).unwrap().to_string();
    let seen = conforming(&urls(json!({ "urls": [file] })));
    assert_eq!(fetch(&seen).remove(0).unwrap(), b"12345");
}

#[test]
fn a_server_that_cannot_be_reached_ends_the_run_or_costs_the_record() {
    // Nobody listens there, and nobody asks twice.
    let store = HttpBuilder::new()
        .with_url("http://127.0.0.1:1")
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
    let once = Patience { attempts: 1, ..Patience::default() };
    mount("away://server", Arc::new(store.build().unwrap()), once).unwrap();
    let of = |unreachable: &str| {
        urls(json!({ "urls": ["away://server/a.png"], "unreachable": unreachable }))
    };
    let failed = block_on(check(&of("fail"))).unwrap_err().to_string();
    assert!(failed.contains("away://server/a.png"), "{failed}");
    // (Its words tell how long it took, so no two reads say the same.)
    let read = read_all(&of("refuse"));
    let counts = read.iter().map(|batch| (batch.records.num_rows(), batch.refused.len()));
    assert_eq!(counts.collect::<Vec<_>>(), [(0, 1)]);
}

#[test]
fn rows_of_a_shuffled_list_that_cannot_be_read_are_refused_where_they_stand() {
    // Numbers of fields tell which rows are bad, in both kinds of list; conformance reads them backwards, in one
    // batch, as a shuffle does.
    let (server, _) = server();
    let mut list = "url,n\n".to_owned();
    let mut json = String::new();
    for n in 0..12 {
        let (row, line) = match n {
            2 | 5 | 9 => (format!("{server}/{n}.png,{n},too,many\n"), "{ no json\n".to_owned()),
            4 | 7 => (format!(",{n}\n"), format!("{{\"url\": null, \"n\": {n}}}\n")),
            _ => (
                format!("{server}/{n}.png,{n}\n"),
                format!("{{\"url\": \"{server}/{n}.png\", \"n\": {n}}}\n"),
            ),
        };
        list += &row;
        json += &line;
    }
    let folder = folder(&[("list.csv", list.as_bytes()), ("list.jsonl", json.as_bytes())]);
    for name in ["list.csv", "list.jsonl"] {
        let seen = conforming(&urls(json!({ "path": path(&folder, name), "modality": "image" })));
        assert_eq!((seen.rows, seen.refused.len()), (7, 5), "{name}");
        assert!(seen.refused.is_sorted_by_key(|refused| refused.range.start), "{name}");
    }
}

#[test]
fn a_bucket_that_refuses_the_credentials_fails_the_run() {
    let (server, _) = server();
    let store = HttpBuilder::new()
        .with_url(server)
        .with_client_options(ClientOptions::new().with_allow_http(true));
    mount("locked://bucket", Arc::new(store.build().unwrap()), Patience::default()).unwrap();
    for (name, unreachable) in [("denied.png", "fail"), ("locked.png", "refuse")] {
        let url = format!("locked://bucket/{name}");
        let source = urls(json!({ "urls": [url], "unreachable": unreachable }));
        let failed = block_on(check(&source)).unwrap_err().to_string();
        assert!(failed.contains(&url), "{failed}");
    }
    // An object that is not there is one record less, there as anywhere.
    let seen = conforming(&urls(json!({ "urls": ["locked://bucket/gone.png"] })));
    assert!(seen.refused[0].error.contains("status 404"), "{:?}", seen.refused);
}

#[test]
fn wrong_options_are_told() {
    let folder =
        folder(&[("a.csv", b"url,etag\nhttp://127.0.0.1:1/a.png,x\n"), ("b.csv", b"u\n1\n")]);
    let build = |options: Json| serde_json::from_value::<UrlsOptions>(options).unwrap().build();
    let error = |options| build(options).err().unwrap().to_string();
    assert!(error(json!({})).contains("`path` or in `urls`"));
    assert!(error(json!({ "path": "a.csv", "urls": [] })).contains("one of them"));
    assert!(error(json!({ "path": "a.bin" })).contains(".csv, .tsv, .jsonl"));
    assert!(error(json!({ "path": "a.txt", "key": "k" })).contains("no such column"));
    assert!(error(json!({ "urls": ["s3://b/a", "s3://b/a"] })).contains("twice"));
    let schema = |options| block_on(build(options).unwrap().schema()).unwrap_err().to_string();
    let none = schema(json!({ "path": path(&folder, "b.csv") }));
    assert!(none.contains("no such column of text; its columns are u"), "{none}");
    let taken = schema(json!({ "path": path(&folder, "a.csv") }));
    assert!(taken.contains("a column `etag` already"), "{taken}");
    let modality = schema(json!({ "urls": ["https://x.org/a", "https://x.org/b"] }));
    assert!(modality.contains("add `modality"), "{modality}");
}
