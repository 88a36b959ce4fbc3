//! Access tokens for Vertex AI, made from a service account's key file.
//!
//! The key signs a short-lived assertion (RFC 7523), which Google's token endpoint exchanges for a token of an hour
//! (<https://developers.google.com/identity/protocols/oauth2/service-account#httprest>). Tokens are kept until shortly before
//! they expire; requests that come meanwhile wait for the one exchange under way. The file names its endpoint itself, so only
//! Google's own hosts are believed: a forged file must not carry an assertion elsewhere.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::fault::{Code, Fault, Origin};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use reqwest::{
    Method, Request, StatusCode, Url,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue},
};
use serde::Deserialize;
use service_runtime::{
    Clock,
    secret::{ExposeSecret, SecretString},
};
use tokio::time::Instant;

use super::error::Words;
use crate::{
    credential::Key,
    provider::{Failure, http::Transport, refusal::scrub},
};

mod key_file;
pub(crate) use key_file::KeyFile;

/// The whole exchange; the endpoint answers within a second.
const EXCHANGE: Duration = Duration::from_secs(10);
/// A token is replaced this long before it expires, so that none expires on its way.
const MARGIN: Duration = Duration::from_secs(120);
/// A token that is refused although it is older than this was revoked: another is worth a try.
const REVOKED_AFTER: Duration = Duration::from_secs(60);
/// Key files whose tokens are kept: as many as a provider may have, and some that were replaced.
const ACCOUNTS_MAX: usize = 80;
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A token that was granted.
struct Token {
    text: SecretString,
    header: HeaderValue,
    granted_at: Instant,
    replace_at: Instant,
}

type Exchange = BoxFuture<'static, Result<Arc<Token>, Failure>>;

/// One key file, and the token it gave.
struct Account {
    key: SecretString,
    token: Option<Arc<Token>>,
    /// Kept alive by those who wait for it.
    under_way: Option<WeakShared<Exchange>>,
}

/// Those in use, the one used last at the end.
#[derive(Default)]
struct State(Vec<Account>);

impl State {
    fn known(&mut self, key: &str) -> Option<&mut Account> {
        self.0.iter_mut().find(|account| account.key.expose_secret() == key)
    }

    /// The account of a key; the one that was not used for longest makes room.
    fn of(&mut self, key: &str) -> Option<&mut Account> {
        let at = self.0.iter().position(|account| account.key.expose_secret() == key);
        let account = match at {
            Some(at) => self.0.remove(at),
            None => Account { key: SecretString::from(key), token: None, under_way: None },
        };
        if self.0.len() >= ACCOUNTS_MAX {
            self.0.remove(0);
        }
        self.0.push(account);
        self.0.last_mut()
    }
}

/// The tokens of one provider.
pub(crate) struct Tokens {
    provider: String,
    transport: Transport,
    clock: Clock,
    /// A token endpoint of one's own, beside Google's.
    own: Option<Url>,
    state: Mutex<State>,
}

impl Tokens {
    /// `own` is the base URL of a server of one's own, which may then grant tokens too.
    pub(crate) fn new(provider: String, transport: Transport, clock: Clock, own: Option<Url>) -> Self {
        Self { provider, transport, clock, own, state: Mutex::default() }
    }

    /// What to show for a key: a token made from a key file, or the key itself where it is a token already.
    ///
    /// # Errors
    /// The key file is none, or the endpoint refuses it or cannot be reached.
    pub(super) async fn header(&self, key: &Key) -> Result<HeaderValue, Failure> {
        if !KeyFile::is_one(key.expose()) {
            return Ok(key.bearer.clone());
        }
        let exchange = {
            let mut state = self.lock();
            let account = state.of(key.expose());
            let token = account.as_ref().and_then(|account| account.token.as_ref());
            if let Some(token) = token.filter(|token| Instant::now() < token.replace_at) {
                return Ok(token.header.clone());
            }
            match account.as_ref().and_then(|account| account.under_way.as_ref()?.upgrade()) {
                Some(exchange) => exchange,
                None => self.begin(account, key)?,
            }
        };
        let token = exchange.await?;
        let header = token.header.clone();
        if let Some(account) = self.lock().known(key.expose()) {
            account.token = Some(token);
            account.under_way = None;
        }
        Ok(header)
    }

