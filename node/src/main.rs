//! The `archipelag` program: the command line of the library and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Two providers are linked; without a choice the first TLS connection would panic. It can't
    // have been chosen before.
    let _chosen = rustls::crypto::aws_lc_rs::default_provider().install_default();
    archipelag_node::cli::main()
}
