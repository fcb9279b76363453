//! The program `nada`: words into image domains, from the command line.

mod adapt;
mod clip;
mod convert;
mod domain;
mod eval;
mod faces;
mod info;
mod invert;
mod model;
mod models;
mod outputs;
mod picture;
mod render;
mod restyle;
mod sample;
mod settings;
mod snapshots;
mod ui;

use clap::{Parser, Subcommand};
use nada::Error;
use std::process::ExitCode;
use ui::Ui;

/// Turns words into new image domains: adapts a StyleGAN2 generator to a text, inverts and restyles pictures (StyleGAN-NADA).
#[derive(Parser)]
#[command(name = "nada", version, after_help = EXAMPLES)]
struct Cli {
    /// One JSON object on the standard output instead of text, and no progress bars
    #[arg(long, global = true, help_heading = "Output and threads")]
    json: bool,
    /// No progress bars and no summary; warnings and errors stay
    #[arg(long, short, global = true, help_heading = "Output and threads")]
    quiet: bool,
    /// Threads to compute with; by default one a core
    #[arg(long, global = true, value_name = "N", help_heading = "Output and threads", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Example: see what the starter model draws, adapt it to words, and restyle a picture of it
  nada sample -n 8 --folder faces
  nada adapt \"a pencil sketch\"
  nada restyle faces/0001.png --domain a-pencil-sketch.nada.safetensors

Exit status: 0 done, 1 error, 2 wrong usage, 130 cancelled (Ctrl-C; what was reached is kept and named, where a part of
the result is of use).";

#[derive(Subcommand)]
enum Command {
    Adapt(Box<adapt::Adapt>),
    Invert(invert::Invert),
    Render(render::Render),
    Sample(sample::Sample),
    Restyle(restyle::Restyle),
    Faces(faces::Faces),
    Info(info::Info),
    Eval(eval::Eval),
    Clip(clip::ClipCommand),
    Convert(convert::Convert),
    Domain(domain::MakeDomain),
    Model(model::ModelCommand),
}

impl Command {
    /// Whether it looks for a request to stop.
    fn can_be_cancelled(&self) -> bool {
        match self {
            Command::Model(c) => c.can_be_cancelled(),
            _ => true,
        }
    }
}

fn main() -> ExitCode {
    nada::threads::prepare();
    let cli = Cli::parse();
    env_logger::Builder::from_env(env_logger::Env::default().filter_or("NADA_LOG", "warn")).init();
    if let Some(n) = cli.threads {
        // Read by rayon and by candle when the first of their threads starts, which is later than here.
        std::env::set_var("RAYON_NUM_THREADS", n.to_string());
    }
    let mut ui = Ui::new(cli.json, cli.quiet);
    for warning in nada::pack::search_warnings() {
        ui.warn(warning);
    }
    let result = match ui.watch_interrupts(cli.command.can_be_cancelled()) {
        Err(e) => Err(e),
        Ok(()) => match cli.command {
            Command::Adapt(c) => c.run(&mut ui),
            Command::Invert(c) => c.run(&mut ui),
            Command::Render(c) => c.run(&mut ui),
            Command::Sample(c) => c.run(&mut ui),
            Command::Restyle(c) => c.run(&mut ui),
            Command::Faces(c) => c.run(&mut ui),
            Command::Info(c) => c.run(&mut ui),
            Command::Eval(c) => c.run(&mut ui),
            Command::Clip(c) => c.run(&mut ui),
            Command::Convert(c) => c.run(&mut ui),
            Command::Domain(c) => c.run(&mut ui),
            Command::Model(c) => c.run(&mut ui),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            ui.error(&e);
            ExitCode::from(if matches!(e, Error::Cancelled) { 130 } else { 1 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn arguments_fit_together() {
        Cli::command().debug_assert();
    }
}
