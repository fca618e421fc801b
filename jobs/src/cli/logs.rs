//! Logs of the libraries, on stderr.

use std::io;

use tracing_subscriber::EnvFilter;

use super::LogFormat;

/// The table log's library reports an empty folder as an error, which is how every new table begins;
/// what really fails reaches the person as the command's own error.
const DEFAULT: &str = "warn,delta_kernel=off,delta_kernel_default_engine=off";

/// Starts logging. `ANABRANCH_LOG` chooses what is logged, like `debug` or `anabranch=trace`.
pub(super) fn start(format: LogFormat) {
    let filter =
        EnvFilter::try_from_env("ANABRANCH_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A second start in one process keeps the first one's settings.
    let _ = match format {
        LogFormat::Text => builder.without_time().with_ansi(super::watched()).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