    /// The token of a key in use, for removing it from a provider's texts.
    pub(super) fn shown(&self, key: &str) -> Option<SecretString> {
        self.lock().known(key)?.token.as_ref().map(|token| token.text.clone())
    }

    /// The token of a key was refused. Whether another may fare better.
    pub(super) fn refused(&self, key: &str) -> bool {
        let token = self.lock().known(key).and_then(|account| account.token.take());
        token.is_some_and(|token| token.granted_at.elapsed() > REVOKED_AFTER)
    }

    fn begin(&self, account: Option<&mut Account>, key: &Key) -> Result<Shared<Exchange>, Failure> {
        let assertion = KeyFile::parse(key.expose(), self.own.as_ref())
            .and_then(|file| Ok((file.assertion(self.clock.now_unix_ms() / 1_000)?, file)));
        let (assertion, file) = assertion.map_err(|problem| {
            let message = format!("{} has no usable key file: {problem}", self.provider);
            Failure::permanent(Fault::new(Code::UpstreamAuth, Origin::Provider, true, message))
        })?;
        let mut request = Request::new(Method::POST, file.token_url().clone());
        request.headers_mut().insert(CONTENT_TYPE, FORM);
        request.headers_mut().insert(ACCEPT, JSON);
        // the assertion consists of letters, digits, `-`, `_` and `.`: nothing in it needs escaping
        let form =
            format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}");
        *request.body_mut() = Some(form.into());
        let exchange = exchange(self.provider.clone(), self.transport.clone(), request).boxed().shared();
        if let Some(account) = account {
            account.under_way = exchange.downgrade();
        }
        Ok(exchange)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn exchange(provider: String, transport: Transport, request: Request) -> Result<Arc<Token>, Failure> {
    let answered = async {
        let response = transport.send(request).await?;
        Ok((response.status(), transport.explanation(response).await))
    };
    let (status, body) = tokio::time::timeout(EXCHANGE, answered).await.unwrap_or_else(|_| {
        let message = format!("{provider} granted no token within {} ms", EXCHANGE.as_millis());
        let fault = Fault::new(Code::Timeout, Origin::Provider, true, message);
        Err(Failure { fault, transient: true })
    })?;
    if !status.is_success() {
        return Err(not_granted(&provider, status, &body));
    }
    granted(&body).map(Arc::new).ok_or_else(|| {
        let message = format!("{provider} was granted something that is no token, expected access_token");
        Failure::permanent(Fault::new(Code::Upstream, Origin::Provider, true, message))
    })
}

fn granted(body: &[u8]) -> Option<Token> {
    #[derive(Deserialize)]
    struct Granted {
        access_token: String,
        /// Seconds.
        expires_in: u64,
    }
    let Granted { access_token, expires_in } = serde_json::from_slice(body).ok()?;
    let mut header = HeaderValue::from_str(&format!("Bearer {access_token}")).ok()?;
    header.set_sensitive(true);
    let granted_at = Instant::now();
    let lasts = Duration::from_secs(expires_in.min(24 * 60 * 60));
    Some(Token {
        text: SecretString::from(access_token),
        header,
        granted_at,
        replace_at: granted_at + lasts.saturating_sub(MARGIN),
    })
}

/// The endpoint's refusal: of the key, unless it is out of order itself.
fn not_granted(provider: &str, status: StatusCode, body: &[u8]) -> Failure {
    let text = scrub(Words::of_body(body).message(), None);
    let out_of_order = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    let (code, transient) =
        if out_of_order { (Code::Unavailable, true) } else { (Code::UpstreamAuth, false) };
    let message = format!("{provider} was granted no token: {} {text}", status.as_u16());
    let mut fault = Fault::new(code, Origin::Provider, true, message);
    fault.provider_code = status.as_u16().to_string();
    Failure { fault, transient }
}
