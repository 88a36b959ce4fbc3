//! Azure's addresses, and how its key is shown.
//!
//! ```text
//! v1 API      {resource}/openai/v1/chat/completions                                     deployment in the body
//! dated API   {resource}/openai/deployments/{deployment}/chat/completions?api-version=  deployment in the path
//! models API  {resource}/models/chat/completions?api-version=                           model in the body
//! ```

use domain::fault::Fault;
use futures::{FutureExt, future::BoxFuture};
use reqwest::{
    Url,
    header::{AUTHORIZATION, HeaderName, HeaderValue},
};

use crate::{
    config::Invalid,
    credential::Key,
    provider::{
        Call, Dialect, Failure, Prepared, Reader, Refused,
        jobs::JobDialect,
        openai::{self, Flavor, encode::Endpoint, jobs::JobClient},
    },
    settings::AzureAuth,
};

const API_KEY: HeaderName = HeaderName::from_static("api-key");
/// The only version of the models API that chat and embeddings share.
const MODELS_VERSION: &str = "2024-05-01-preview";

/// Where a resource's endpoints are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// Up to the surface's own path.
    base: Url,
    surface: Surface,
    /// Value of `api-version`; none for the stable v1 API.
    version: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Surface {
    V1,
    Dated,
    Models,
}

impl Addresses {
    /// `version`: absent or `v1` for the v1 API, `preview` or `latest` for its previews, a date for the dated API.
    ///
    /// # Errors
    /// A version that is none, or that does not belong to the address.
    pub(crate) fn new(base_url: &Url, version: Option<&str>) -> Result<Self, Invalid> {
        let refused = |version: &str, expected: &str| {
            let start: String = version.chars().take(40).collect();
            Invalid::new("azure.api_version", format!("is {start:?}, expected {expected}"))
        };
        let mut base = base_url.clone();
        let path = base_url.path().trim_end_matches('/');
        let root = ["/openai/v1", "/openai", "/models"].into_iter().find_map(|end| path.strip_suffix(end));
        base.set_path(root.unwrap_or(path));
        if path.ends_with("/models") {
            let version = version.unwrap_or(MODELS_VERSION);
            if !is_dated(version) {
                return Err(refused(
                    version,
                    "a date such as `2024-05-01-preview` for an address with /models",
                ));
            }
            return Ok(Self { base, surface: Surface::Models, version: Some(version.to_owned()) });
        }
        match version {
            None | Some("v1") => Ok(Self { base, surface: Surface::V1, version: None }),
            Some(moving @ ("preview" | "latest")) => {
                Ok(Self { base, surface: Surface::V1, version: Some(moving.to_owned()) })
            }
            Some(dated) if is_dated(dated) && !path.ends_with("/v1") => {
                Ok(Self { base, surface: Surface::Dated, version: Some(dated.to_owned()) })
            }
            Some(dated) if is_dated(dated) => {
                Err(refused(dated, "none, since the address is that of the v1 API"))
            }
            Some(other) => Err(refused(
                other,
                "a date such as `2024-10-21`, `v1` or `preview`, or nothing for the v1 API",
            )),
        }
    }

    /// The address of one endpoint for one deployment.
    pub(crate) fn of(&self, endpoint: Endpoint, deployment: &str) -> Url {
        let mut url = self.base.clone();
        // an address with a host always has a path; otherwise the base stands, and the server says what is wrong
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty();
            match (self.surface, endpoint) {
                (Surface::V1, _) => path.extend(["openai", "v1"]),
                (Surface::Models, _) => path.push("models"),
                // this one takes the deployment in the body also here
                (Surface::Dated, Endpoint::Responses) => path.push("openai"),
                (Surface::Dated, _) => path.extend(["openai", "deployments", deployment]),
            };
            path.extend(endpoint.path().split('/'));
        }
        if let Some(version) = &self.version {
            url.query_pairs_mut().append_pair("api-version", version);
        }
        url
    }

    /// Where files, batches and trainings are; the models API has none of its own.
    pub(super) fn jobs(&self) -> Option<JobClient> {
        let (path, prefix): (&[&str], _) = match self.surface {
            Surface::V1 => (&["openai", "v1"], "/v1"),
            // this one's batches name endpoints without a version
            Surface::Dated => (&["openai"], ""),
            Surface::Models => return None,
        };
        let mut base = self.base.clone();
        if let Ok(mut segments) = base.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if let Some(version) = &self.version {
            base.query_pairs_mut().append_pair("api-version", version);
        }
        Some(JobClient::new(&base, prefix))
    }
}

/// `2024-10-21` or `2024-10-21-preview`.
fn is_dated(version: &str) -> bool {
    let date = version.strip_suffix("-preview").unwrap_or(version);
    date.len() == 10
        && date.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

/// One configured resource.
pub(crate) struct Azure {
    name: String,
    addresses: Addresses,
    auth: AzureAuth,
    jobs: Option<JobClient>,
}

impl Azure {
    pub(crate) fn new(name: String, addresses: Addresses, auth: AzureAuth) -> Self {
        let jobs = addresses.jobs();
        Self { name, addresses, auth, jobs }
    }
}

impl Dialect for Azure {
    fn prepare(&self, call: Call<'_>) -> Result<(Prepared, Box<dyn Reader>), Fault> {
        let address = |endpoint| self.addresses.of(endpoint, &call.target.upstream_model);
        openai::client::prepare(&self.name, Flavor::Azure, call, address)
    }

    fn authorize<'a>(
        &'a self,
        request: &'a mut reqwest::Request,
        key: Option<&'a Key>,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        let shown = match (key, self.auth) {
            (None, _) => Ok(()),
            (Some(key), AzureAuth::Bearer) => {
                request.headers_mut().insert(AUTHORIZATION, key.bearer.clone());
                Ok(())
            }
            (Some(key), AzureAuth::Key) => match HeaderValue::from_str(key.expose()) {
                Ok(mut value) => {
                    value.set_sensitive(true);
                    request.headers_mut().insert(API_KEY, value);
                    Ok(())
                }
                Err(_) => {
                    let message = format!("{}: the key holds characters that no header can carry", self.name);
                    Err(Failure::permanent(Fault::internal(message)))
                }
            },
        };
        futures::future::ready(shown).boxed()
    }

    fn refusal(&self, provider: &str, refused: Refused<'_>, key: Option<&str>) -> Failure {
        openai::client::refusal(provider, refused, key)
    }

    fn jobs(&self) -> Result<&dyn JobDialect, &'static str> {
        let why = "an address with /models has no batches and no fine-tuning, expected the resource's own";
        self.jobs.as_ref().map(|jobs| jobs as &dyn JobDialect).ok_or(why)
    }
}
