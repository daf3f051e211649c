//! `belfry publish`: publishes one event by hand, over the same client that
//! services use.

use std::time::Duration;

use belfry::{
    address,
    event::EventKind,
    notifiers,
    publisher::{Credential, Publish as Request, Publisher, PublisherConfig, event},
    tls::ClientTls,
    v1::{Event, ImageProcessed},
};
use clap::{Args, Subcommand};
use settings::any_duration;
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use crate::{
    config::{
        process::{Data, NotifierUrl, ServiceToken},
        transport::Plaintext,
    },
    exit::Failure,
    secrets,
    token::{self, ServiceRole, Subject},
};

/// How long a token works that is signed for one call.
const TOKEN_TTL: Duration = Duration::from_mins(5);
/// The service that a token signed here speaks for.
pub(crate) const BY_HAND: &str = "by-hand";

const EXAMPLES: &str = "\
Examples:
  belfry publish status --user u1 --update-type sync --resource mail --status done
      A row and a toast for one user, on all their devices, kept for those away
  belfry publish image-processing-started --user u1 --document-id d1 --job d1 --lease 60s
      Begins a job; if nothing more is published of it for 60 s, the notifier itself
      notifies the user that it failed, with the code `stalled`
  belfry publish progress --user u1 --job d1 --percent 40 --stage reading
      Shown to who looks now, not kept; renews the lease of the job
  belfry publish status --user u1 --job d1 --ends-job \\
      --update-type sync --resource mail --status done
      Ends a job by an event that does not end one by its kind
  belfry receipts --job d1
      What became of all that on the user's devices";

/// Publishes one event by hand.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Publish {
    /// What happened.
    #[command(subcommand)]
    event: EventArgs,
}

/// Where and as whom to publish.
#[derive(Args, Clone)]
pub(crate) struct At {
    #[command(flatten)]
    pub(crate) notifier: NotifierUrl,
    #[command(flatten)]
    plaintext: Plaintext,
    #[command(flatten)]
    token: ServiceToken,
    /// How long to try
    #[arg(long, default_value = "10s", value_parser = any_duration)]
    pub(crate) within: Duration,
}

impl At {
    /// A publisher by hand.
    pub(crate) fn publisher(&self, secrets: &Data) -> Result<Publisher, Failure> {
        self.publisher_as(secrets, BY_HAND)
    }

    /// A publisher; its tokens are read from the file, or signed here as of this
    /// service.
    pub(crate) fn publisher_as(&self, secrets: &Data, service: &str) -> Result<Publisher, Failure> {
        let credential = self.credential(secrets, service)?;
        let mut config = PublisherConfig::new(&self.notifier.notifier_url, credential);
        config.tls = self.tls();
        config.deadline = self.within;
        config.attempt_timeout = config.attempt_timeout.min(self.within);
        Publisher::connect(config).map_err(Failure::usage)
    }

    /// How to connect to the notifier.
    pub(crate) fn tls(&self) -> ClientTls {
        self.notifier.tls(&self.plaintext)
    }

    /// A channel to the first notifier of the list that is there, if one is.
    pub(crate) async fn channel(&self) -> Result<Option<Channel>, Failure> {
        for url in notifiers::split(&self.notifier.notifier_url) {
            let endpoint = address::endpoint(url, &self.tls()).map_err(Failure::usage)?;
            if let Ok(channel) = endpoint.connect().await {
                return Ok(Some(channel));
            }
        }
        Ok(None)
    }

    fn credential(&self, secrets: &Data, service: &str) -> Result<Credential, Failure> {
        if let Some(path) = &self.token.service_token_file {
            return Ok(Credential::file(path));
        }
        if self.notifier.shows_certificate() {
            return Ok(Credential::certificate());
        }
        let secret = secrets::load(&secrets.services_key()).map_err(Failure::usage)?;
        let subject = subject((service, ServiceRole::Publisher));
        token::sign(&subject, TOKEN_TTL, &secret).map_err(Failure::usage)?;
        // Signed again each time: a watch may last longer than a token.
        Ok(Credential::minted(move || {
            token::sign(&subject, TOKEN_TTL, &secret).unwrap_or_default()
        }))
    }

