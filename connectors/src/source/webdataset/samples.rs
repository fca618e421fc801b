//! Members that follow one another under one name, as one record.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::columns::Columns;
use super::name::Name;
use super::value::Value;
use crate::source::jsonl::Unknown;
use crate::source::member::Body;
use crate::source::object::Failure;
use crate::source::scan::{Bad, Found, Scanner};
use crate::source::tar::members::{Located, Members};

/// A sample: a value for each column, or nothing where it has no such member.
pub(super) struct Sample {
    pub(super) key: String,
    pub(super) values: Vec<Option<Value>>,
}

/// Which names a shard has, as far as it was walked.
#[derive(Default)]
pub(super) struct Known {
    /// Where a name, by its hash, stands first.
    first: HashMap<u64, u64>,
    walked: u64,
}

impl Known {
    fn add(&mut self, key: &str, range: &Range<u64>) {
        self.first.entry(hash(key)).or_insert(range.start);
        self.walked = self.walked.max(range.end);
    }

    fn stood_before(&self, key: &str, start: u64) -> bool {
        self.first.get(&hash(key)).is_some_and(|first| *first < start)
    }
}

fn hash(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
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
        let mut gathered = Gathered { values: self.columns.nothing(), fault: None };
        if again {
            let fault = "its name stood before in this shard, with others in between: members of one sample \
                         follow one another (sort the shard by name)";
            gathered.refuse(fault.to_owned());
        }
        loop {
            self.take(&member, measured, &mut gathered)?;
            let end = member.range.end;
            self.lock().add(key, &(start..end));
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
}

/// What was gathered of a sample.
struct Gathered {
    values: Vec<Option<Value>>,
    fault: Option<String>,
}

impl Gathered {
    /// The first fault is told.
    fn refuse(&mut self, fault: String) {
        self.fault.get_or_insert(fault);
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
        }
        Ok(None)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the name of the sample that begins there stood before it. What was not walked yet is walked now.
    fn again(&self, key: &str, start: u64) -> Result<bool, Failure> {
        let mut known = self.lock();
        if known.walked < start {
            let mut members = Members::new(self.members.object().again()?, None);
            members.seek(known.walked)?;
            while known.walked < start
                && let Some(found) = members.next()?
            {
                let key = match Name::of(&found.name) {
                    Name::Of { key, .. } => key,
                    Name::Plain | Name::Passed => &found.name,
                };
                if found.range.start < start {
                    known.add(key, &found.range);
                }
                known.walked = known.walked.max(found.range.end.min(start));
            }
        }
        Ok(known.stood_before(key, start))
    }

    /// Takes a member into its column; whatever is wrong with it, the bytes behind it can be read.
    fn take(
        &mut self,
        member: &Located,
        measured: bool,
        gathered: &mut Gathered,
    ) -> Result<(), Failure> {
        let ending = match Name::of(&member.name) {
            Name::Of { ending, .. } => Some(ending),
            _ => None,
        };
        let column = ending.as_deref().and_then(|ending| self.columns.of(ending));
        let name = &member.name;
        if measured {
            return self.members.pass_body(member);
        }
        let fault = match (&ending, column, self.columns.unknown) {
            (None, ..) => Some("its name has no ending that tells its column".to_owned()),
            (_, None, Unknown::Ignore) => return self.members.pass_body(member),
            (Some(ending), None, Unknown::Refuse) => Some(format!(
                "no column takes `{name}`; name one in `columns` for `{ending}`, or say \
                 `unknown = \"ignore\"`"
            )),
            (_, Some(column), _) => member
                .fault(self.max_member)
                .map(|fault| format!("`{name}`: {fault}"))
                .or_else(|| self.twice(column, gathered, name)),
        };
        let column = match (fault.or_else(|| gathered.fault.clone()), column) {
            (None, Some(column)) => column,
            (fault, _) => {
                gathered.refuse(fault.unwrap_or_default());
                return self.members.pass_body(member);
            }
        };
        let referred = self.references && self.columns.is_media(column);
        let body = match referred {
            true => {
                Body::At { uri: self.members.object().url().into(), range: member.body.clone() }
            }
            false => Body::Bytes(self.members.read(member)?),
        };
        match self.columns.value(column, name, body) {
            Ok(value) => {
                if let Some(place) = gathered.values.get_mut(column) {
                    *place = Some(value);
                }
            }
            Err(fault) => gathered.refuse(format!("`{name}`: {fault}")),
        }
        Ok(())
    }

    fn twice(&self, column: usize, gathered: &Gathered, name: &str) -> Option<String> {
        gathered.values.get(column)?.as_ref()?;
        let column = self.columns.name(column);
        Some(format!("`{name}` is its second member for the column `{column}`"))
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
        let row = match gathered.fault {
            _ if measured => None,
            Some(error) => Some(Err(Bad { key, error, bytes: None })),
            None => Some(Ok(Sample { key, values: gathered.values })),
        };
        Found { range, bytes, row }
    }
}
