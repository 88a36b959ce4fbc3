//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use bench::cores::Cores;
use bench::target::Target;
use clap::{Args, Parser, Subcommand};

/// What the system and its adapter cost, against the least that they can cost.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) part: Option<Part>,
    #[command(flatten)]
    pub(crate) comparison: Comparison,
}

/// The processes that a comparison starts; each can be run on its own.
#[derive(Subcommand)]
pub(crate) enum Part {
    /// The upstream.
    Upstream {
        /// Key that it asks for.
        #[arg(long)]
        key: String,
        /// Model that it offers.
        #[arg(long)]
        model: String,
        /// Pieces of text of an answer.
        #[arg(long)]
        chunks: usize,
        /// Silence between two pieces of a stream, in milliseconds.
        #[arg(long)]
        chunk_delay_ms: u64,
    },
    /// The floor's HTTP side.
    FloorGateway {
        /// Address to listen on.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Address of the bus.
        #[arg(long)]
        nats: String,
    },
    /// The floor's provider side.
    FloorWorker {
        /// Address of the bus.
        #[arg(long)]
        nats: String,
        /// Address of the upstream's chat completions.
        #[arg(long)]
        upstream: String,
        /// The upstream's key.
        #[arg(long)]
        key: String,
    },
    /// Compare the local engine with llama.cpp's own server.
    Engine {
        /// llama.cpp's server; scripts/llama-server.sh builds one.
        #[arg(long, default_value = ".tools/bin/llama-server")]
        llama_server: PathBuf,
        /// A model file; one of random weights by default.
        #[arg(long)]
        model: Option<PathBuf>,
        /// Threads that each side computes with; as many as there are cores by default.
        #[arg(long)]
        threads: Option<u32>,
        /// How often each side is measured.
        #[arg(long, default_value_t = 7)]
        rounds: usize,
        /// Words of a prompt, each of two to six tokens.
        #[arg(long, default_value_t = 40)]
        prompt_words: usize,
        /// Tokens of an answer.
        #[arg(long, default_value_t = 64)]
        output_tokens: u32,
        /// Fail when a goal is missed.
        #[arg(long)]
        check: bool,
    },
    /// The bare HTTP proxy.
    Proxy {
        /// Address to listen on.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Host and port of the upstream.
        #[arg(long)]
        upstream: String,
    },
}

#[derive(Args)]
pub(crate) struct Comparison {
    /// What to measure, in this order within a round.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Target::ALL)]
    pub(crate) targets: Vec<Target>,
    /// Numbers of connections.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    pub(crate) connections: Vec<usize>,
    /// How often everything is repeated, every process started anew.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Time before each measurement, in milliseconds.
    #[arg(long, default_value_t = 500)]
    pub(crate) warm_up_ms: u64,
    /// Time of each measurement, in milliseconds.
    #[arg(long, default_value_t = 3_000)]
    pub(crate) measure_ms: u64,
    /// Measure so many answers, in place of a time.
    #[arg(long)]
    pub(crate) answers: Option<u64>,
    /// Length of the prompt, in bytes.
    #[arg(long, default_value_t = 400)]
    pub(crate) prompt_bytes: usize,
    /// Pieces of text of an answer: as many chunks of a stream, and three for its start and end.
    #[arg(long, default_value_t = 32)]
    pub(crate) chunks: usize,
    /// Silence between two chunks, in milliseconds; 0 lets the upstream write each as soon as the last has left.
    #[arg(long, default_value_t = 0)]
    pub(crate) chunk_delay_ms: u64,
    /// Streams to hold open on the adapter when its memory is looked at; 0 leaves that part out, and so does a run without
    /// the adapter.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) open_streams: usize,
    /// Cores of the load generator and the upstream; the first of the machine by default.
    #[arg(long)]
    pub(crate) load_cores: Option<Cores>,
    /// Cores of everything that is measured; the second of the machine by default.
    #[arg(long)]
    pub(crate) measured_cores: Option<Cores>,
    /// Write all figures to this file, as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Fail when a goal of what was measured is missed, or when a request failed.
    #[arg(long)]
    pub(crate) check: bool,
}
