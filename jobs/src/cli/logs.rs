//! Logs of the libraries, on stderr.

use std::io;

use tracing_subscriber::EnvFilter;

use super::LogFormat;

/// Starts logging. `ANABRANCH_LOG` chooses what is logged, like `debug` or `anabranch=trace`.
pub(super) fn start(format: LogFormat) {
    let filter =
        EnvFilter::try_from_env("ANABRANCH_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A second start in one process keeps the first one's settings.
    let _ = match format {
        LogFormat::Text => builder.without_time().try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
