//! Members that follow one another under one name, as one record.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::columns::Columns;
use super::name::Name;
use super::value::Value;
use crate::source::jsonl::Unknown;
use crate::source::member::Body;
use crate::source::object::Failure;
use crate::source::repeats::{Known, lock, size};
use crate::source::scan::{Bad, Found, Scanner};
use crate::source::tar::members::{Located, Members};

/// A sample: a value for each column, or nothing where it has no such member.
pub(super) struct Sample {
    pub(super) key: String,
    pub(super) values: Vec<Option<Value>>,
}

/// The samples of one shard.
pub(super) struct Samples {
    pub(super) members: Members,
    /// The next sample's first member, which ended the one before.
    pub(super) ahead: Option<Located>,
    /// Where the last sample ended.
    pub(super) at: u64,
    pub(super) known: Arc<Mutex<Known>>,
    pub(super) columns: Columns,
    /// Whether keys begin with the shard's name.
    pub(super) folder: bool,
    pub(super) references: bool,
    pub(super) max_member: u64,
}

impl Scanner for Samples {
    type Row = Sample;

    fn seek(&mut self, offset: u64) -> Result<(), Failure> {
        self.at = offset;
        if self.ahead.as_ref().is_some_and(|ahead| ahead.range.start == offset) {
            return Ok(());
        }
        self.ahead = None;
        self.members.seek(offset)
    }

    fn next(&mut self, measured: bool) -> Result<Option<Found<Sample>>, Failure> {
        let Some(mut member) = self.member()? else { return Ok(None) };
        let start = member.range.start;
        let name = member.name.clone();
        let (key, again) = match Name::of(&name) {
            Name::Of { key, .. } => (key, self.again(key, start)?),
            // Without an ending, a member is a sample of its own, which has no columns.
            Name::Plain | Name::Passed => (name.as_str(), false),
        };
        let values = (0..self.columns.count()).map(|_| None).collect();
        let mut gathered = Gathered { values, fault: None };
        if again {
            let fault = "its name stood before in this shard, with others in between: members of one sample \
                         follow one another (sort the shard by name)";
            gathered.refuse(fault.to_owned());
        }
        loop {
            self.take(&member, measured, &mut gathered)?;
            let end = member.range.end;
            lock(&self.known).add(key, &(start..end));
            match self.member()? {
                Some(next) if matches!(Name::of(&next.name), Name::Of { key: same, .. } if same == key) =>
                {
                    member = next;
                }
                next => {
                    self.ahead = next;
                    let range = self.at..end;
                    self.at = end;
                    return Ok(Some(self.found(range, key, measured, gathered)));
                }
            }
        }
    }

    fn position(&self) -> u64 {
        match &self.ahead {
            Some(ahead) => ahead.range.start,
            None => self.members.object().position(),
        }
    }

    fn holds(&self) -> usize {
        size(&self.known)
    }
}

/// What was gathered of a sample.
struct Gathered {
    /// By column, what its best member is worth, and how many endings would be better.
    values: Vec<Option<(usize, Result<Value, String>)>>,
    fault: Option<String>,
}

impl Gathered {
    /// The first fault is told.
    fn refuse(&mut self, fault: String) {
        self.fault.get_or_insert(fault);
    }

    /// The values, or the first fault of what is needed.
    fn finish(self) -> Result<Vec<Option<Value>>, String> {
        match self.fault {
            Some(fault) => Err(fault),
            None => {
                self.values.into_iter().map(|v| v.map(|(_, value)| value).transpose()).collect()
            }
        }
    }
}

impl Samples {
    /// The next member that is data.
    fn member(&mut self) -> Result<Option<Located>, Failure> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        while let Some(found) = self.members.next()? {
            if Name::of(&found.name) != Name::Passed {
                return Ok(Some(found));
            }
            self.members.pass_body(&found)?;
            lock(&self.known).pass(&found.range);
        }
        Ok(None)
    }

    /// Whether the name of the sample that begins there stood before it.
    fn again(&self, key: &str, start: u64) -> Result<bool, Failure> {
        let key_of = |name: &str| match Name::of(name) {
            Name::Of { key, .. } => key.len(),
            Name::Plain | Name::Passed => name.len(),
        };
        let walked = || self.members.again();
        lock(&self.known)
            .stood_before(key, start, walked, |name| name.get(..key_of(name)).unwrap_or(name))
    }

    /// Takes a member into its column; whatever is wrong with it, the bytes behind it can be read.
    fn take(
        &mut self,
        member: &Located,
        measured: bool,
        gathered: &mut Gathered,
    ) -> Result<(), Failure> {
        if measured {
            return self.members.pass_body(member);
        }
        let name = &member.name;
        let Name::Of { ending, .. } = Name::of(name) else {
            gathered.refuse("its name has no ending that tells its column".to_owned());
            return self.members.pass_body(member);
        };
        let Some((column, rank)) = self.columns.of(&ending) else {
            if self.columns.unknown == Unknown::Refuse {
                gathered.refuse(format!(
                    "no column takes `{name}`; name one in `columns` for `{ending}`, or say \
                     `unknown = \"ignore\"`"
                ));
            }
            return self.members.pass_body(member);
        };
        let Some(place) = gathered.values.get_mut(column) else { return Ok(()) };
        if let Some((there, _)) = place
            && *there <= rank
        {
            // A member that its column prefers to this one makes it superfluous, and one like it a riddle.
            if *there == rank {
                let column = self.columns.name(column);
                gathered.refuse(format!("`{name}` is its second member for the column `{column}`"));
            }
            return self.members.pass_body(member);
        }
        let fault = member.fault(self.max_member);
        if fault.is_some() || gathered.fault.is_some() {
            *place = Some((rank, Err(format!("`{name}`: {}", fault.unwrap_or_default()))));
            return self.members.pass_body(member);
        }
        let referred = self.references && self.columns.is_media(column);
        let body = match referred {
            true => Body::At { uri: self.members.object().uri(), range: member.body.clone() },
            false => Body::Bytes(self.members.read(member)?),
        };
        let value = self.columns.value(column, name, body);
        *place = Some((rank, value.map_err(|fault| format!("`{name}`: {fault}"))));
        Ok(())
    }

    fn found(
        &self,
        range: Range<u64>,
        key: &str,
        measured: bool,
        gathered: Gathered,
    ) -> Found<Sample> {
        let bytes = range.end - range.start;
        let key = match self.folder {
            true => format!("{}/{key}", self.members.object().split().name),
            false => key.to_owned(),
        };
        let row = (!measured).then(|| match gathered.finish() {
            Ok(values) => Ok(Sample { key, values }),
            Err(error) => Err(Bad { key, error, bytes: None }),
        });
        Found { range, bytes, row }
    }
}
