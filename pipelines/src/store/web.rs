//! Single objects of the web, by URL.

use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use object_store::client::{HttpClient, HttpConnector, ReqwestConnector};
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{ClientConfigKey, ClientOptions, ObjectStore};
use url::{Position, Url};

use super::{Patience, Patient};

/// One pool of connections for all servers; only URLs that say `http` may go without encryption.
static CLIENTS: LazyLock<[Result<HttpClient, String>; 2]> = LazyLock::new(|| {
    [false, true].map(|open| {
        let connected = ReqwestConnector::default().connect(&options(open));
        connected.map_err(|error| error.to_string())
    })
});

/// The options that the environment gives, as it does for the clouds' stores.
fn options(open: bool) -> ClientOptions {
    let known = std::env::vars().filter_map(|(name, value)| {
        Some((ClientConfigKey::from_str(&name.to_ascii_lowercase()).ok()?, value))
    });
    let options = known.fold(ClientOptions::new(), |all, (key, value)| all.with_config(key, value));
    if open { options.with_allow_http(true) } else { options }
}

/// Connects to nothing anew.
#[derive(Debug)]
struct Shared(HttpClient);

impl HttpConnector for Shared {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.0.clone())
    }
}

/// A store that gives what a URL names, under the URL's path. What follows `?` belongs to the name as well.
pub(super) fn store(url: &Url) -> Result<(Arc<dyn ObjectStore>, Path), String> {
    let open = url.scheme() == "http";
    let [closed, opened] = &*CLIENTS;
    let client = (if open { opened } else { closed }).clone()?;
    let mut base = url[..Position::BeforePath].to_owned();
    if let Some(query) = url.query() {
        base = format!("{base}/?{query}");
    }
    let built = HttpBuilder::new()
        .with_url(base)
        .with_client_options(options(open))
        .with_http_connector(Shared(client))
        .build();
    let path = Path::from_url_path(url.path()).map_err(|error| error.to_string())?;
    let store = Arc::new(built.map_err(|error| error.to_string())?);
    Ok((Arc::new(Patient::new(store, Patience::with_retrying_store())), path))
}
