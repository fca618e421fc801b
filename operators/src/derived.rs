//! What an operator derives from the schema of its input, once for all batches of it.

use std::sync::{Mutex, PoisonError};

use arrow::datatypes::SchemaRef;

/// The last thing that was derived. Invocations come in slices of a few records, and all of them have the
/// schema that the plan promised, so one is enough.
#[derive(Debug)]
pub(crate) struct Derived<T>(Mutex<Option<(SchemaRef, T)>>);

impl<T> Default for Derived<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Derived<T> {
    /// What `derive` makes of this schema, or made of it before.
    pub(crate) fn of<E>(
        &self,
        schema: &SchemaRef,
        derive: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, derived)) = last.as_ref()
            && of == schema
        {
            return Ok(derived.clone());
        }
        drop(last);
        let derived = derive()?;
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((SchemaRef::clone(schema), derived.clone()));
        Ok(derived)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field, Schema};
    use std::cell::Cell;
    use std::convert::Infallible;
    use std::sync::Arc;

    #[test]
    fn another_schema_is_derived_anew_and_an_equal_one_is_not() {
        let schema = |name| Arc::new(Schema::new(vec![Field::new(name, DataType::Int32, true)]));
        let (derived, calls) = (Derived::default(), Cell::new(0));
        let columns = |schema: &SchemaRef| {
            let derive = || {
                calls.set(calls.get() + 1);
                Ok::<_, Infallible>(schema.field(0).name().clone())
            };
            derived.of(schema, derive).unwrap()
        };
        assert_eq!([columns(&schema("a")), columns(&schema("a"))], ["a", "a"]);
        assert_eq!(calls.get(), 1);
        assert_eq!([columns(&schema("b")), columns(&schema("a"))], ["b", "a"]);
        assert_eq!(calls.get(), 3);
    }
}
