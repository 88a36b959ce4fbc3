//! A provider that runs jobs: files, batches and fine-tuning in OpenAI's wire format, on a socket in the test's own process.
//!
//! A batch answers each of its requests with `echo: ` and the last user text (or a vector of three numbers), one token for
//! four bytes; a text that holds `refuse`, `expire` or `lose` gets an error, no time, or no line at all. A job moves one
//! state with each look at it.

mod answers;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use answers::{cancel, find, list, row};

/// What it does beside what a healthy provider does.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Answers to the next calls whose method and path begin so: status and `Retry-After`.
    pub failures: Vec<Failure>,
    /// A created job is not told: the connection hangs instead.
    pub swallow_creations: bool,
    /// Batches are refused by the validation.
    pub invalid: bool,
    /// Jobs do not end, whatever the number of looks.
    pub endless: bool,
    /// Between the pieces of a file that is fetched.
    pub piece_delay: Duration,
    /// Looks at a file until it has been read (Azure).
    pub reading: u32,
}

/// One call that fails.
#[derive(Debug, Clone)]
pub struct Failure {
    /// As in `POST /v1/batches`.
    pub call: String,
    /// HTTP status.
    pub status: u16,
    /// Whole seconds.
    pub retry_after: Option<u64>,
}

/// A call that came.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// As in `POST /v1/batches`.
    pub what: String,
    /// The body where it is JSON.
    pub body: Value,
}

/// A running provider; it ends with this value.
#[derive(Debug)]
pub struct JobUpstream {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct State {
    key: String,
    script: Script,
    calls: Vec<Call>,
    files: BTreeMap<String, Upload>,
    batches: Vec<Value>,
    trainings: Vec<Value>,
    next: u64,
}

#[derive(Debug, Clone)]
struct Upload {
    purpose: String,
    name: String,
    bytes: Bytes,
    looks: u32,
}

type Body = Either<Full<Bytes>, http_body_util::combinators::BoxBody<Bytes, Infallible>>;

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl JobUpstream {
    /// Starts one that wants `key`.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start(key: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State { key: key.to_owned(), ..State::default() }));
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&state);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                connections.spawn(async move {
                    let service = service_fn(move |request| handle(Arc::clone(&state), request));
                    let http = hyper::server::conn::http1::Builder::new();
                    // A caller that hangs up ends it.
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self { address, state, _tasks: tasks })
    }

    /// What a provider's `base_url` is set to.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Changes what it does from now on.
    pub fn play(&self, change: impl FnOnce(&mut Script)) {
        change(&mut lock(&self.state).script);
    }

    /// The calls so far that begin so, as in `POST /v1/batches`.
    #[must_use]
    pub fn calls(&self, what: &str) -> Vec<Call> {
        lock(&self.state).calls.iter().filter(|call| call.what.starts_with(what)).cloned().collect()
    }

    /// Names and contents of the files that were brought, in order.
    #[must_use]
    pub fn uploads(&self) -> Vec<(String, String)> {
        let state = lock(&self.state);
        let ours = state.files.values().filter(|file| file.purpose != "output");
        ours.map(|file| (file.name.clone(), String::from_utf8_lossy(&file.bytes).into_owned())).collect()
    }

    /// Batches that were created.
    #[must_use]
    pub fn batches(&self) -> usize {
        lock(&self.state).batches.len()
    }
}

async fn handle(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let path = head.uri.path().to_owned();
    let what = format!("{} {path}", head.method);
    let boundary = head.headers.get(CONTENT_TYPE).and_then(|kind| {
        Some(kind.to_str().ok()?.strip_prefix("multipart/form-data; boundary=")?.to_owned())
    });
    let (answer, swallow, delay) = {
        let mut state = lock(&state);
        state
            .calls
            .push(Call { what: what.clone(), body: serde_json::from_slice(&bytes).unwrap_or_default() });
        let expected = format!("Bearer {}", state.key);
        if head.headers.get(AUTHORIZATION).is_none_or(|shown| *shown != *expected) {
            return Ok(error(401, "invalid_api_key", "Incorrect API key provided.", None));
        }
        if let Some(at) = state.script.failures.iter().position(|failure| what.starts_with(&failure.call)) {
            let failure = state.script.failures.remove(at);
            return Ok(error(failure.status, "scripted", "The call was refused.", failure.retry_after));
        }
        let creates = head.method == Method::POST && matches!(&*path, "/v1/batches" | "/v1/fine_tuning/jobs");
        let answer = state.answer(&head.method, &path, boundary.as_deref(), &bytes);
        (answer, creates && state.script.swallow_creations, state.script.piece_delay)
    };
    if swallow {
        std::future::pending::<()>().await;
    }
    Ok(match answer {
        Ok(Answer::Json(value)) => whole(StatusCode::OK, &value),
        Ok(Answer::File(bytes)) => file(bytes, delay),
        Err((status, message)) => error(status, "invalid_request_error", &message, None),
    })
}

