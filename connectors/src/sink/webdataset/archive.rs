//! Members of an archive, with headers that depend on nothing but the name and the size.

use ::tar::{EntryType, Header};

/// Size of the blocks that an archive consists of.
const BLOCK: usize = 512;
/// Bytes of a name that a header holds.
const NAME: usize = 100;
/// What ends an archive.
pub(super) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Appends a member. A name that does not fit into a header, or is not ASCII, has an extended one before it.
pub(super) fn append(archive: &mut Vec<u8>, name: &str, body: &[u8]) {
    if name.len() > NAME || !name.is_ascii() {
        let extended = attribute("path", name);
        file(archive, "PaxHeader", EntryType::XHeader, extended.as_bytes());
    }
    file(archive, name, EntryType::Regular, body);
}

fn file(archive: &mut Vec<u8>, name: &str, kind: EntryType, body: &[u8]) {
    let mut header = Header::new_ustar();
    // What is cut off stands in the extended header.
    let fitting = name.bytes().map(|byte| if byte.is_ascii() { byte } else { b'_' }).take(NAME);
    header.as_old_mut().name.iter_mut().zip(fitting).for_each(|(to, from)| *to = from);
    header.set_entry_type(kind);
    header.set_size(body.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    archive.extend_from_slice(header.as_bytes());
    archive.extend_from_slice(body);
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn attribute(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    format!("{length}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn names_of_any_length_and_script_come_back() {
        let names =
            ["a.jpg".to_owned(), "x".repeat(100), "y".repeat(101), "größe/ä.jpg".to_owned()];
        // Every length at which the attribute's own length gets another digit.
        let long = (85..100).chain(980..1000).map(|length| "z".repeat(length));
        let names: Vec<String> = names.into_iter().chain(long).collect();
        let mut archive = Vec::new();
        for name in &names {
            append(&mut archive, name, name.as_bytes());
        }
        archive.extend_from_slice(&END);
        assert_eq!(archive.len() % BLOCK, 0);
        let mut read = ::tar::Archive::new(archive.as_slice());
        let mut found = Vec::new();
        for entry in read.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let mut body = String::new();
            entry.read_to_string(&mut body).unwrap();
            assert_eq!(body, name);
            assert_eq!(entry.header().mtime().unwrap(), 0);
            found.push(name);
        }
        assert_eq!(found, names);
    }
}
