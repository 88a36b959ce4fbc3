//! hybridctl: the command line of Hybrid LLM.

use std::process::ExitCode;

fn main() -> ExitCode {
    hybridctl::main()
}