fn whole(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(value.to_string()))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn error(status: u16, code: &str, message: &str, retry_after: Option<u64>) -> Response<Body> {
    let value = json!({"error": {"message": message, "type": code, "code": code, "param": null}});
    let mut response = whole(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), &value);
    if let Some(seconds) = retry_after {
        response.headers_mut().insert("retry-after", HeaderValue::from(seconds));
    }
    response
}

/// A file in pieces, so that a caller can be caught in the middle of it.
fn file(bytes: Bytes, delay: Duration) -> Response<Body> {
    let pieces: Vec<Bytes> = bytes.chunks(4_096).map(Bytes::copy_from_slice).collect();
    let stream = futures::stream::unfold(pieces.into_iter(), move |mut pieces| async move {
        let piece = pieces.next()?;
        tokio::time::sleep(delay).await;
        Some((Ok(Frame::data(piece)), pieces))
    });
    Response::new(Either::Right(http_body_util::combinators::BoxBody::new(StreamBody::new(stream))))
}

enum Answer {
    Json(Value),
    File(Bytes),
}

type Outcome = Result<Answer, (u16, String)>;

impl State {
    fn answer(&mut self, method: &Method, path: &str, boundary: Option<&str>, bytes: &Bytes) -> Outcome {
        let unknown = || (404, format!("Invalid URL ({method} {path})"));
        let below: Vec<&str> = path.strip_prefix("/v1/").ok_or_else(unknown)?.split('/').collect();
        let body = || serde_json::from_slice::<Value>(bytes).map_err(|error| (400, error.to_string()));
        match (method.as_str(), below.as_slice()) {
            ("POST", ["files"]) => self.upload(boundary, bytes),
            ("GET", ["files", id]) => self.file(id),
            ("GET", ["files", id, "content"]) => {
                self.files.get(*id).map(|file| Answer::File(file.bytes.clone())).ok_or_else(unknown)
            }
            ("POST", ["batches"]) => self.new_batch(&body()?),
            ("GET", ["batches"]) => Ok(Answer::Json(list(&self.batches))),
            ("GET", ["batches", id]) => self.look_at_batch(id),
            ("POST", ["batches", id, "cancel"]) => cancel(&mut self.batches, id),
            ("POST", ["fine_tuning", "jobs"]) => self.new_training(&body()?),
            ("GET", ["fine_tuning", "jobs"]) => Ok(Answer::Json(list(&self.trainings))),
            ("GET", ["fine_tuning", "jobs", id]) => self.look_at_training(id),
            ("POST", ["fine_tuning", "jobs", id, "cancel"]) => cancel(&mut self.trainings, id),
            ("GET", ["fine_tuning", "jobs", id, "events"]) => {
                let status = &find(&mut self.trainings, id)?["status"];
                let event =
                    |at: u64, message: Value| json!({"created_at": at, "level": "info", "message": message});
                let data = [event(1_700_000_002, status.clone()), event(1_700_000_001, "Created job".into())];
                Ok(Answer::Json(json!({"object": "list", "data": data, "has_more": false})))
            }
            _ => Err(unknown()),
        }
    }

