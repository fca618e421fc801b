//! Dictionaries of compressed texts and codecs of latents: decisions of the runs that wrote a table, beside it.

use anabranch_pipelines::record::{Modality, media};
use anabranch_pipelines::source::SourceError;
use anabranch_pipelines::store::Location;
use arrow::datatypes::{Field, Schema};

/// Whether a column holds texts that are compressed, perhaps with a dictionary, or media, perhaps with a codec that
/// was learned.
pub(crate) fn may_need(field: &Field) -> bool {
    let coded = [Modality::Text, Modality::Image, Modality::Audio];
    Modality::of(field).is_some_and(|modality| coded.contains(&modality))
        && media::State::of(field) == Some(media::State::Encoded)
}

/// The schema, with the decisions of the table's runs named at the columns that may need one.
///
/// A table without any was copied from another one: its columns name what they named there.
pub(crate) async fn named(at: &Location, schema: &Schema) -> Result<Schema, SourceError> {
    if !schema.fields().iter().any(|field| may_need(field)) {
        return Ok(schema.clone());
    }
    let decisions = decisions(at).await?;
    let fields = schema.fields().iter().map(|field| {
        let mut field = field.as_ref().clone();
        if may_need(&field) && !decisions.is_empty() {
            let mut metadata = field.metadata().clone();
            metadata.insert(media::DICTIONARIES_KEY.to_owned(), decisions.join("\n"));
            field = field.with_metadata(metadata);
        }
        field
    });
    Ok(Schema::new(fields.collect::<Vec<_>>()))
}

/// Every decision of every run whose log stands at the table, dictionary or not.
async fn decisions(at: &Location) -> Result<Vec<String>, SourceError> {
    let list = async |place: &Location| {
        let listed = place.store.list_with_delimiter(Some(&place.path)).await;
        listed.map_err(|source| SourceError::Store { location: place.url.clone(), source })
    };
    let runs = at.join("_anabranch/runs");
    let mut found = Vec::new();
    for run in list(&runs).await?.common_prefixes {
        let Some(run) = run.filename() else { continue };
        let decisions = runs.join(run).join("decisions");
        let objects = list(&decisions).await?.objects;
        let names = objects.iter().filter_map(|object| object.location.filename());
        found.extend(names.map(|name| decisions.join(name).url));
    }
    found.sort();
    Ok(found)
}
