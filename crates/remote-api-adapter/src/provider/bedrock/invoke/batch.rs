//! Embeddings of more texts than one call takes: several calls, one answer.

use domain::{
    fault::Fault,
    inference::{Embed, Request},
    pricing::TokenUsage,
};
use futures::{
    FutureExt, StreamExt, TryStreamExt,
    future::{self, BoxFuture},
    stream,
};
use wire::v1;

use super::embed::Embedder;
use crate::provider::{Answer, Call, Completion, Failure, Provider, Step};

/// Calls at once for one request.
const CALLS_MAX: usize = 8;

/// Splits requests to embed over several calls of `P`; everything else goes through.
pub(crate) struct Batched<P>(pub(crate) P);

impl<P: Provider> Provider for Batched<P> {
    fn open<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Result<Box<dyn Answer>, Failure>> {
        let size = Embedder::of(&call.target.upstream_model).map_or(usize::MAX, Embedder::batch);
        match call.request {
            Request::Embed(request) if request.inputs.len() > size => self.split(call, request, size).boxed(),
            _ => self.0.open(call),
        }
    }

    fn available(&self) -> Result<(), String> {
        self.0.available()
    }
}

impl<P: Provider> Batched<P> {
    async fn split(&self, call: Call<'_>, request: &Embed, size: usize) -> Result<Box<dyn Answer>, Failure> {
        let parts = request.inputs.chunks(size).enumerate().map(|(at, inputs)| {
            let inputs = inputs.to_vec();
            let part = Request::Embed(Embed { inputs, ..emptied(request) });
            async move {
                let outcome = self.one(Call { request: &part, ..call }).await;
                // what other calls did must not be paid for again by a repetition of all
                outcome.map_err(|failure| Failure { transient: failure.transient && at == 0, ..failure })
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

    async fn one(&self, call: Call<'_>) -> Result<Completion, Failure> {
        let mut answer = self.0.open(call).await?;
        match answer.next().await.map_err(Failure::permanent)? {
            Step::Done(completion) => Ok(*completion),
            Step::Pieces(_) | Step::Phase(..) => {
                Err(Failure::permanent(Fault::internal("embeddings came in pieces")))
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
    whole.usage = whole.usage.zip(part.usage).map(|(a, b)| TokenUsage {
        input: a.input + b.input,
        output: a.output + b.output,
        ..a
    });
}

/// An answer that is there already.
struct Ready(Option<Completion>);

impl Answer for Ready {
    fn next(&mut self) -> BoxFuture<'_, Result<Step, Fault>> {
        let taken = self.0.take().map(|completion| Step::Done(Box::new(completion)));
        future::ready(taken.ok_or_else(|| Fault::internal("a whole answer was read twice"))).boxed()
    }
}
