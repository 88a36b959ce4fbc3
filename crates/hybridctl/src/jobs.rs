//! `hybridctl jobs`: batches and fine-tuning at providers, through remote-api-adapter.

mod lines;
mod submit;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use domain::fault::Fault;
use domain::id::JobId;
use wire::subject::{self, service};
use wire::v1::{self, provider_job_reply};

use crate::output::Output;
use crate::table::{Table, printable};
use crate::target::{Connection, System, Target};
use view::{JobView, ResultView};

/// Between looks at a job that is waited for.
const LOOK: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Option<Action>,
    /// For programs: the answer as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Hand in a batch of requests, or data to train a model with
    Submit(Submit),
    /// Show a job
    Get {
        /// Its id
        id: String,
        /// Stay until it has ended, and show how it goes
        #[arg(long)]
        wait: bool,
    },
    /// Show all jobs, newest first
    List,
    /// Ask for the end of a job
    Cancel {
        /// Its id
        id: String,
    },
    /// Write what became of a batch's requests, a line of JSON for each
    Results {
        /// Its id
        id: String,
    },
}

#[derive(Debug, clap::Args)]
struct Submit {
    /// Lines of JSON: requests as in OpenAI's batches, or conversations with --fine-tune
    file: PathBuf,
    /// Deployment or model to ask, or to train
    #[arg(long, value_name = "NAME")]
    model: String,
    /// Name of the job [default: made of the file's name and content, so that the same file is the same job]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Train the model with the file
    #[arg(long)]
    fine_tune: bool,
    /// Conversations to measure the training by
    #[arg(long, value_name = "FILE", requires = "fine_tune")]
    validation: Option<PathBuf>,
    /// Part of the new model's name
    #[arg(long, value_name = "TEXT", requires = "fine_tune")]
    suffix: Option<String>,
    /// Passes over the data
    #[arg(long, value_name = "N", requires = "fine_tune")]
    epochs: Option<u32>,
    /// Examples in a step
    #[arg(long, value_name = "N", requires = "fine_tune")]
    batch_size: Option<u32>,
    /// Factor for the learning rate
    #[arg(long, value_name = "X", requires = "fine_tune")]
    learning_rate: Option<f64>,
    /// Same seed, same training
    #[arg(long, value_name = "N", requires = "fine_tune")]
    seed: Option<u32>,
    /// Train although the cost is not known
    #[arg(long, requires = "fine_tune")]
    accept_unknown_cost: bool,
    /// Stay until the job has ended, and show how it goes
    #[arg(long)]
    wait: bool,
}

pub(crate) async fn run(options: &Options, system: &System, output: &Output) -> anyhow::Result<ExitCode> {
    // what is wrong with a file or an id is told without a connection
    let action = options.action.as_ref().unwrap_or(&Action::List);
    let parts = match action {
        Action::Submit(submit) => Some(submit::Parts::read(submit)?),
        _ => None,
    };
    let id = match action {
        Action::Get { id, .. } | Action::Cancel { id } | Action::Results { id } => {
            JobId::new(id.as_str()).map_err(Fault::from)?.into_string()
        }
        _ => String::new(),
    };
    let connection = system.connect().await?;
    let jobs = Jobs { connection: &connection, json: options.json, output };
    let outcome = match (action, parts) {
        (Action::Submit(submit), Some(parts)) => jobs.submit(parts, submit.wait).await,
        (Action::Get { wait, .. }, _) => jobs.get(id, *wait).await,
        (Action::Cancel { .. }, _) => jobs.cancel(id).await,
        (Action::Results { .. }, _) => jobs.results(id).await,
        (Action::List | Action::Submit(_), _) => jobs.list().await,
    };
    connection.close().await;
    outcome
}

struct Jobs<'a> {
    connection: &'a Connection,
    json: bool,
    output: &'a Output,
}

