//! The same test for every model.

use std::process::Command;
use std::thread;

use clap::ValueEnum;

use crate::server::{BINARY, Client, Server};

pub(crate) const MODELS: [&str; 6] =
    ["fork", "reexec", "template", "prefork", "thread", "multiplex"];

pub(crate) fn in_every_model(test: impl Fn(&'static str) + Sync) {
    in_models(&MODELS, test);
}

/// At the same time, as most tests wait most of the time. The threads have the models' names, so
/// that a failure says whose it is.
pub(crate) fn in_models(models: &[&'static str], test: impl Fn(&'static str) + Sync) {
    thread::scope(|scope| {
        let threads: Vec<_> = models
            .iter()
            .map(|model| {
                let thread = thread::Builder::new().name((*model).to_owned());
                thread.spawn_scoped(scope, || test(model)).unwrap()
            })
            .collect();
        let results: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        for (model, result) in models.iter().zip(results) {
            assert!(result.is_ok(), "failed with --model {model}");
        }
    });
}

/// The server, on a free port of this machine.
pub(crate) fn command(model: &str, options: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["0", "--model", model]).args(options);
    command
}

#[track_caller]
pub(crate) fn start(model: &str, options: &[&str]) -> Server {
    Server::run(&mut command(model, options))
}

/// A client that is being served.
#[track_caller]
pub(crate) fn served(server: &Server) -> Client {
    let mut client = server.connect();
    client.assert_echo(b"served");
    client
}

/// A model that is added to the server must be added here, and to `models!`.
#[test]
fn every_model_is_tested() {
    let all = echo_server::Model::value_variants();
    let names: Vec<_> = all.iter().map(ToString::to_string).collect();
    assert_eq!(names, MODELS);
}
