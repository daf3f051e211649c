//! The processors as their users and the notifier see them, over real sockets.

mod decoder;
mod files;
mod http;
mod images;
mod jobs;
mod pictures;
#[path = "../../../tests/it/world/postgres.rs"]
mod postgres;
mod removal;
mod reports;
mod restart;
mod s3;
mod servers;
mod sounds;
mod status;
mod transcriptions;
mod typeform;
mod typesetter;
mod upgrade;
mod uploads;
#[path = "../../../tests/it/world/wait.rs"]
mod wait;
mod world;
