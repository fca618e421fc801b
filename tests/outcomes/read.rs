//! A table is read back in one order, whoever reads it, from wherever, and whatever of it is damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anabranch_tests::program::{Job, data, python, root};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float32Type, Int64Type, UInt8Type};
use arrow::ipc::reader::StreamReader;
use serde_json::Value as Json;

use crate::{PROGRAM, example, folder};

/// A table of 300 rows in six shards, in the folder `table`.
fn written(folder: &Path) -> PathBuf {
    example(folder, "quickstart").set("records", 300).set("job.part.records", 50).succeed();
    folder.join("table")
}

fn command(table: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("read").arg(table).args(args).stdin(Stdio::null());
    command
}

fn run(table: &Path, args: &[&str]) -> Output {
    command(table, args).output().unwrap()
}

/// What a reading that must succeed gives, as one batch, and what it says.
fn read(table: &Path, args: &[&str]) -> (RecordBatch, String) {
    let output = run(table, args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {said}");
    let reader = StreamReader::try_new(output.stdout.as_slice(), None).unwrap();
    let schema = reader.schema();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    (concat_batches(&schema, &batches).unwrap(), said)
}

fn numbers(batch: &RecordBatch, column: &str) -> Vec<i64> {
    batch.column_by_name(column).unwrap().as_primitive::<Int64Type>().values().to_vec()
}

fn keys(batch: &RecordBatch) -> Vec<String> {
    let keys = batch.column_by_name("key").unwrap().as_string::<i32>();
    keys.iter().map(|key| key.unwrap().to_owned()).collect()
}

/// The key at each position.
fn order(batches: &[RecordBatch]) -> BTreeMap<i64, String> {
    let mut order = BTreeMap::new();
    for batch in batches {
        for (position, key) in numbers(batch, "position").into_iter().zip(keys(batch)) {
            assert!(order.insert(position, key).is_none(), "position {position} came twice");
        }
    }
    order
}

/// What is common to the readings of a test: windows of a few blocks, so that the order has all its levels.
const ORDER: [&str; 6] = ["--shuffle", "7", "--window", "300KiB", "--passes", "2"];

#[test]
fn resume_read_with_another_number_of_workers() {
    let folder = folder();
    let table = written(folder.path());
    let args =
        |more: &[&str]| ORDER.iter().chain(more).map(|a| (*a).to_owned()).collect::<Vec<_>>();
    let read = |more: &[&str]| {
        let args = args(more);
        read(&table, &args.iter().map(String::as_str).collect::<Vec<_>>()).0
    };
    let whole = read(&["--batch", "16"]);
    assert_eq!(numbers(&whole, "position"), (0..600).collect::<Vec<_>>());
    let whole = order(&[whole]);
    for pass in [0..300, 300..600] {
        let distinct: BTreeSet<&String> = pass.map(|at| &whole[&at]).collect();
        assert_eq!(distinct.len(), 300, "every record once in every pass");
    }
    assert!((0..300).any(|at| whole[&at] != whole[&(at + 300)]), "passes differ");

    // One worker for five batches, then it is killed; then two for four batches each; then three to the end.
    let mut taken = Vec::new();
    let mut child = {
        let args = args(&["--batch", "16"]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        command(&table, &args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    let stream = StreamReader::try_new(child.stdout.take().unwrap(), None).unwrap();
    taken.extend(stream.take(5).map(Result::unwrap));
    child.kill().unwrap();
    child.wait().unwrap();
    let mut resume = numbers(taken.last().unwrap(), "resume")[0];
    assert_eq!(resume, 80);
    for (workers, rounds, batch) in [(2, 4, 7), (3, usize::MAX, 16)] {
        let from = resume;
        for worker in 0..workers {
            let worker = format!("{worker}/{workers}");
            let batch = batch.to_string();
            let more = ["--from", &from.to_string(), "--worker", &worker, "--batch", &batch];
            let output = {
                let args = args(&more);
                run(&table, &args.iter().map(String::as_str).collect::<Vec<_>>())
            };
            let stream = StreamReader::try_new(output.stdout.as_slice(), None).unwrap();
            for found in stream.map(Result::unwrap).take(rounds) {
                resume = resume.max(numbers(&found, "resume")[0]);
                taken.push(found);
            }
        }
        assert!(workers == 3 || resume == 80 + 2 * 4 * 7, "{resume}");
    }
    assert_eq!(resume, 600);
    assert_eq!(order(&taken), whole);
    // Behind the last one there is nothing more, and that is no error.
    assert_eq!(read(&["--from", "600"]).num_rows(), 0);
}

#[test]
fn resume_read_does_not_see_what_was_added_since() {
    let folder = folder();
    let table = written(folder.path());
    let (before, said) = read(&table, &["--shuffle", "7", "--columns", "key"]);
    assert!(said.contains("reading version 1 "), "{said}");
    example(folder.path(), "quickstart")
        .set("records", 300)
        .arg("--if-exists")
        .arg("append")
        .succeed();
    let (after, _) = read(&table, &["--shuffle", "7", "--columns", "key", "--version", "1"]);
    assert_eq!(before, after);
    assert_eq!(read(&table, &["--columns", "key"]).0.num_rows(), 600);
}

/// Damages the shard at this place in the order of the table's files, and gives its name.
fn damage(table: &Path, shard: usize, how: impl FnOnce(&mut Vec<u8>)) -> String {
    let name = crate::table(table.parent().unwrap()).visible().into_iter().nth(shard).unwrap();
    let mut bytes = std::fs::read(table.join(&name)).unwrap();
    how(&mut bytes);
    std::fs::write(table.join(&name), bytes).unwrap();
    name
}

fn lines(path: &Path) -> Vec<Json> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn resume_read_puts_the_same_records_where_shards_are_damaged() {
    let folder = folder();
    let table = written(folder.path());
    let whole = order(&[read(&table, &ORDER).0]);
    let (labels, _) = read(&table, &["--columns", "key,label"]);
    // One bit of pixels, which only a checksum notices; a shard that was cut; and one that is gone.
    let flipped = damage(&table, 1, |bytes| bytes[5000] ^= 4);
    let cut = damage(&table, 3, |bytes| bytes.truncate(bytes.len() / 2));
    let gone = damage(&table, 4, |_| ());
    std::fs::remove_file(table.join(&gone)).unwrap();
    let report = folder.path().join("report.jsonl");
    let args = [&ORDER[..], &["--report", report.to_str().unwrap()]].concat();
    let (found, said) = read(&table, &args);
    let found = order(&[found]);
    for shard in [&flipped, &cut, &gone] {
        assert!(said.contains(&format!("of `{shard}` cannot be read")), "{said}");
    }
    assert!(said.contains("the checksum of column `image.bytes` in row group 0"), "{said}");
    assert!(said.contains("is not there any more"), "{said}");

    // Every position that differs is reported, with what was lost and what is there instead, and no other.
    let lines = lines(&report);
    assert_eq!(lines[0]["version"], 1);
    let mut replaced = BTreeMap::new();
    for line in lines.iter().filter(|line| line["position"].is_i64()) {
        let shard = line["record"]["shard"].as_str().unwrap();
        assert!([&flipped, &cut, &gone].iter().any(|damaged| *damaged == shard), "{line}");
        assert!(
            ![&flipped, &cut, &gone].iter().any(|damaged| line["by"]["shard"] == **damaged),
            "{line}"
        );
        replaced.insert(line["position"].as_i64().unwrap(), line);
    }
    assert_eq!(lines.last().unwrap()["replaced"], replaced.len());
    assert_eq!(replaced.len(), 300, "half of the records, in each of two passes");
    for (position, key) in &found {
        assert_eq!(replaced.contains_key(position), &whole[position] != key, "position {position}");
    }
    // The same ones for every worker, and after a restart.
    let parts: Vec<RecordBatch> = (0..3)
        .map(|worker| read(&table, &[&ORDER[..], &["--worker", &format!("{worker}/3")]].concat()).0)
        .collect();
    assert_eq!(order(&parts), found);
    let late = order(&[read(&table, &[&ORDER[..], &["--from", "451"]].concat()).0]);
    assert!(late.iter().all(|(position, key)| found[position] == *key));

    // What is not read is not missed: the pixels are damaged, the labels beside them are their own.
    let args = ["--columns", "key,label", "--report", report.to_str().unwrap()];
    let (found, said) = read(&table, &args);
    let of_lines = self::lines(&report);
    let damaged: BTreeSet<&str> =
        of_lines.iter().filter_map(|line| line["damaged"].as_str()).collect();
    assert_eq!(damaged, BTreeSet::from([cut.as_str(), gone.as_str()]), "{said}");
    let replaced: BTreeSet<i64> =
        of_lines.iter().filter_map(|line| line["position"].as_i64()).collect();
    assert_eq!(replaced.len(), 100);
    let labels_found = found.column_by_name("label").unwrap();
    let same = (0..300).filter(|row| {
        keys(&found)[*row] == keys(&labels)[*row]
            && labels_found.slice(*row, 1).as_ref() == labels.column(1).slice(*row, 1).as_ref()
    });
    let same: BTreeSet<i64> = same.map(|row| row as i64).collect();
    assert!((0..300).all(|position| same.contains(&position) != replaced.contains(&position)));

    // What cannot be replaced is an error.
    for shard in [0, 2, 5] {
        damage(&table, shard, Vec::clear);
    }
    damage(&table, 1, Vec::clear);
    let output = run(&table, &ORDER);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("none of its shards can be read"), "{said}");
}

#[test]
fn resume_read_decodes_to_arrays() {
    let folder = folder();
    let table = written(folder.path());
    let (found, _) =
        read(&table, &["--decode", "--columns", "key,image,audio,caption", "--shuffle", "3"]);
    let schema = found.schema();
    let image = schema.field_with_name("image").unwrap();
    let size = 96 * 96 * 3;
    assert!(matches!(image.data_type(), DataType::FixedSizeList(_, found) if *found == size));
    assert_eq!(image.metadata()["ARROW:extension:name"], "arrow.fixed_shape_tensor");
    let shape: Json = serde_json::from_str(&image.metadata()["ARROW:extension:metadata"]).unwrap();
    assert_eq!(shape["shape"], serde_json::json!([96, 96, 3]));
    assert!(schema.index_of("image_width").is_err(), "the type says it");
    // The same pixels and samples that the codecs give.
    let stored = crate::table(folder.path()).sorted();
    let by_key: BTreeMap<String, usize> = keys(&stored).into_iter().zip(0..).collect();
    let media = |column: &str, row: usize| {
        let media = stored.column_by_name(column).unwrap().as_struct();
        let bytes = media.column_by_name("bytes").unwrap().as_binary::<i32>();
        bytes.is_valid(row).then(|| bytes.value(row).to_vec())
    };
    let decoded = |bytes: &[u8]| {
        let mut samples = Vec::new();
        let codec = anabranch_operators::codec::sniff(bytes).unwrap();
        codec.decode(bytes, &Default::default(), &mut samples).unwrap();
        samples
    };
    let (images, sounds) =
        (found.column_by_name("image").unwrap(), found.column_by_name("audio").unwrap());
    for (row, key) in keys(&found).into_iter().enumerate() {
        // A missing modality stays missing.
        let image = media("image", by_key[&key]);
        assert_eq!(images.is_valid(row), image.is_some());
        if let Some(image) = image {
            let pixels = images.as_fixed_size_list().value(row);
            assert_eq!(pixels.as_primitive::<UInt8Type>().values(), decoded(&image).as_slice());
        }
        let sound = media("audio", by_key[&key]);
        assert_eq!(sounds.is_valid(row), sound.is_some());
        if let Some(sound) = sound {
            let floats = sounds.as_list::<i32>().value(row);
            let samples = decoded(&sound);
            let expected = samples.as_chunks::<2>().0.iter();
            let expected = expected.map(|bytes| f32::from(i16::from_le_bytes(*bytes)) / 32768.0);
            assert!(floats.as_primitive::<Float32Type>().values().iter().copied().eq(expected));
        }
    }
    assert!(images.null_count() < 300 && sounds.null_count() < 300);
}

#[test]
fn resume_read_puts_others_where_records_do_not_decode() {
    let folder = folder();
    let input = folder.path().join("input");
    std::fs::create_dir(&input).unwrap();
    for name in ["kodim01.png", "kodim02.png", "kodim03.png"] {
        let bytes = std::fs::read(data().join("photos").join(name)).unwrap();
        std::fs::write(input.join(name), &bytes).unwrap();
        std::fs::write(input.join(format!("cut-{name}")), &bytes[..bytes.len() / 2]).unwrap();
    }
    let job = "[job]\nname = 'cut'\n[source.input]\nkind = 'files'\npath = 'input/*'\n\
               [sink.table]\nkind = 'table'\npath = 'table'\ninputs = ['input']\n";
    Job::text(PROGRAM, folder.path(), job).succeed();
    let (table, report) = (folder.path().join("table"), folder.path().join("report.jsonl"));
    let order = ["--shuffle", "1", "--columns", "key,image"];
    let (stored, _) = read(&table, &order);
    let args = [&order[..], &["--decode=rgb", "--report", report.to_str().unwrap()]].concat();
    let (found, said) = read(&table, &args);
    assert!(said.contains("does not decode, and another stands in for it"), "{said}");
    let (stored, keys_found) = (keys(&stored), keys(&found));
    for (key, found) in stored.iter().zip(&keys_found) {
        assert!(!found.starts_with("cut-"));
        assert!(key == found || key.starts_with("cut-"), "{key} became {found}");
    }
    let lines = lines(&report);
    let replaced: Vec<usize> =
        lines.iter().filter_map(|line| Some(line["position"].as_u64()? as usize)).collect();
    let cut: Vec<usize> = (0..6).filter(|at| stored[*at].starts_with("cut-")).collect();
    assert_eq!(replaced, cut);
    assert!(lines[1]["error"].as_str().unwrap().contains("PNG"), "{}", lines[1]);
    assert_eq!(keys(&read(&table, &args[..5]).0), keys_found);
}

#[test]
fn resume_read_closed_pipe_is_no_error() {
    let folder = folder();
    let table = written(folder.path());
    for decode in [&["--batch", "1"][..], &["--batch", "1", "--decode"]] {
        let args = [&ORDER[..4], &["--passes", "1000"], decode].concat();
        let mut child =
            command(&table, &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stream = StreamReader::try_new(child.stdout.take().unwrap(), None).unwrap();
        assert_eq!(stream.next().unwrap().unwrap().num_rows(), 1);
        drop(stream);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(0), 1), "{said}");
    }
}

#[test]
fn resume_read_refuses_what_cannot_be_read() {
    let folder = folder();
    let table = written(folder.path());
    let place = folder.path().display().to_string();
    let refused = |table: &Path, args: &[&str]| {
        let output = run(table, args);
        assert!(output.stdout.is_empty());
        let said = String::from_utf8(output.stderr).unwrap().replace(&place, "FOLDER");
        format!("{:?} {}", output.status.code().unwrap(), said.trim_end())
    };
    let cases = [
        refused(folder.path(), &[]),
        refused(&table, &["--columns", "key,imgae"]),
        refused(&table, &["--from", "301"]),
        refused(&table, &["--from", "601", "--passes", "2"]),
        refused(&table, &["--shuffle", "seven"]),
        refused(&table, &["--worker", "2/2"]),
        refused(&table, &["--worker", "half"]),
        refused(&table, &["--version", "17"]),
        refused(&table, &["--batch", "0"]),
    ];
    insta::assert_snapshot!(cases.join("\n\n"));
}

/// The Python of `jobs/READING.md`, as people copy it.
const DRIVER: &str = r#"
count, labels = 0, 0
for images, of, resume in batches("table", "--shuffle", "7", "--batch", "64"):
    assert images.shape[1:] == (96, 96, 3) and images.dtype.name == "uint8", images.shape
    assert images.reshape(len(images), -1).max(axis=1).all(), "a picture is black"
    count, labels = count + len(images), labels + int(of.sum())
    assert resume == count
stopped = batches("table", "--passes", "1000000")
next(stopped)
stopped.close()
print(count, labels)
"#;

#[test]
fn client_python_of_the_page_reads_batches() {
    let folder = folder();
    let table = written(folder.path());
    let page = std::fs::read_to_string(root().join("jobs/READING.md")).unwrap();
    // All that the page wants of PyTorch; the real one is too large for a test.
    std::fs::write(folder.path().join("torch.py"), TORCH).unwrap();
    std::os::unix::fs::symlink(PROGRAM, folder.path().join("anabranch")).unwrap();
    let labels: i64 = numbers(&read(&table, &[]).0, "label").iter().sum();
    let codes: Vec<&str> = page.split("```python\n").skip(1).collect();
    assert_eq!(codes.len(), 2, "one through the pipe, one through shared memory");
    for (code, most) in codes.iter().zip([10, 20]) {
        let code = code.split("```").next().unwrap();
        let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
        assert!(lines <= most, "{lines} lines");
        std::fs::write(folder.path().join("reading.py"), format!("{code}{DRIVER}")).unwrap();
        let output = Command::new(python())
            .arg("reading.py")
            .env("PATH", folder.path())
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("300 {labels}\n"));
    }
}

const TORCH: &str = "def tensor(array): return array.copy()\n";

/// What a reader of shared memory does, batch by batch; it stops after `most`.
#[cfg(target_os = "linux")]
fn read_shared(table: &Path, args: &[&str], most: usize) -> (Vec<RecordBatch>, Output) {
    use arrow::buffer::Buffer;
    use arrow::ipc::reader::StreamDecoder;
    use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};

    let mut child = command(table, &[args, &["--shared"]].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next =
        || lines.next().map(|line| serde_json::from_str::<Json>(&line.unwrap()).unwrap());
    let mut answers = child.stdin.take().unwrap();
    let head = next().unwrap();
    let mut memory = std::fs::File::open(head["memory"].as_str().unwrap()).unwrap();
    let mut part = |at: &Json| {
        memory.seek(SeekFrom::Start(at[0].as_u64().unwrap())).unwrap();
        let mut bytes = vec![0; at[1].as_u64().unwrap() as usize];
        memory.read_exact(&mut bytes).unwrap();
        bytes
    };
    let mut schema = part(&head["schema"]);
    schema.truncate(schema.len() - 8);
    let mut decoder = StreamDecoder::new();
    assert!(decoder.decode(&mut Buffer::from(schema)).unwrap().is_none());
    answers.write_all(b".").unwrap();
    let mut batches = Vec::new();
    while batches.len() < most
        && let Some(line) = next()
    {
        batches.push(decoder.decode(&mut Buffer::from(part(&line["batch"]))).unwrap().unwrap());
        answers.write_all(b".").unwrap();
    }
    drop((lines, answers));
    (batches, child.wait_with_output().unwrap())
}

#[cfg(target_os = "linux")]
#[test]
fn resume_read_through_shared_memory_is_what_the_pipe_gives() {
    let folder = folder();
    let table = written(folder.path());
    for args in [&ORDER[..], &[&ORDER[..], &["--batch", "7", "--decode", "--from", "33"]].concat()]
    {
        let (expected, _) = read(&table, args);
        let (batches, output) = read_shared(&table, args, usize::MAX);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(concat_batches(&expected.schema(), &batches).unwrap(), expected);
    }
    // A reader that goes away has seen enough, whether it answers or not.
    let (batches, output) = read_shared(&table, &["--batch", "1", "--passes", "1000"], 9);
    assert_eq!((batches.len(), output.status.code()), (9, Some(0)));
    assert_eq!(String::from_utf8(output.stderr).unwrap().lines().count(), 1);
}
