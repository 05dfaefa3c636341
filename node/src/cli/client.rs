//! The HTTP side of the command line: one node's `/api/v1`, its errors as exit codes.

use super::{
    exit::{Exit, Failed, Outcome},
    output::plain,
};
use reqwest::{Method, Response, StatusCode, Url};
use serde_json::Value;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For everything but event streams.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// An answer that is longer is not one of ours.
const MAX_ANSWER_BYTES: usize = 128 << 20;

/// One node, by URL.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    key: Option<String>,
}

impl Client {
    /// # Errors
    /// When the URL is not one of an HTTP server.
    pub(crate) fn new(url: &str, key: Option<String>) -> Outcome<Self> {
        let wrong = || {
            Failed::usage(format!(
                "--node {url}: a node is named by http://HOST:PORT, or by a multiaddr such as /ip4/127.0.0.1/tcp/8422/p2p/<peer id>"
            ))
        };
        let mut base = Url::parse(url).map_err(|_| wrong())?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(wrong());
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("archipelag/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|e| Failed::network(e.to_string()))?;
        Ok(Self { http, base, key })
    }

    pub(crate) fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    fn request(&self, method: Method, path: &str) -> Outcome<reqwest::RequestBuilder> {
        let url = self.base.join(path).map_err(|e| Failed::usage(format!("{path}: {e}")))?;
        let request = self.http.request(method, url);
        Ok(match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        })
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Outcome<Value> {
        let response = request.timeout(REQUEST_TIMEOUT).send().await;
        let mut response = self.accepted(response).await?;
        let bytes = read(&mut response).await.map_err(|e| self.unreachable(&e))?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes)
            .map_err(|e| Failed::network(format!("{}: the answer is not JSON: {e}", self.url())))
    }

    pub(crate) async fn get(&self, path: &str) -> Outcome<Value> {
        self.answer(self.request(Method::GET, path)?).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Outcome<Value> {
        self.answer(self.request(Method::DELETE, path)?).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Outcome<Value> {
        self.answer(self.request(Method::POST, path)?.json(body)).await
    }

    /// Opens a job's event stream after the event `last`.
    pub(crate) async fn events(&self, job: &str, last: Option<&str>) -> Outcome<Response> {
        let mut request = self.request(Method::GET, &format!("api/v1/jobs/{job}/stream"))?;
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        self.accepted(request.send().await).await
    }

    async fn accepted(&self, response: reqwest::Result<Response>) -> Outcome<Response> {
        let mut response = response.map_err(|e| self.unreachable(&e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = read(&mut response).await.unwrap_or_default();
        Err(refusal(self.url(), status, &serde_json::from_slice(&bytes).unwrap_or_default()))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failed {
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(deeper) = source {
            reason = deeper.to_string();
            source = deeper.source();
        }
        let url = self.url();
        let next = "is a node running there? `archipelag up` starts one";
        Failed::network(format!("{url} can't be reached: {reason}; {next}"))
    }
}

/// The `data` field of an answer.
pub(crate) fn data(mut answer: Value) -> Value {
    answer.get_mut("data").map(Value::take).unwrap_or(answer)
}

async fn read(response: &mut Response) -> reqwest::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_ANSWER_BYTES {
            bytes.clear();
            break;
        }
    }
    Ok(bytes)
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

/// An error answer as an exit code and a message that says what to do next.
fn refusal(url: &str, status: StatusCode, answer: &Value) -> Failed {
    let error = &answer["error"];
    let text = |field: &str| error[field].as_str().map(plain);
    let message = text("message").unwrap_or_else(|| format!("{url} answered {status}"));
    let message = match error["errors"].as_object() {
        Some(fields) => {
            let fields = fields.iter().map(|(field, messages)| {
                format!("\n  {}: {}", plain(field), plain(&joined(messages)))
            });
            format!("{message}{}", fields.collect::<String>())
        }
        None => message,
    };
    let (exit, next) = match status {
        StatusCode::UNAUTHORIZED => {
            (Exit::Refused, "; pass that node's key with --key, or its home with --home")
        }
        StatusCode::PAYMENT_REQUIRED => {
            (Exit::Refused, "; `archipelag account show` says what there is")
        }
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            (Exit::Usage, "")
        }
        StatusCode::SERVICE_UNAVAILABLE => (unavailable(error), ""),
        status if status.is_client_error() => (Exit::Refused, ""),
        _ => (Exit::Network, ""),
    };
    Failed::new(exit, format!("{message}{next}"))
}

/// 503 is "no Island" unless the answer says that something else can't be reached.
fn unavailable(error: &Value) -> Exit {
    let kind = ["code", "type"].iter().find_map(|field| error[*field].as_str()).unwrap_or("");
    let island = kind.contains("island") || error.get("excluded").is_some();
    if island { Exit::NoIsland } else { Exit::Network }
}

fn joined(messages: &Value) -> String {
    match messages {
        Value::Array(list) => {
            list.iter().map(|m| m.as_str().unwrap_or_default()).collect::<Vec<_>>().join("; ")
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_refusal_has_its_exit_code() {
        let of = |status: u16, answer: &Value| {
            refusal("http://x", StatusCode::from_u16(status).unwrap(), answer).exit
        };
        let plain = json!({ "error": { "type": "t", "message": "m" } });
        for (status, exit) in [
            (400, Exit::Usage),
            (401, Exit::Refused),
            (402, Exit::Refused),
            (403, Exit::Refused),
            (404, Exit::Usage),
            (413, Exit::Refused),
            (422, Exit::Refused),
            (429, Exit::Refused),
            (500, Exit::Network),
            (503, Exit::Network),
        ] {
            assert_eq!(of(status, &plain), exit, "{status}");
        }
        let none = json!({ "error": { "type": "no_island", "message": "m" } });
        assert_eq!(of(503, &none), Exit::NoIsland);
    }

    #[test]
    fn schema_errors_are_listed_by_field() {
        let answer = json!({ "error": { "message": "bad input", "errors": { "text": ["too\u{1b} long"] } } });
        let failed = refusal("http://x", StatusCode::UNPROCESSABLE_ENTITY, &answer);
        assert_eq!(failed.message, "bad input\n  text: too  long");
    }

    #[test]
    fn only_http_urls_are_nodes() {
        assert!(Client::new("ftp://x", None).is_err());
        assert!(Client::new("http:", None).is_err());
        assert!(is_loopback(&Url::parse("http://[::1]:1").unwrap()));
        assert!(!is_loopback(&Url::parse("http://example.org").unwrap()));
    }
}
