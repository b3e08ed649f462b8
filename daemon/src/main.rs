//! The program `wormhole`; see [`wormhole::cli`].

fn main() -> std::process::ExitCode {
    wormhole::cli::run()
}
