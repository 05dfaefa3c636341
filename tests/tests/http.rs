//! The HTTP contract (`API.md`): fields, status codes, errors, streams, keys, limits.

use anyhow::{Context as _, ensure};
use archipelag_tests::{DEADLINE, Node, text};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use std::{io::Write as _, net::TcpStream};

struct Api {
    client: Client,
    base: String,
    key: String,
}

impl Api {
    fn new(node: &Node) -> anyhow::Result<Self> {
        let client = Client::builder().timeout(DEADLINE).build()?;
        Ok(Self { client, base: node.http.clone(), key: node.key.clone() })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.key)
    }

    /// The status and the JSON of an answer; every refusal has the envelope.
    async fn answer(&self, request: RequestBuilder) -> anyhow::Result<(u16, Value)> {
        let response = request.send().await?;
        let status = response.status().as_u16();
        let body = response.text().await?;
        let answer: Value =
            serde_json::from_str(&body).with_context(|| format!("{status}: {body}"))?;
        if status >= 400 {
            for field in ["type", "message"] {
                ensure!(answer["error"][field].is_string(), "{status}: {answer}");
            }
        }
        Ok((status, answer))
    }

    async fn get(&self, path: &str) -> anyhow::Result<(u16, Value)> {
        self.answer(self.request(Method::GET, path)).await
    }

    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        self.answer(self.request(Method::POST, path).json(body)).await
    }

    async fn expect(
        &self,
        path: &str,
        body: &Value,
        status: u16,
        says: &str,
    ) -> anyhow::Result<Value> {
        let (found, answer) = self.post(path, body).await?;
        ensure!(found == status, "{body}: {found} {answer}");
        ensure!(answer.to_string().contains(says), "{body}: {answer} does not say {says}");
        Ok(answer)
    }
}

