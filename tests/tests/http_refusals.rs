//! What the HTTP surface refuses before a handler sees it: every answer has the envelope of
//! `API.md`, and a key that counts no more ends what was opened with it.

use anyhow::{Context as _, ensure};
use archipelag_tests::{DEADLINE, Node};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::time::timeout;

struct Api<'a> {
    client: Client,
    node: &'a Node,
}

impl Api<'_> {
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.node.http)).bearer_auth(&self.node.key)
    }

    /// The error of an answer that must have `status`.
    async fn refused(&self, request: RequestBuilder, status: u16) -> anyhow::Result<Value> {
        let response = request.send().await?;
        let (found, url) = (response.status(), response.url().clone());
        let kind = response.headers().get("content-type").cloned();
        let body = response.text().await?;
        ensure!(found == status, "{url}: {found}: {body}");
        ensure!(kind.is_some_and(|kind| kind == "application/json"), "{url}: {body}");
        let mut answer: Value = serde_json::from_str(&body).context(body)?;
        let error = answer["error"].take();
        ensure!(error["type"].is_string() && error["message"].is_string(), "{url}: {error}");
        Ok(error)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_the_envelope_and_name_the_field() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Node::up(&folder.path().join("node"), None, &[])?;
    let api = Api { client: Client::builder().timeout(DEADLINE).build()?, node: &node };
    let cases = [
        (Method::GET, "/api/v1/jobs/%ff", 400),
        (Method::DELETE, "/api/v1/jobs/%c3%28", 400),
        (Method::GET, "/api/v1/jobs/%ff/stream", 400),
        (Method::GET, "/api/v1/jobs/%ff/output", 400),
        (Method::GET, "/api/v1/workloads/%80", 400),
        (Method::GET, "/api/v1/hosts/%80/karma", 400),
        (Method::DELETE, "/api/v1/api-keys/%80", 400),
        (Method::GET, "/api/v1/jobs/%zz", 404),
        (Method::GET, "/api/v1/jobs/", 404),
        (Method::GET, "/api/v1/nothing", 404),
        (Method::GET, "/api/v1", 404),
        (Method::GET, "/%ff", 404),
        (Method::PUT, "/api/v1/jobs", 405),
        (Method::POST, "/api/v1/jobs/00/stream", 405),
        (Method::DELETE, "/metrics", 405),
        (Method::GET, "/api/v1/jobs?limit=%ff", 400),
        (Method::GET, "/api/v1/jobs?limit", 400),
        (Method::GET, "/api/v1/jobs?limit=99999999999999999999999", 400),
        (Method::GET, "/api/v1/jobs?offset=1.5", 400),
        (Method::GET, "/api/v1/jobs?limit=5&limit=6", 400),
    ];
    for (method, path, status) in cases {
        let error = api.refused(api.request(method, path), status).await?;
        if let Some((_, query)) = path.split_once('?') {
            let name = query.split('=').next();
            assert_eq!(error["field"].as_str(), name, "{error}");
        }
    }

    let job = json!({ "workload": "text-stats", "input": { "text": "x" } });
    let post = || api.request(Method::POST, "/api/v1/jobs");
    let twice = post().header("idempotency-key", "a").header("idempotency-key", "b").json(&job);
    assert_eq!(api.refused(twice, 400).await?["field"], "Idempotency-Key");
    let two_keys = post().bearer_auth("ak_other").json(&job);
    assert_eq!(api.refused(two_keys, 400).await?["field"], "Authorization");
    let two_kinds = post().header("content-type", "text/plain").json(&job);
    let two_kinds = two_kinds.header("content-type", "application/json");
    assert_eq!(api.refused(two_kinds, 400).await?["field"], "Content-Type");
    let typed = json!({ "workload": "text-stats", "input": {}, "bid_percent": "much" });
    let error = api.refused(post().json(&typed), 400).await?;
    assert_eq!(error["field"], "bid_percent");
    ensure!(!error.to_string().contains("u16"), "{error}");
    let key = api.request(Method::POST, "/api/v1/api-keys").json(&json!({ "name": "a\u{202e}b" }));
    assert_eq!(api.refused(key, 400).await?["field"], "name");
    Ok(())
}

/// Reads until the answer ends.
async fn rest(mut response: Response) -> anyhow::Result<()> {
    while response.chunk().await?.is_some() {}
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_reads_no_further() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Node::up(&folder.path().join("node"), None, &[])?;
    let api = Api { client: Client::builder().timeout(DEADLINE).build()?, node: &node };
    let wanted = json!({ "name": "reader", "scopes": ["read"] });
    let (_, made) = node.http(Method::POST, "/api-keys", Some(wanted)).await?;
    let (key, id) = (made["key"].as_str(), made["data"]["id"].as_str());
    let (key, id) = (key.context("a key")?, id.context("an id")?);

    let input = json!({ "text": "row row row your boat", "stream": true, "repeat": 100_000 });
    let job = node.submit(&json!({ "workload": "text-stats", "input": input })).await?;
    let path = format!("/api/v1/jobs/{}", job["id"].as_str().context("an id")?);
    let open = async |key: &str| {
        let request = api.client.get(format!("{}{path}/stream", node.http)).bearer_auth(key);
        let mut response = request.send().await?.error_for_status()?;
        ensure!(response.chunk().await?.is_some(), "no event");
        anyhow::Ok(response)
    };
    let (revoked, mut kept) = (open(key).await?, open(&node.key).await?);
    let (status, _) = node.http(Method::DELETE, &format!("/api-keys/{id}"), None).await?;
    assert_eq!(status, 200);
    timeout(DEADLINE, rest(revoked)).await.context("it reads on")??;
    assert_eq!(node.shown(&job).await?["status"], "running", "the job ended before");
    ensure!(kept.chunk().await?.is_some(), "another key's stream goes on");
    let (status, _) = node.http(Method::DELETE, path.trim_start_matches("/api/v1"), None).await?;
    assert_eq!(status, 200);
    timeout(DEADLINE, rest(kept)).await.context("the job was cancelled")??;
    Ok(())
}
