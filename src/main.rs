//! The `bojagi` command: parses the command line, sets up the log, and hands over.

use bojagi::chaos::ChaosCommand;
use bojagi::cli::{Cli, Command, VaultCommand};
use bojagi::{app, chaos, load};
use clap::Parser;
use std::process::ExitCode;

/// A burst allocates much and for a short while: a fifth of the CPU went into glibc's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the async runtime does not start: {error}")),
    };
    match runtime.block_on(run(cli.command)) {
        Ok(code) => code,
        Err(message) => fail(&message),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("bojagi: {message}");
    ExitCode::FAILURE
}

async fn run(command: Command) -> Result<ExitCode, String> {
    app::install_crypto();
    match command {
        Command::Dev(args) => app::dev::run(args).await.map_err(|error| error.to_string())?,
        Command::Demo => app::demo::run().await.map_err(|error| error.to_string())?,
        Command::Serve(args) => app::serve::run(args).await.map_err(|error| error.to_string())?,
        Command::Sandbox(args) => {
            app::sandbox::run(args).await.map_err(|error| error.to_string())?;
        }
        Command::Token(args) => app::admin::token(&args).map_err(|error| error.to_string())?,
        Command::Load(args) => {
            let as_json = args.reserve.json;
            let report = load::run(*args).await.map_err(|error| error.to_string())?;
            println!("{}", report.render(as_json));
            return Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Chaos(command) => {
            let ended = match command {
                ChaosCommand::Run(args) => chaos::run(args).await,
                ChaosCommand::Merge(args) => chaos::merge(&args),
                ChaosCommand::Audit(args) => {
                    let report = app::audit::run(&args).await.map_err(|error| error.to_string())?;
                    println!("{}", if args.json { report.to_json() } else { report.render() });
                    return Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
                }
                ChaosCommand::Clean => {
                    let said = chaos::clean().map_err(|error| error.to_string())?;
                    said.iter().for_each(|line| println!("{line}"));
                    return Ok(ExitCode::SUCCESS);
                }
            };
            let (report, page) = ended.map_err(|error| error.to_string())?;
            print!("{}", report.render());
            println!("{}", page.display());
            return Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Simulate(args) => {
            let began = app::clock::thread_core_seconds();
            args.simulate(|line| println!("{line}"), || app::clock::thread_core_seconds() - began)?;
        }
        Command::Cluster(command) => app::cluster::run(command).await.map_err(|error| error.to_string())?,
        Command::Backup(args) => app::folder::backup(&args).map_err(|error| error.to_string())?,
        Command::Restore(args) => app::folder::restore(&args).map_err(|error| error.to_string())?,
        Command::Verify(args) => {
            let clean = app::folder::verify(&args).map_err(|error| error.to_string())?;
            return Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Vault(VaultCommand::Rotate(args)) => app::vault::rotate(&args).map_err(|error| error.to_string())?,
        Command::Salvage(args) => app::folder::salvage(&args).map_err(|error| error.to_string())?,
    }
    Ok(ExitCode::SUCCESS)
}
