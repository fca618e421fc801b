use super::*;
use anabranch_pipelines::operator::{FetchError, Fetcher};
use anabranch_pipelines::record::{Modality, Reference, media};
use arrow::array::{Array, AsArray};
use bytes::Bytes;

/// A store that holds `abc` under one name.
struct Store;

impl Fetcher for Store {
    fn fetch(&self, references: &[Reference], _: u64) -> Vec<Result<Bytes, FetchError>> {
        let found = |reference: &Reference| match reference.uri.as_str() {
            "memory://s/abc" => Ok(Bytes::from_static(b"abc")),
            uri => Err(FetchError {
                path: uri.to_owned(),
                message: "nothing there".to_owned(),
                passing: uri.contains("busy"),
            }),
        };
        references.iter().map(found).collect()
    }
}

fn images(paths: Vec<Option<&str>>, bytes: Vec<Option<&[u8]>>) -> RecordBatch {
    let field = media::field("image", Modality::Image, media::State::Encoded);
    let images = media::column(bytes, paths);
    RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::new(images)]).unwrap()
}

fn digest() -> Arc<dyn Operator> {
    DigestOptions { by: ["image"].into(), into: "digest".to_owned() }.build().unwrap()
}

fn context() -> Context {
    Context::new(Arc::new(Store), Arc::default())
}

#[test]
fn references_are_read_and_stay_references() {
    let abc: &[u8] = b"abc";
    let batch = images(
        vec![Some("a.jpg"), Some("memory://s/abc"), Some("memory://s/gone"), None, Some("b")],
        vec![Some(abc), None, None, None, Some(b"x")],
    );
    let outcome = digest().invoke(batch, &Allocation::PLAIN, &context()).unwrap();
    let [refused] = &outcome.refused[..] else { panic!("{:?}", outcome.refused) };
    assert_eq!((refused.row, refused.error.contains("nothing there")), (2, true));
    let digests = outcome.records.column_by_name("digest").unwrap().as_fixed_size_binary();
    assert_eq!(digests.value(0), digests.value(1));
    assert_ne!(digests.value(0), digests.value(3));
    assert!(digests.is_null(2));
    let image = media::of(&outcome.records, "image").unwrap();
    assert_eq!(media::bytes(image, 1), None);
}

#[test]
fn a_store_that_fails_is_no_fault_of_the_record() {
    let batch = images(vec![Some("memory://busy/abc")], vec![None]);
    let error = digest().invoke(batch, &Allocation::PLAIN, &context()).unwrap_err();
    assert!(error.to_string().contains("nothing there"), "{error}");
}

#[test]
fn columns_that_cannot_be_are_refused() {
    let error = DigestOptions { by: Names::default(), into: String::new() }.build().map(|_| ());
    assert_eq!(error.unwrap_err().to_string(), "`by` names the columns to hash");
    let schema = images(vec![], vec![]).schema();
    let told = |by: &str, into: &str| {
        let options = DigestOptions { by: [by].into(), into: into.to_owned() };
        options.build().unwrap().output(std::slice::from_ref(&schema)).unwrap_err().to_string()
    };
    assert!(told("imgae", "digest").contains("did you mean `image`?"));
    assert!(told("image", "image").contains("name another in `into`"));
}
