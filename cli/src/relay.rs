//! `belfry relay`: publishes what a service of any language writes into its outbox.
//!
//! The promise: an event that was committed with its change is published once the
//! notifier is there, in order for each stream, however often this is killed.

use std::{path::PathBuf, time::Duration};

use belfry::publisher::Credential;
use clap::{Args, ValueEnum};
use outbox::{DatabaseError, POSTGRES_TABLE, RelayConfig, RelayError, SQLITE_TABLE};
use settings::any_duration;

use crate::{
    config::{
        process::{Log, LogFormat, NotifierUrl},
        transport::Plaintext,
    },
    exit::Failure,
    serve::{on_signals, start_log},
};

/// Publishes what a service writes into its outbox.
#[derive(Args)]
pub(crate) struct Relay {
    /// The service's database: `postgres://user@host/name` or `sqlite:///path`. A
    /// password is better kept in PGPASSFILE than here
    #[arg(
        long,
        value_name = "URL",
        env = "BELFRY_DATABASE_URL",
        hide_env_values = true,
        required_unless_present = "print_table"
    )]
    database_url: Option<String>,
    #[command(flatten)]
    notifier: NotifierUrl,
    #[command(flatten)]
    plaintext: Plaintext,
    /// File with the service's token; read again for each use, so that it can be replaced
    #[arg(
        long,
        value_name = "FILE",
        env = "BELFRY_SERVICE_TOKEN_FILE",
        required_unless_present = "print_table"
    )]
    service_token_file: Option<PathBuf>,
    /// How often to look into the outbox
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = any_duration)]
    poll: Duration,
    #[command(flatten)]
    log: Log,
    /// Print the SQL that makes the table `belfry_outbox`, and exit
    #[arg(long, value_name = "DATABASE")]
    print_table: Option<Table>,
}

/// For which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Table {
    /// `PostgreSQL` 13 and newer
    Postgres,
    /// `SQLite` 3.37 and newer
    Sqlite,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(relay: Relay) -> Result<(), Failure> {
    if let Some(table) = relay.print_table {
        print!(
            "{}",
            match table {
                Table::Postgres => POSTGRES_TABLE,
                Table::Sqlite => SQLITE_TABLE,
            }
        );
        return Ok(());
    }
    let (Some(database_url), Some(token)) = (relay.database_url, relay.service_token_file) else {
        return Err(Failure::usage("a database and a service token are needed"));
    };
    if let Err(cause) = std::fs::metadata(&token) {
        let file = token.display();
        return Err(Failure::usage(format!(
            "`--service-token-file` is `{file}`, but it cannot be read: {cause}"
        )));
    }
    start_log(
        &relay.log.log,
        relay.log.log_format == LogFormat::Json,
        None,
    );
    let end = on_signals(Duration::ZERO)?.drain.start;
    let config = RelayConfig {
        database_url,
        tls: relay.notifier.tls(&relay.plaintext),
        notifier: relay.notifier.notifier_url,
        credential: Credential::file(token),
        poll: relay.poll.max(Duration::from_millis(10)),
    };
    outbox::relay(config, end)
        .await
        .map_err(|error| match error {
            RelayError::Publisher(_)
            | RelayError::Database(DatabaseError::Url(_) | DatabaseError::Scheme(_)) => {
                Failure::usage(error)
            }
            _ => Failure::storage(error),
        })
}
