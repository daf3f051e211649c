//! plain.rs: notifies a person by a plain publish.

use std::time::Duration;

use belfry::publisher::{Credential, Publish, Publisher, PublisherConfig, event};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoint = format!("http://{}", std::env::var("BELFRY_GRPC")?);
    let credential = Credential::token(std::env::var("BELFRY_SERVICE_TOKEN")?);
    let publisher = Publisher::connect(PublisherConfig {
        deadline: Duration::from_secs(5),
        ..PublisherConfig::new(endpoint, credential)
    })?;

    // … the report is made …
    let ready = event::status_update("report", "monthly", "ready");
    match publisher.publish(Publish::to_user("demo", ready)).await {
        Ok(ack) => println!("published: {}", ack.event_id),
        // The report is there all the same.
        Err(error) => eprintln!("not published: {error}"),
    }
    Ok(())
}