    /// `authorization` of an operator, from the same places; `None`: a certificate says
    /// who this is.
    pub(crate) fn operator(&self, secrets: &Data) -> Result<Option<MetadataValue<Ascii>>, Failure> {
        let token = if let Some(path) = &self.token.service_token_file {
            std::fs::read_to_string(path).map_err(|cause| {
                let path = path.display();
                Failure::usage(format!("`{path}` cannot be read: {cause}"))
            })?
        } else if self.notifier.shows_certificate() {
            return Ok(None);
        } else {
            let secret = secrets::load(&secrets.services_key()).map_err(Failure::usage)?;
            let subject = subject((BY_HAND, ServiceRole::Operator));
            token::sign(&subject, TOKEN_TTL, &secret).map_err(Failure::usage)?
        };
        let bearer = format!("Bearer {}", token.trim()).parse();
        let bearer = bearer
            .map_err(|_| Failure::usage("the service token has characters that no token has"))?;
        Ok(Some(bearer))
    }

    /// The notifier did not answer at first.
    pub(crate) fn nobody(&self) -> Failure {
        let (url, within) = (&self.notifier.notifier_url, self.within);
        Failure::failed(format!(
            "no notifier answered at `{url}` within {within:?}: is it running, and is this its \
             gRPC address?"
        ))
    }
}

fn subject((name, role): (&str, ServiceRole)) -> Subject {
    let all = match role {
        ServiceRole::Publisher => vec!["*".to_owned()],
        ServiceRole::Edge | ServiceRole::Operator => Vec::new(),
    };
    Subject::Service {
        name: name.to_owned(),
        role,
        events: all.clone(),
        targets: all,
    }
}

/// Whom to notify, and how.
#[derive(Args)]
struct Envelope {
    /// Notify this user; several times: all of them
    #[arg(long, conflicts_with_all = ["queue", "everyone"])]
    user: Vec<String>,
    /// Notify the viewers of this queue
    #[arg(long, conflicts_with = "everyone")]
    queue: Option<String>,
    /// Notify everybody
    #[arg(long)]
    everyone: bool,
    /// The job it belongs to
    #[arg(long)]
    job: Option<String>,
    /// The job fails, with the code `stalled`, if nothing is published of it for so
    /// long: 1 s to 24 h
    #[arg(long, value_name = "DURATION", value_parser = any_duration, requires = "job", conflicts_with_all = ["ephemeral", "ends_job"])]
    lease: Option<Duration>,
    /// It ends the job, for events that do not by their kind (`status`, `custom`)
    #[arg(long, requires = "job", conflicts_with = "ephemeral")]
    ends_job: bool,
    /// Makes a retry safe [default: a random one]
    #[arg(long)]
    idempotency_key: Option<String>,
    /// Do not store it; a newer one with this key replaces it
    #[arg(long, value_name = "COLLAPSE_KEY")]
    ephemeral: Option<String>,
    /// After this long it is not worth showing any more
    #[arg(long, value_parser = any_duration)]
    time_to_live: Option<Duration>,
    /// Where to publish.
    #[command(flatten)]
    at: At,
    /// Where the secret is.
    #[command(flatten)]
    secrets: Data,
}

/// What happened.
#[derive(Subcommand)]
enum EventArgs {
    #[command(about = about("Something changed", EventKind::StatusUpdate))]
    Status {
        /// What kind of change: `processing_failed`
        #[arg(long)]
        update_type: String,
        /// What it is about: `user_data`
        #[arg(long)]
        resource: String,
        /// The new status: `failed`
        #[arg(long)]
        status: String,
        /// What went wrong, for people
        #[arg(long, default_value = "")]
        error: String,
        /// Details: a JSON object
        #[arg(long, default_value = "")]
        data: String,
        /// To whom.
        #[command(flatten)]
        to: Envelope,
    },
    #[command(about = about("An event of your own", EventKind::Custom))]
    Custom {
        /// Its name: `billing.invoice_paid`
        #[arg(long)]
        name: String,
        /// A JSON object
        #[arg(long, default_value = "{}")]
        data: String,
        /// To whom.
        #[command(flatten)]
        to: Envelope,
    },
    #[command(about = about("The progress of a job, not stored, needs --job", EventKind::JobProgress))]
    Progress {
        /// 0 to 100
        #[arg(long, value_parser = clap::value_parser!(u32).range(0..=100))]
        percent: u32,
        /// The step at work, for people
        #[arg(long, default_value = "")]
        stage: String,
        /// The thing that is worked on
        #[arg(long, default_value = "")]
        resource_id: String,
        /// To whom.
        #[command(flatten)]
        to: Envelope,
    },
    #[command(about = about("A picture was accepted", EventKind::ImageProcessingStarted))]
    ImageProcessingStarted {
        /// The document's id
        #[arg(long)]
        document_id: String,
        /// What the picture shows
        #[arg(long, default_value = "picture")]
        document_type: String,
        /// To whom.
        #[command(flatten)]
        to: Envelope,
    },
    #[command(about = about("A picture is ready", EventKind::ImageProcessed))]
    ImageProcessed {
        /// The document's id
        #[arg(long)]
        document_id: String,
        /// What the picture shows
        #[arg(long, default_value = "picture")]
        document_type: String,
        /// How long it took
        #[arg(long, default_value = "1s", value_parser = any_duration)]
        took: Duration,
        /// To whom.
        #[command(flatten)]
        to: Envelope,
    },
    #[command(about = about("A picture could not be processed", EventKind::ImageProcessingFailed))]
    ImageProcessingFailed {
        /// The document's id
        #[arg(long)]
        document_id: String,
        /// What the picture shows
        #[arg(long, default_value = "picture")]
        document_type: String,
        /// Stable, for programs: `damaged_file`
        #[arg(long)]
        code: String,
        /// One sentence for a person
        #[arg(long)]
        message: String,
        /// To whom.
        #[command(flatten)]
        to: Envelope,
    },
}

