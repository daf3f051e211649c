//! outbox.rs: writes a change and its event in one transaction.

use belfry::publisher::{Publish, event};
use prost::Message;
use sqlx::{Connection, SqliteConnection};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut database = SqliteConnection::connect(&std::env::var("REPORTS_DATABASE")?).await?;
    let ready = Publish::to_user("demo", event::status_update("report", "monthly", "ready"));

    let mut transaction = database.begin().await?;
    sqlx::query("INSERT INTO reports (name, status) VALUES ('monthly', 'ready')")
        .execute(&mut *transaction)
        .await?;
    sqlx::query("INSERT INTO belfry_outbox (id, request) VALUES (?, ?)")
        .bind(ready.key())
        .bind(ready.request().encode_to_vec())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    println!("written");
    Ok(())
}
