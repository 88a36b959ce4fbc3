//! Files, batches and fine-tuning in OpenAI's wire format.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Answer, Outcome, State, Upload,
    answers::{find, row},
};

impl State {
    pub(super) fn upload(&mut self, boundary: Option<&str>, bytes: &Bytes) -> Outcome {
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

    pub(super) fn file(&mut self, id: &str) -> Outcome {
        let reading = self.script.reading;
        let file = self.files.get_mut(id).ok_or((404, format!("No such File object: {id}")))?;
        file.looks += 1;
        let status = if file.looks > reading { "processed" } else { "pending" };
        Ok(Answer::Json(json!({"id": id, "object": "file", "status": status, "status_details": null})))
    }

    pub(super) fn new_batch(&mut self, asked: &Value) -> Outcome {
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

    pub(super) fn look_at_batch(&mut self, id: &str) -> Outcome {
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

    pub(super) fn new_training(&mut self, asked: &Value) -> Outcome {
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

    pub(super) fn look_at_training(&mut self, id: &str) -> Outcome {
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
