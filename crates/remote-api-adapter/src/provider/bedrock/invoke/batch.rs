//! Embeddings of more texts than one call takes: several calls, one answer.

use std::sync::atomic::{AtomicBool, Ordering};

use domain::{
    fault::Fault,
    inference::{Embed, Request},
};
use futures::{
    FutureExt, StreamExt, TryStreamExt,
    future::{self, BoxFuture},
    stream,
};
use wire::v1;

use super::embed::Embedder;
use crate::provider::{Answer, Call, Completion, Failed, Provider, Step};

/// Calls at once for one request.
const CALLS_MAX: usize = 8;

/// Splits requests to embed over several calls of `P`; everything else goes through.
pub(crate) struct Batched<P>(pub(crate) P);

impl<P: Provider> Provider for Batched<P> {
    fn open<'a>(
        &'a self,
        call: Call<'a>,
        free: &'a AtomicBool,
    ) -> BoxFuture<'a, Result<Box<dyn Answer>, Failed>> {
        let size = Embedder::of(&call.target.upstream_model).map_or(usize::MAX, Embedder::batch);
        match call.request {
            Request::Embed(request) if request.inputs.len() > size => {
                self.split(call, request, size, free).boxed()
            }
            _ => self.0.open(call, free),
        }
    }

    fn available(&self, upstream_model: &str) -> Result<(), String> {
        self.0.available(upstream_model)
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), String>> {
        self.0.probe()
    }
}

impl<P: Provider> Batched<P> {
    /// Free when all calls are.
    async fn split(
        &self,
        call: Call<'_>,
        request: &Embed,
        size: usize,
        free: &AtomicBool,
    ) -> Result<Box<dyn Answer>, Failed> {
        free.store(true, Ordering::Relaxed);
        let parts = request.inputs.chunks(size).enumerate().map(|(at, inputs)| {
            let inputs = inputs.to_vec();
            let part = Request::Embed(Embed { inputs, ..emptied(request) });
            async move {
                let outcome = self.one(Call { request: &part, ..call }, free).await;
                // what other calls did must not be paid for again by a repetition of all
                outcome.map_err(|failed| Failed { cause: failed.cause.filter(|_| at == 0), ..failed })
            }
        });
        // the first alone: most failures would be all calls' failures
        let mut parts: Vec<_> = parts.collect();
        let mut whole = Completion::default();
        let rest = parts.split_off(parts.len().min(1));
        for part in parts {
            whole = part.await?;
        }
        let rest: Vec<Completion> = stream::iter(rest).buffered(CALLS_MAX).try_collect().await?;
        for part in rest {
            join(&mut whole, part);
        }
        Ok(Box::new(Ready(Some(whole))))
    }

    async fn one(&self, call: Call<'_>, all_free: &AtomicBool) -> Result<Completion, Failed> {
        let free = AtomicBool::new(false);
        let opened = self.0.open(call, &free).await;
        all_free.fetch_and(free.load(Ordering::Relaxed), Ordering::Relaxed);
        match opened?.next().await? {
            Step::Done(completion) => Ok(*completion),
            Step::Pieces(_) | Step::Phase(..) => {
                Err(Failed::for_good(Fault::internal("embeddings came in pieces")))
            }
        }
    }
}

/// The request without its texts.
fn emptied(request: &Embed) -> Embed {
    Embed { envelope: request.envelope.clone(), inputs: Vec::new(), dimensions: request.dimensions }
}

/// Adds the next part. Tokens are known only where every part says its own.
fn join(whole: &mut Completion, part: Completion) {
    let vectors = |embeddings: Option<v1::Embeddings>| embeddings.map_or(Vec::new(), |some| some.embeddings);
    let mut all = vectors(whole.embeddings.take());
    all.extend(vectors(part.embeddings));
    whole.embeddings = Some(v1::Embeddings { embeddings: all });
    whole.usage = whole.usage.zip(part.usage).map(|(mut sum, usage)| {
        sum += usage;
        sum
    });
}

/// An answer that is there already.
struct Ready(Option<Completion>);

impl Answer for Ready {
    fn next(&mut self) -> BoxFuture<'_, Result<Step, Failed>> {
        let taken = self.0.take().map(|completion| Step::Done(Box::new(completion)));
        future::ready(taken.ok_or_else(|| Failed::for_good(Fault::internal("a whole answer was read twice"))))
            .boxed()
    }
}