    fn id(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}-{:04}", self.next)
    }

    fn upload(&mut self, boundary: Option<&str>, bytes: &Bytes) -> Outcome {
        let boundary = boundary.ok_or((400, "expected multipart/form-data".to_owned()))?;
        let text = String::from_utf8_lossy(bytes);
        let (mut purpose, mut upload) = (String::new(), None);
        for part in text.split(&format!("--{boundary}")) {
            let Some((head, content)) = part.split_once("\r\n\r\n") else { continue };
            let content = content.strip_suffix("\r\n").unwrap_or(content);
            if head.contains("name=\"purpose\"") {
                purpose = content.to_owned();
            } else if head.contains("name=\"file\"") {
                let name = head.split("filename=\"").nth(1).and_then(|rest| rest.split('"').next());
                upload = Some((name.unwrap_or_default().to_owned(), Bytes::from(content.to_owned())));
            }
        }
        let (name, bytes) = upload.ok_or((400, "'file' is a required property".to_owned()))?;
        if !["batch", "fine-tune"].contains(&&*purpose) {
            return Err((400, format!("{purpose:?} is not one of the purposes")));
        }
        let id = self.id("file");
        let answer = json!({"id": id, "object": "file", "bytes": bytes.len(), "purpose": purpose, "status": "pending"});
        self.files.insert(id, Upload { purpose, name, bytes, looks: 0 });
        Ok(Answer::Json(answer))
    }

    fn file(&mut self, id: &str) -> Outcome {
        let reading = self.script.reading;
        let file = self.files.get_mut(id).ok_or((404, format!("No such File object: {id}")))?;
        file.looks += 1;
        let status = if file.looks > reading { "processed" } else { "pending" };
        Ok(Answer::Json(json!({"id": id, "object": "file", "status": status, "status_details": null})))
    }

    fn new_batch(&mut self, asked: &Value) -> Outcome {
        let input = asked["input_file_id"].as_str().unwrap_or_default();
        if self.files.get(input).is_none_or(|file| file.purpose != "batch") {
            return Err((400, format!("No such batch file: {input}")));
        }
        let id = self.id("batch");
        let batch = json!({
            "id": id, "object": "batch", "endpoint": asked["endpoint"], "errors": null, "input_file_id": input,
            "completion_window": asked["completion_window"], "status": "validating", "output_file_id": null,
            "error_file_id": null, "created_at": 1_700_000_000, "expires_at": 1_700_086_400,
            "request_counts": {"total": 0, "completed": 0, "failed": 0}, "metadata": asked["metadata"],
        });
        // Newest first, as they are listed.
        self.batches.insert(0, batch.clone());
        Ok(Answer::Json(batch))
    }

    fn look_at_batch(&mut self, id: &str) -> Outcome {
        let (invalid, endless) = (self.script.invalid, self.script.endless);
        let batch = find(&mut self.batches, id)?;
        let status = match batch["status"].as_str().unwrap_or_default() {
            "validating" if invalid => {
                let problem = json!({"code": "invalid_json_line", "message": "This line is not parseable as valid JSON.", "line": 1});
                batch["errors"] = json!({"object": "list", "data": [problem]});
                "failed"
            }
            "validating" => "in_progress",
            "in_progress" if endless => "in_progress",
            "in_progress" => "finalizing",
            "finalizing" => "completed",
            "cancelling" => "cancelled",
            _ => return Ok(Answer::Json(batch.clone())),
        };
        batch["status"] = status.into();
        let (input, endpoint) = (batch["input_file_id"].clone(), batch["endpoint"].clone());
        if matches!(status, "completed" | "cancelled") {
            self.write_outputs(id, input.as_str().unwrap_or_default(), &endpoint, status == "cancelled")?;
        }
        Ok(Answer::Json(find(&mut self.batches, id)?.clone()))
    }

    fn write_outputs(
        &mut self,
        id: &str,
        input: &str,
        endpoint: &Value,
        cancelled: bool,
    ) -> Result<(), (u16, String)> {
        let text = self.files.get(input).map(|file| file.bytes.clone()).unwrap_or_default();
        let lines: Vec<Value> = text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).map_err(|error| (500, error.to_string())))
            .collect::<Result<_, _>>()?;
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        // A cancelled batch got through half of its requests.
        let reached = if cancelled { lines.len() / 2 } else { lines.len() };
        for line in lines.iter().take(reached) {
            let row = row(line, endpoint).map_err(|message| (400, message))?;
            match row {
                Some(row) if row.pointer("/response/status_code") == Some(&json!(200)) => {
                    done.push(row.to_string());
                }
                Some(row) => failed.push(row.to_string()),
                None => {}
            }
        }
        // No order is promised.
        done.reverse();
        let counts = json!({"total": lines.len(), "completed": done.len(), "failed": failed.len()});
        for (field, rows) in [("output_file_id", done), ("error_file_id", failed)] {
            if rows.is_empty() {
                continue;
            }
            let file = self.id("file");
            let bytes = Bytes::from(rows.join("\n") + "\n");
            let upload = Upload { purpose: "output".to_owned(), name: String::new(), bytes, looks: 0 };
            self.files.insert(file.clone(), upload);
            find(&mut self.batches, id)?[field] = file.into();
        }
        find(&mut self.batches, id)?["request_counts"] = counts;
        Ok(())
    }

    fn new_training(&mut self, asked: &Value) -> Outcome {
        let input = asked["training_file"].as_str().unwrap_or_default();
        let Some(file) = self.files.get(input).filter(|file| file.purpose == "fine-tune") else {
            return Err((400, format!("invalid training_file: {input}")));
        };
        let epochs =
            asked.pointer("/method/supervised/hyperparameters/n_epochs").and_then(Value::as_u64).unwrap_or(3);
        let tokens = file.bytes.len() as u64 / 4 * epochs;
        let id = self.id("ftjob");
        let job = json!({
            "id": id, "object": "fine_tuning.job", "model": asked["model"], "status": "validating_files",
            "trained_tokens": null, "fine_tuned_model": null, "error": {}, "metadata": asked["metadata"],
            "will_train": tokens, "suffix": asked["suffix"],
        });
        self.trainings.insert(0, job.clone());
        Ok(Answer::Json(job))
    }

    fn look_at_training(&mut self, id: &str) -> Outcome {
        let (invalid, endless) = (self.script.invalid, self.script.endless);
        let job = find(&mut self.trainings, id)?;
        match job["status"].as_str().unwrap_or_default() {
            "validating_files" if invalid => {
                job["status"] = "failed".into();
                job["error"] = json!({"code": "invalid_training_file", "message": "too few examples", "param": "training_file"});
            }
            "validating_files" => job["status"] = "queued".into(),
            "queued" => job["status"] = "running".into(),
            "running" if endless => {}
            "running" => {
                job["status"] = "succeeded".into();
                job["trained_tokens"] = job["will_train"].clone();
                let (model, suffix) = (job["model"].as_str().unwrap_or_default(), job["suffix"].as_str());
                let name = format!("ft:{model}:acme:{}:abc", suffix.unwrap_or_default());
                job["fine_tuned_model"] = name.into();
            }
            "cancelling" => job["status"] = "cancelled".into(),
            _ => {}
        }
        Ok(Answer::Json(job.clone()))
    }
}