impl Jobs<'_> {
    async fn submit(&self, parts: submit::Parts, wait: bool) -> anyhow::Result<ExitCode> {
        let requests = parts.requests(self.connection.bus.max_payload())?;
        let (count, shows) = (requests.len(), self.output.err_is_terminal && requests.len() > 1);
        let subject = subject::SubmitProviderJob(self.connection.bus.machine().clone());
        let mut job = None;
        for (number, request) in (1..).zip(requests) {
            if shows {
                self.output.note_piece(&format!("\rpart {number} of {count}"));
            }
            let reply = self.connection.call(&subject, &request, service::REMOTE_API_ADAPTER).await?;
            job = Some(one(reply)?);
        }
        if shows {
            self.output.note("");
        }
        let job = job.ok_or_else(|| anyhow::anyhow!("the file has no lines"))?;
        if wait { self.watch(job).await } else { self.show(job) }
    }

    async fn get(&self, id: String, wait: bool) -> anyhow::Result<ExitCode> {
        let job = self.job(id).await?;
        if wait { self.watch(job).await } else { self.show(job) }
    }

    async fn job(&self, job_id: String) -> anyhow::Result<v1::ProviderJob> {
        let subject = subject::GetProviderJob(self.connection.bus.machine().clone());
        let request = v1::ProviderJobRequest { job_id };
        one(self.connection.call(&subject, &request, service::REMOTE_API_ADAPTER).await?)
    }

    async fn cancel(&self, job_id: String) -> anyhow::Result<ExitCode> {
        let subject = subject::CancelProviderJob(self.connection.bus.machine().clone());
        let request = v1::ProviderJobRequest { job_id };
        self.show(one(self.connection.call(&subject, &request, service::REMOTE_API_ADAPTER).await?)?)
    }

    /// Shows each change until the end. The job does not depend on it: Ctrl-C only ends the watching.
    async fn watch(&self, job: v1::ProviderJob) -> anyhow::Result<ExitCode> {
        let mut now = JobView::from(job);
        let mut told = String::new();
        while !now.ended {
            let progress = now.progress();
            if progress != told {
                self.output.note(&self.output.err.dim(&progress));
                told = progress;
            }
            tokio::time::sleep(LOOK).await;
            now = self.job(now.job_id).await?.into();
        }
        let code = if now.state == "succeeded" { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        self.show_view(&now)?;
        Ok(code)
    }

    fn show(&self, job: v1::ProviderJob) -> anyhow::Result<ExitCode> {
        self.show_view(&job.into())?;
        Ok(ExitCode::SUCCESS)
    }

    fn show_view(&self, job: &JobView) -> anyhow::Result<()> {
        if self.json {
            return self.output.json(job);
        }
        for line in job.lines() {
            self.output.line(&printable(&line));
        }
        Ok(())
    }

    async fn list(&self) -> anyhow::Result<ExitCode> {
        let subject = subject::ListProviderJobs(self.connection.bus.machine().clone());
        let request = v1::ListProviderJobsRequest::default();
        let reply = self.connection.call(&subject, &request, service::REMOTE_API_ADAPTER).await?;
        if let Some(error) = reply.error {
            return Err(Fault::from(error).into());
        }
        let jobs: Vec<JobView> = reply.jobs.into_iter().map(JobView::from).collect();
        if self.json {
            self.output.json(&jobs)?;
            return Ok(ExitCode::SUCCESS);
        }
        if jobs.is_empty() {
            self.output.line("there is no job");
            return Ok(ExitCode::SUCCESS);
        }
        let mut table =
            Table::new(["job", "kind", "state", "deployment", "done>", "failed>", "of>", "cost>"]);
        for job in jobs {
            table.row(job.row());
        }
        for line in table.lines() {
            self.output.line(&line);
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn results(&self, job_id: String) -> anyhow::Result<ExitCode> {
        let subject = subject::ProviderJobResults(self.connection.bus.machine().clone());
        let (mut cursor, mut all) = (0, Vec::new());
        loop {
            let request = v1::ProviderJobResultsRequest { job_id: job_id.clone(), cursor };
            let page = self.connection.call(&subject, &request, service::REMOTE_API_ADAPTER).await?;
            if let Some(error) = page.error {
                return Err(Fault::from(error).into());
            }
            let results = page.results.into_iter().map(ResultView::from);
            if self.json {
                all.extend(results);
            } else {
                for result in results {
                    self.output.line(&serde_json::to_string(&result)?);
                }
            }
            if page.next_cursor == 0 {
                break;
            }
            cursor = page.next_cursor;
        }
        if self.json {
            self.output.json(&all)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn one(reply: v1::ProviderJobReply) -> anyhow::Result<v1::ProviderJob> {
    match reply.result {
        Some(provider_job_reply::Result::Job(job)) => Ok(job),
        Some(provider_job_reply::Result::Error(error)) => Err(Fault::from(error).into()),
        None => anyhow::bail!("the answer is empty: remote-api-adapter speaks another version"),
    }
}
