//! Bytes of a snapshot: numbers of 64 bits, lists with their length before them.

use anabranch_pipelines::operator::OperatorError;

/// What is wrong with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged(pub(super) &'static str);

impl From<Damaged> for OperatorError {
    fn from(Damaged(how): Damaged) -> Self {
        Self::Failed(format!("the snapshot of a training is damaged: {how}"))
    }
}

/// Puts a snapshot together.
#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// A float, bit for bit.
    pub(super) fn float(&mut self, number: f64) {
        self.number(number.to_bits());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(super) fn words(&mut self, words: impl ExactSizeIterator<Item = u32>) {
        self.number(words.len() as u64);
        words.for_each(|word| self.0.extend_from_slice(&word.to_le_bytes()));
    }

    /// A list of what writes itself.
    pub(super) fn list<T>(&mut self, items: &[T], write: impl Fn(&T, &mut Self)) {
        self.number(items.len() as u64);
        items.iter().for_each(|item| write(item, self));
    }

    pub(super) fn maybe<T>(&mut self, item: Option<&T>, write: impl FnOnce(&T, &mut Self)) {
        self.number(u64::from(item.is_some()));
        if let Some(item) = item {
            write(item, self);
        }
    }
}

/// Takes a snapshot apart.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, size: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.0.split_at_checked(size).ok_or(Damaged("it ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn number(&mut self) -> Result<u64, Damaged> {
        let bytes = self.take(8)?.try_into().map_err(|_| Damaged("it ends early"))?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub(super) fn float(&mut self) -> Result<f64, Damaged> {
        self.number().map(f64::from_bits)
    }

    fn length(&mut self) -> Result<usize, Damaged> {
        let length = usize::try_from(self.number()?);
        // Whatever a list holds takes at least a bit.
        let most = self.0.len().saturating_mul(8);
        length.ok().filter(|length| *length <= most).ok_or(Damaged("a length is too large"))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        let length = self.length()?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<String, Damaged> {
        let text = std::str::from_utf8(self.bytes()?);
        text.map(str::to_owned).map_err(|_| Damaged("a text is not UTF-8"))
    }

    pub(super) fn words(&mut self) -> Result<Vec<u32>, Damaged> {
        let bytes = self.length()?.checked_mul(4).ok_or(Damaged("a length is too large"))?;
        let (words, _) = self.take(bytes)?.as_chunks::<4>();
        Ok(words.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }

    pub(super) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, Damaged>,
    ) -> Result<Vec<T>, Damaged> {
        (0..self.length()?).map(|_| read(self)).collect()
    }

    pub(super) fn maybe<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Damaged>,
    ) -> Result<Option<T>, Damaged> {
        match self.number()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(Damaged("something is neither there nor not")),
        }
    }

    pub(super) fn end(self) -> Result<(), Damaged> {
        if self.0.is_empty() { Ok(()) } else { Err(Damaged("something follows it")) }
    }
}