/// The help of a subcommand, with the event's name in the contract.
fn about(meaning: &str, kind: EventKind) -> String {
    format!("{meaning} (`{}`)", kind.name())
}

impl EventArgs {
    fn into_parts(self) -> (Event, Envelope) {
        match self {
            EventArgs::Status {
                update_type,
                resource,
                status,
                error,
                data,
                to,
            } => {
                let body = belfry::v1::StatusUpdate {
                    update_type,
                    resource,
                    status,
                    data_json: data,
                    error,
                };
                (body.into(), to)
            }
            EventArgs::Custom { name, data, to } => (event::custom(name, data), to),
            EventArgs::Progress {
                percent,
                stage,
                resource_id,
                mut to,
            } => {
                let body = belfry::v1::JobProgress {
                    percent,
                    stage,
                    resource_id,
                    partial: String::new(),
                };
                // Progress is for who looks now: the job's newest replaces the rest.
                to.ephemeral = to.ephemeral.or_else(|| to.job.clone());
                (body.into(), to)
            }
            EventArgs::ImageProcessingStarted {
                document_id,
                document_type,
                to,
            } => (
                event::image_processing_started(document_id, document_type),
                to,
            ),
            EventArgs::ImageProcessed {
                document_id,
                document_type,
                took,
                to,
            } => {
                let body = ImageProcessed {
                    document_id,
                    document_type,
                    processing_duration: Some(event::duration(took)),
                    ..ImageProcessed::default()
                };
                (event::image_processed(body), to)
            }
            EventArgs::ImageProcessingFailed {
                document_id,
                document_type,
                code,
                message,
                to,
            } => {
                let failure = event::failure(code, message);
                (
                    event::image_processing_failed(document_id, document_type, failure),
                    to,
                )
            }
        }
    }
}

/// Runs the command.
pub(crate) async fn run(publish: Publish) -> Result<(), Failure> {
    let (event, to) = publish.event.into_parts();
    let publisher = to.at.publisher(&to.secrets)?;
    let request = address(event, to)?;
    let accepted = publisher.publish(request).await.map_err(Failure::failed)?;
    let again = if accepted.duplicate {
        " (it was published before with this key)"
    } else {
        ""
    };
    println!("{}{again}", accepted.event_id);
    for placement in &accepted.placements {
        let offset = placement
            .position
            .as_ref()
            .map_or(0, |position| position.offset);
        println!("  {} at offset {offset}", placement.stream);
    }
    Ok(())
}

fn address(event: Event, to: Envelope) -> Result<Request, Failure> {
    let mut users = to.user;
    let mut request = match (users.len(), to.queue, to.everyone) {
        (0, Some(queue), _) => Request::to_queue(queue, event),
        (0, None, true) => Request::to_everyone(event),
        (0, None, false) => {
            return Err(Failure::usage(
                "say whom to notify: `--user`, `--queue` or `--everyone`",
            ));
        }
        (1, ..) => Request::to_user(users.remove(0), event),
        _ => Request::to_users(users, event),
    };
    if let Some(key) = to.idempotency_key {
        request = request.idempotency_key(key);
    }
    if let Some(job) = to.job {
        request = request.job(job);
    }
    if let Some(lasts) = to.lease {
        request = request.lease(lasts);
    }
    if to.ends_job {
        request = request.ends_job();
    }
    if let Some(key) = to.ephemeral {
        request = request.ephemeral(key);
    }
    if let Some(after) = to.time_to_live {
        request = request.time_to_live(after);
    }
    Ok(request)
}
