//! What a store's error means: whether it may pass, and what a person can do about it.

use std::error::Error as StdError;
use std::io::ErrorKind;

use object_store::Error;

/// Whether the same request may succeed a little later.
pub(super) fn is_transient(error: &Error) -> bool {
    match error {
        Error::Generic { .. } | Error::JoinError { .. } => !matches!(
            kind(error),
            Some(
                ErrorKind::StorageFull
                    | ErrorKind::QuotaExceeded
                    | ErrorKind::FileTooLarge
                    | ErrorKind::ReadOnlyFilesystem
                    | ErrorKind::PermissionDenied
                    | ErrorKind::NotADirectory
                    | ErrorKind::IsADirectory
                    | ErrorKind::InvalidFilename
                    | ErrorKind::InvalidInput
            )
        ),
        _ => false,
    }
}

/// The status by which a server refused a request for good, if it did: asked again, it answers the same.
///
/// ```
/// use anabranch_pipelines::store::refusal;
/// use object_store::Error;
///
/// let gone = Error::NotFound { path: "a".to_owned(), source: "no such key".into() };
/// assert_eq!(refusal(&gone), Some(404));
/// let busy = "Server returned non-2xx status code: 503 Service Unavailable: ";
/// assert_eq!(refusal(&Error::Generic { store: "HTTP", source: busy.into() }), None);
/// ```
pub fn refusal(error: &Error) -> Option<u16> {
    match error {
        Error::NotFound { .. } => Some(404),
        Error::PermissionDenied { .. } => Some(403),
        Error::Unauthenticated { .. } => Some(401),
        // The client tells other statuses in words alone.
        Error::Generic { source, .. } => {
            let text = source.to_string();
            let (_, status) = text.split_once("status code: ")?;
            let status: u16 = status.get(..3)?.parse().ok()?;
            ((400..500).contains(&status) && !matches!(status, 408 | 425 | 429)).then_some(status)
        }
        _ => None,
    }
}

/// A store's error in words, with what to do about it where that is known.
///
/// ```
/// use std::io::{Error, ErrorKind};
/// use anabranch_pipelines::store::explain;
///
/// let text = explain(&Error::from(ErrorKind::StorageFull));
/// assert!(text.contains("free some space"));
/// ```
pub fn explain(error: &(dyn StdError + 'static)) -> String {
    let denied = chain(error).any(|cause| {
        matches!(
            cause.downcast_ref(),
            Some(Error::PermissionDenied { .. } | Error::Unauthenticated { .. })
        )
    });
    let advice = match kind(error) {
        Some(ErrorKind::StorageFull) => {
            "the disk is full; free some space and run the same command again: what was committed stays"
        }
        Some(ErrorKind::QuotaExceeded) => {
            "the disk quota is used up; free some space and run the same command again: what was committed \
             stays"
        }
        Some(ErrorKind::FileTooLarge) => {
            "the file is larger than this system allows; raise the limit (`ulimit -f`) or make parts smaller"
        }
        Some(ErrorKind::ReadOnlyFilesystem) => {
            "the file system is read-only; make it writable or choose another path"
        }
        Some(ErrorKind::PermissionDenied) => {
            "permission denied; check who owns the folder, or choose another path"
        }
        Some(ErrorKind::NotADirectory) => {
            "there is a file where a folder has to be; choose another path, or move the file away"
        }
        Some(ErrorKind::TimedOut) => {
            "the store does not answer; check the network and run the same command again: what was committed \
             stays"
        }
        _ if is_without_credentials(error) => {
            "no credentials were found, in the environment or with the machine's role; set AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY (AWS_SKIP_SIGNATURE=true for a public bucket), GOOGLE_APPLICATION_CREDENTIALS, \
             or AZURE_STORAGE_ACCOUNT_KEY"
        }
        _ if denied => "permission denied; check the credentials and what they allow",
        _ => return error.to_string(),
    };
    format!("{advice} ({error})")
}

/// Whether it is the service that gives a machine's role its credentials that failed: it is asked, at this
/// address, when the environment has none.
fn is_without_credentials(error: &(dyn StdError + 'static)) -> bool {
    const SERVICES: [&str; 2] = ["//169.254.169.254/", "//metadata.google.internal"];
    let text = error.to_string();
    SERVICES.iter().any(|service| text.contains(service))
}

/// The kind of the first system error in the chain of causes.
fn kind(error: &(dyn StdError + 'static)) -> Option<ErrorKind> {
    chain(error).find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind)
}

fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_credential_is_told_and_not_an_address_that_nobody_wrote() {
        let asked = "Error performing PUT http://169.254.169.254/latest/api/token in 1 ms";
        let error = Error::Generic { store: "S3", source: asked.into() };
        assert!(explain(&error).starts_with("no credentials were found"), "{}", explain(&error));
        let other = Error::Generic { store: "S3", source: "no such bucket".into() };
        assert!(!explain(&other).contains("credentials"));
    }

    #[test]
    fn a_file_where_a_folder_has_to_be_is_told() {
        let source = std::io::Error::from(ErrorKind::NotADirectory);
        let error = Error::Generic { store: "LocalFileSystem", source: source.into() };
        assert!(explain(&error).starts_with("there is a file where"), "{}", explain(&error));
    }
}