fn has(value: &Value, fields: &[&str]) -> anyhow::Result<()> {
    for field in fields {
        ensure!(value.get(field).is_some(), "no `{field}` in {value}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Node::up(&folder.path().join("node"), None, &[])?;
    let api = Api::new(&node)?;
    what_is_shown(&node, &api).await?;
    jobs_and_streams(&node, &api).await?;
    bad_requests(&api).await?;
    keys(&api).await?;
    probes(&api).await?;
    broken_clients(&node).await?;
    assert_eq!(api.get("/api/v1/health").await?.0, 200, "it is still there");
    Ok(())
}

async fn what_is_shown(node: &Node, api: &Api) -> anyhow::Result<()> {
    let health = api.client.get(format!("{}/api/v1/health", api.base)).send().await?;
    let health: Value = health.json().await?;
    assert_eq!(health["status"], "ok");
    let (_, account) = api.get("/api/v1/account").await?;
    has(&account["data"], &["id", "email", "credits", "created_at"])?;
    assert_eq!(account["data"]["id"], node.account("consumer")?["account"]);
    let (_, workloads) = api.get("/api/v1/workloads").await?;
    let workloads = workloads["data"].as_array().context("a list")?.clone();
    assert_eq!(workloads.len(), 5);
    for workload in &workloads {
        let fields = [
            "id",
            "name",
            "slug",
            "description",
            "runtime_type",
            "required_vram_mb",
            "required_ram_mb",
            "price_per_job",
            "price_per_token",
            "price_per_second",
            "is_enabled",
            "trust_level",
        ];
        has(workload, &fields)?;
        ensure!(workload["id"].is_u64() && workload["price_per_job"].is_number(), "{workload}");
    }
    let (_, one) = api.get("/api/v1/workloads/text-stats").await?;
    assert_eq!(one["data"]["slug"], "text-stats");
    let (_, hosts) = api.get("/api/v1/hosts").await?;
    let host = &hosts["data"][0];
    has(
        host,
        &["id", "name", "status", "region", "capabilities", "karma_score", "last_heartbeat_at"],
    )?;
    let id = host["id"].as_str().context("an id")?;
    assert_eq!(api.get(&format!("/api/v1/hosts/{id}")).await?.1["data"]["id"], id);
    let (_, karma) = api.get(&format!("/api/v1/hosts/{id}/karma")).await?;
    ensure!(karma["data"]["karma_score"].is_number(), "{karma}");
    for missing in ["/api/v1/workloads/nothing", "/api/v1/hosts/00", "/api/v1/jobs/00", "/api/v1/x"]
    {
        assert_eq!(api.get(missing).await?.0, 404, "{missing}");
    }
    assert_eq!(api.post("/api/v1/account", &json!({})).await?.0, 405);
    Ok(())
}

async fn jobs_and_streams(node: &Node, api: &Api) -> anyhow::Result<()> {
    let wanted = json!({ "workload": "text-stats", "priority": 5,
        "input": { "text": "to be or not to be", "stream": true }, "bid_price": 0.02 });
    let request = || api.request(Method::POST, "/api/v1/jobs").header("idempotency-key", "k1");
    let (status, first) = api.answer(request().json(&wanted)).await?;
    assert_eq!(status, 201, "{first}");
    let (status, again) = api.answer(request().json(&wanted)).await?;
    assert_eq!((status, &again["data"]["id"]), (200, &first["data"]["id"]));
    let other = json!({ "workload": "text-stats", "input": { "text": "other" } });
    assert_eq!(api.answer(request().json(&other)).await?.0, 409);
    let job = node.ended(&first["data"]).await?;
    let fields = [
        "id",
        "workload_id",
        "workload_slug",
        "status",
        "input",
        "output",
        "error",
        "created_at",
        "started_at",
        "completed_at",
        "duration_ms",
        "usage",
    ];
    has(&job, &fields)?;
    has(&job["usage"], &["prompt_tokens", "completion_tokens", "total_tokens", "credits_used"])?;
    assert_eq!(
        (&job["status"], &job["output"]),
        (&json!("completed"), &json!("to be or not to be"))
    );
    assert_eq!(job["input"], wanted["input"]);

    // A late reader gets everything from the start; one that comes back gets what it missed.
    let id = job["id"].as_str().context("an id")?;
    let stream = |last: Option<u64>| {
        let request = api.request(Method::GET, &format!("/api/v1/jobs/{id}/stream"));
        last.map_or_else(
            || request.try_clone().expect("no body"),
            |last| request.try_clone().expect("no body").header("last-event-id", last),
        )
    };
    let all = stream(None).send().await?.text().await?;
    let events: Vec<&str> = all.lines().filter(|line| line.starts_with("data:")).collect();
    ensure!(events.len() > 7, "{all}");
    ensure!(
        events[0].contains("running") && events.last().is_some_and(|e| e.contains(r#""done""#)),
        "{all}"
    );
    let rest = stream(Some(2)).send().await?.text().await?;
    ensure!(all.ends_with(&rest) && rest.contains("id: 3") && !rest.contains("id: 2\n"), "{rest}");
    assert_eq!(stream(Some(u64::MAX)).send().await?.status(), 400);
    let (_, output) = api.get(&format!("/api/v1/jobs/{id}/output")).await?;
    assert_eq!(output["data"]["output"], "to be or not to be");
    let ended = api.answer(api.request(Method::DELETE, &format!("/api/v1/jobs/{id}"))).await?;
    assert_eq!(ended.0, 409, "{}", ended.1);

    let long = json!({ "text": "row row row your boat", "stream": true, "repeat": 100_000 });
    let long = node.submit(&json!({ "workload": "text-stats", "input": long })).await?;
    let path = format!("/api/v1/jobs/{}", long["id"].as_str().context("an id")?);
    let (status, cancelled) = api.answer(api.request(Method::DELETE, &path)).await?;
    assert_eq!((status, &cancelled["data"]["status"]), (200, &json!("cancelled")), "{cancelled}");

    let (_, list) = api.get("/api/v1/jobs?limit=1&offset=1").await?;
    assert_eq!(list["data"][0]["id"], job["id"], "newest first");
    assert_eq!(list["meta"], json!({ "total": 2, "limit": 1, "offset": 1 }));
    for bad in ["limit=0", "limit=101", "limit=x", "offset=-1"] {
        assert_eq!(api.get(&format!("/api/v1/jobs?{bad}")).await?.0, 400, "{bad}");
    }
    Ok(())
}

async fn bad_requests(api: &Api) -> anyhow::Result<()> {
    let good = json!({ "text": "x" });
    let job = |extra: Value| {
        let mut job = json!({ "workload": "text-stats", "input": good });
        for (key, value) in extra.as_object().into_iter().flatten() {
            job[key] = value.clone();
        }
        job
    };
    let path = "/api/v1/jobs";
    api.expect(path, &json!({ "input": good }), 400, "workload").await?;
    api.expect(path, &json!([]), 400, "body").await?;
    api.expect(path, &job(json!({ "workload": "../x" })), 400, "workload").await?;
    api.expect(path, &job(json!({ "workload": "nothing" })), 404, "nothing").await?;
    api.expect(path, &job(json!({ "colour": 1 })), 400, "colour").await?;
    api.expect(path, &job(json!({ "version": "x" })), 400, "version").await?;
    api.expect(path, &job(json!({ "region": "" })), 400, "regions").await?;
    api.expect(path, &job(json!({ "bid_price": -1 })), 400, "bid_price").await?;
    api.expect(path, &job(json!({ "bid_price": 1, "bid_percent": 1 })), 400, "bid_price").await?;
    let none = api.expect(path, &job(json!({ "bid_price": 0.001 })), 503, "no_island").await?;
    ensure!(none["error"]["excluded"][0]["reason"].is_string(), "{none}");
    let schema = api.expect(path, &job(json!({ "input": { "text": 5 } })), 422, "/text").await?;
    ensure!(schema["error"]["errors"]["/text"][0].is_string(), "{schema}");
    api.expect(path, &job(json!({ "input": [] })), 422, "object").await?;
    let huge = job(json!({ "input": { "text": "x".repeat(9 << 20) } }));
    api.expect(path, &huge, 413, "limit").await?;
    let endless = job(json!({ "input": { "text": "x".repeat(20 << 20) } }));
    api.expect(path, &endless, 413, "").await?;
    let raw = |body: String, kind: &'static str| {
        api.answer(api.request(Method::POST, path).header("content-type", kind).body(body))
    };
    assert_eq!(raw("{".into(), "application/json").await?.0, 400);
    assert_eq!(raw("[".repeat(100_000), "application/json").await?.0, 400);
    assert_eq!(raw("\u{feff}{}".into(), "application/json").await?.0, 400);
    assert_eq!(raw("{}".into(), "text/plain").await?.0, 415);
    let long_key = api.request(Method::POST, path).header("idempotency-key", "x".repeat(256));
    assert_eq!(api.answer(long_key.json(&job(json!({})))).await?.0, 400);
    let publication = json!({ "manifest": {}, "module": "!" });
    assert_eq!(api.post("/api/v1/node/cargos", &publication).await?.0, 400);
    Ok(())
}

async fn keys(api: &Api) -> anyhow::Result<()> {
    let path = "/api/v1/api-keys";
    let (status, made) = api.post(path, &json!({ "name": "reader", "scopes": ["read"] })).await?;
    assert_eq!(status, 201, "{made}");
    has(&made["data"], &["id", "name", "prefix", "created_at", "last_used_at", "expires_at"])?;
    let key = made["key"].as_str().context("a key")?.to_owned();
    ensure!(
        key.starts_with("ak_") && key.starts_with(made["data"]["prefix"].as_str().unwrap_or("-"))
    );
    let (_, list) = api.get(path).await?;
    ensure!(!list.to_string().contains(&key), "a list shows a secret");
    let reader = Api { client: api.client.clone(), base: api.base.clone(), key };
    assert_eq!(reader.get("/api/v1/jobs").await?.0, 200);
    let job = json!({ "workload": "text-stats", "input": { "text": "x" } });
    assert_eq!(reader.post("/api/v1/jobs", &job).await?.0, 403);
    assert_eq!(reader.post("/api/v1/node/cargos", &json!({})).await?.0, 403);
    let id = made["data"]["id"].as_str().context("an id")?;
    let revoke = |id: &str| api.request(Method::DELETE, &format!("{path}/{id}"));
    assert_eq!(api.answer(revoke(id)).await?.0, 200);
    assert_eq!(reader.get("/api/v1/jobs").await?.0, 401, "revoked at once");
    assert_eq!(api.answer(revoke(id)).await?.0, 404);
    assert_eq!(api.answer(revoke("own")).await?.0, 409);
    for (bad, says) in [
        (json!({ "name": "" }), "name"),
        (json!({ "name": "x", "scopes": [] }), "scopes"),
        (json!({ "name": "x", "scopes": ["root"] }), "root"),
        (json!({ "name": "x", "expires_at": "2001-01-01T00:00:00Z" }), "expires_at"),
        (json!({ "name": "x", "expires_at": "soon" }), "RFC 3339"),
    ] {
        api.expect(path, &bad, 400, says).await?;
    }
    let bare = api.client.get(format!("{}/api/v1/jobs", api.base)).send().await?;
    assert_eq!(bare.status(), 401);
    assert_eq!(bare.headers()["www-authenticate"], "Bearer");
    Ok(())
}

async fn probes(api: &Api) -> anyhow::Result<()> {
    let get = async |path: &str| {
        let response = api.client.get(format!("{}{path}", api.base)).send().await?;
        anyhow::Ok((response.status().as_u16(), response.text().await?))
    };
    assert_eq!(get("/livez").await?, (200, "ok\n".into()));
    assert_eq!(get("/readyz").await?, (200, "ok\n".into()));
    let (status, checks) = get("/healthz?verbose").await?;
    ensure!(status == 200 && checks.contains("[+] ledger ok"), "{checks}");
    let (_, metrics) = get("/metrics").await?;
    for name in [
        "archipelag_node_islands 1",
        "archipelag_jobs_finished_total{status=\"completed\"} 1",
        "archipelag_island_completed_total",
        "archipelag_coordinator_height",
        "archipelag_mesh_adverts_accepted_total",
        "# EOF",
    ] {
        ensure!(metrics.contains(name), "no {name} in\n{metrics}");
    }
    Ok(())
}

/// Clients that send half of something and go, or nothing and stay.
async fn broken_clients(node: &Node) -> anyhow::Result<()> {
    let address = node.http.trim_start_matches("http://").to_owned();
    let key = node.key.clone();
    let halves = tokio::task::spawn_blocking(move || {
        let mut kept = Vec::new();
        for number in 0..100 {
            let mut stream = TcpStream::connect(&address)?;
            let head = format!("POST /api/v1/jobs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{{\"work");
            let sent = match number % 4 {
                0 => &head.as_bytes()[..20],
                1 => head.as_bytes(),
                2 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                _ => b"",
            };
            stream.write_all(sent)?;
            if number % 2 == 0 {
                kept.push(stream);
            }
        }
        std::io::Result::Ok(kept)
    })
    .await??;
    let health = reqwest::get(format!("{}/api/v1/health", node.http)).await?;
    assert_eq!(health.status(), 200, "{} half-open connections", halves.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_asks_too_often_is_told_when_to_come_back() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let home = folder.path().join("node");
    std::fs::create_dir(&home)?;
    std::fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    std::fs::write(home.join("config.toml"), "name = \"strict\"\n")?;
    let node = Node::up(&home, None, &[])?;
    let api = Api::new(&node)?;
    let mut refused = None;
    for _ in 0..110 {
        let response = api.request(Method::GET, "/api/v1/account").send().await?;
        if response.status() == 429 {
            refused = Some(response);
            break;
        }
        assert_eq!(response.status(), 200);
    }
    let refused = refused.context("110 requests in a row were taken")?;
    let seconds: u64 = refused.headers()["retry-after"].to_str()?.parse()?;
    ensure!((1..=60).contains(&seconds), "{seconds}");
    let output = node.cli(&["jobs", "list"])?;
    ensure!(output.status.code() == Some(3), "{}", text(&output.stderr));
    Ok(())
}
