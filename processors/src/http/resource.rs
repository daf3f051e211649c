//! The requests that every kind of job answers alike: its list, one of it, a new one.
//!
//! What always holds: a user sees their own records only, and no cache keeps an answer.

use std::future::Future;

use axum::{
    Json,
    extract::{Path, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;
use tokio::time::timeout;
use uuid::Uuid;

use super::{App, User, view::private};
use crate::{
    config::Config,
    job::{Kind, Record},
    problem::Problem,
    sign::Signer,
};

/// A kind of job as HTTP shows it.
pub(super) trait Resource: Kind {
    /// The field of the list in its answer.
    const LIST: &'static str;
    /// The field of the id in the answer to a request for a new one.
    const ID: &'static str;
    /// What one looks like.
    type View: Serialize;

    /// Signs new links each time, so that a list never shows expired ones.
    fn view(signer: &Signer, config: &Config, record: &Record) -> Result<Self::View, Problem>;

    /// The job's input, from the request for a new one with this id.
    fn read(
        app: &App,
        user: &User,
        id: String,
        request: Request,
    ) -> impl Future<Output = Result<Self::Input, Problem>> + Send;
}

/// The user's records, newest first.
pub(super) async fn list<R: Resource>(
    user: User,
    State(app): State<App>,
) -> Result<Response, Problem> {
    let records = app.jobs.records().list(R::NAME, &user.0).await?;
    let views = records
        .iter()
        .map(|record| R::view(&app.signer, &app.config, record));
    let views = views.collect::<Result<Vec<_>, _>>()?;
    Ok(private(json!({ R::LIST: views })))
}

pub(super) async fn one<R: Resource>(
    user: User,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let record = app.jobs.records().resource(R::NAME, &id).await?;
    let record = record.filter(|record| record.user_id == user.0);
    let record = record.ok_or_else(Problem::not_found)?;
    Ok(private(R::view(&app.signer, &app.config, &record)?))
}

/// Admits a job, then reads its body, and accepts it: 202 with the ids means that the
/// record is on disk.
pub(super) async fn post<R: Resource>(
    user: User,
    State(app): State<App>,
    request: Request,
) -> Result<Response, Problem> {
    let admission = app.jobs.admit::<R>(&user.0)?;
    let id = Uuid::now_v7().to_string();
    let limit = app.config.upload_timeout;
    let input = timeout(limit, R::read(&app, &user, id.clone(), request)).await;
    let input = input.map_err(|_| Problem::too_slow(limit))??;
    let record = app.jobs.accept::<R>(admission, id, &input).await?;
    let body = json!({
        R::ID: record.resource_id,
        "jobId": record.id,
        "status": record.status().name(),
    });
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}
